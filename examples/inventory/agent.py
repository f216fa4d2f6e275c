"""The stock agent, created with plain boto3: the same calls that create it at AWS."""

from pathlib import Path

HERE = Path(__file__).parent
ROLE = "arn:aws:iam::123456789012:role/stock-agent"
LAMBDA = "arn:aws:lambda:us-east-1:123456789012:function:"
SKU = {"type": "string", "description": "The SKU of the product, for example SKU-55", "required": True}


def create(client, name="stock"):
    """Create, prepare and publish the agent; its id and its alias's id."""
    agent_id = client.create_agent(
        agentName=name,
        foundationModel="anthropic.claude-3-haiku-20240307-v1:0",
        instruction="You help the people in a warehouse: look up stock and suppliers, order more, reserve units.",
        agentResourceRoleArn=ROLE,
    )["agent"]["agentId"]
    for group in action_groups():
        client.create_agent_action_group(agentId=agent_id, agentVersion="DRAFT", **group)
    client.prepare_agent(agentId=agent_id)
    alias = client.create_agent_alias(agentId=agent_id, agentAliasName="PROD")["agentAlias"]
    return agent_id, alias["agentAliasId"]


def action_groups():
    """What the agent can do: two Lambda functions, and one action that the caller carries out itself."""
    return [
        {
            "actionGroupName": "inventory",
            "description": "What is in stock",
            "actionGroupExecutor": {"lambda": LAMBDA + "inventory"},
            "functionSchema": {
                "functions": [
                    {
                        "name": "check_inventory",
                        "description": "Check the inventory of a product: how many units are in stock, and where.",
                        "parameters": {"sku": SKU},
                    },
                    {
                        "name": "list_low_stock",
                        "description": "List the products that are low on stock and should be reordered.",
                    },
                ]
            },
        },
        {
            "actionGroupName": "suppliers",
            "description": "Who supplies products, and ordering from them",
            "actionGroupExecutor": {"lambda": LAMBDA + "suppliers"},
            "apiSchema": {"payload": (HERE / "suppliers.yaml").read_text(encoding="utf-8")},
        },
        {
            "actionGroupName": "reservations",
            "description": "Reserving stock; the calling program does it itself",
            "actionGroupExecutor": {"customControl": "RETURN_CONTROL"},
            "functionSchema": {
                "functions": [
                    {
                        "name": "reserve_stock",
                        "description": "Reserve units of a product so that nobody else can sell them.",
                        "parameters": {
                            "sku": SKU,
                            "quantity": {"type": "integer", "description": "How many units", "required": True},
                        },
                    }
                ]
            },
        },
    ]
