"""Test your agents in-process: a real engine, a scripted model, recorded functions, real boto3 clients.

    with LocalServer(model=ScriptedModel([call("inventory__check", {"sku": "SKU-55"}), "42 in stock"])) as server:
        server.client("bedrock-agent-runtime").invoke_agent(...)

Nothing listens on a port and nothing is mocked: the clients' requests travel through the same
application that `outcrop serve` runs. The pytest fixtures are in `testing.plugin`.
"""

from outcrop.models.providers.scripted import ScriptedModel, call
from outcrop.testing.functions import RecordedFunctions
from outcrop.testing.local import LocalServer

__all__ = ["LocalServer", "RecordedFunctions", "ScriptedModel", "call"]
