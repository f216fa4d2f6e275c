// What a JavaScript program does with an agent: makes it, asks it, acts for it, sees it fail.
// Prints what it saw as one JSON object; the test compares. TRANSPORT=http1 asks for HTTP/1.1; without it the
// clients are as they come, and the runtime's speaks HTTP/2.

import * as control from "@aws-sdk/client-bedrock-agent";
import * as runtime from "@aws-sdk/client-bedrock-agent-runtime";
import { NodeHttpHandler } from "@smithy/node-http-handler";

const transport = process.env.TRANSPORT ?? "default";
const settings = transport === "http1" ? { requestHandler: new NodeHttpHandler() } : {};
const agents = new control.BedrockAgentClient({ maxAttempts: 1, ...settings });
const invoker = new runtime.BedrockAgentRuntimeClient({ maxAttempts: 1, ...settings });
const decoder = new TextDecoder();

async function until(status, look) {
  for (let tries = 0; tries < 50; tries++) {
    const seen = await look();
    if (seen === status) return seen;
  }
  throw new Error(`never ${status}`);
}

async function make() {
  const { agent } = await agents.send(new control.CreateAgentCommand({
    agentName: `javascript-${transport}`,
    foundationModel: "test.javascript",
    instruction: "You answer questions about the stock of a warehouse, with the tools that you have.",
    agentResourceRoleArn: "arn:aws:iam::123456789012:role/agent",
    tags: { team: "stock" },
  }));
  const agentId = agent.agentId;
  const sku = { type: "string", description: "the product's SKU", required: true };
  const groups = [
    {
      actionGroupName: "inventory",
      actionGroupExecutor: { lambda: "arn:aws:lambda:us-east-1:123456789012:function:inventory" },
      functionSchema: { functions: [{ name: "check", description: "units in stock", parameters: { sku } }] },
    },
    {
      actionGroupName: "orders",
      actionGroupExecutor: { customControl: "RETURN_CONTROL" },
      functionSchema: {
        functions: [{ name: "reserve", parameters: { sku, quantity: { type: "integer", required: true } } }],
      },
    },
  ];
  for (const group of groups) {
    await agents.send(new control.CreateAgentActionGroupCommand({ agentId, agentVersion: "DRAFT", ...group }));
  }
  await agents.send(new control.PrepareAgentCommand({ agentId }));
  const status = await until("PREPARED", async () =>
    (await agents.send(new control.GetAgentCommand({ agentId }))).agent.agentStatus);
  const { agentAlias } = await agents.send(new control.CreateAgentAliasCommand({ agentId, agentAliasName: "PROD" }));
  const names = [];
  for await (const page of control.paginateListAgentActionGroups({ client: agents, pageSize: 1 },
    { agentId, agentVersion: "DRAFT" })) {
    names.push(...page.actionGroupSummaries.map((group) => group.actionGroupName));
  }
  const { tags } = await agents.send(new control.ListTagsForResourceCommand({ resourceArn: agent.agentArn }));
  return { ids: { agentId, agentAliasId: agentAlias.agentAliasId }, status, names: names.sort(), tags,
    createdAt: agent.createdAt };
}

async function read(response) {
  const seen = { kinds: [], chunks: [], traces: [], control: null };
  for await (const event of response.completion) {
    const [kind] = Object.keys(event);
    seen.kinds.push(kind);
    if (event.chunk) seen.chunks.push(decoder.decode(event.chunk.bytes));
    if (event.trace) seen.traces.push(...Object.keys(event.trace.trace.orchestrationTrace ?? event.trace.trace));
    if (event.returnControl) seen.control = event.returnControl;
  }
  return seen;
}

function ask(ids, members) {
  return invoker.send(new runtime.InvokeAgentCommand({ ...ids, sessionId: "session-789", enableTrace: true, ...members }));
}

async function complaint(work) {
  try {
    await work();
  } catch (error) {
    return { name: error.name, message: error.message, status: error.$metadata?.httpStatusCode ?? null };
  }
  return null;
}

const { ids, ...made } = await make();
const response = await ask(ids, {
  inputText: "Check inventory for SKU-55",
  streamingConfigurations: { streamFinalResponse: true },
});
const head = { sessionId: response.sessionId, contentType: response.contentType };
const answered = await read(response);
const returned = await read(await ask(ids, { inputText: "Reserve 5 of SKU-55" }));
const { actionGroup, function: name } = returned.control.invocationInputs[0].functionInvocationInput;
const resumed = await read(await ask(ids, {
  sessionState: {
    invocationId: returned.control.invocationId,
    returnControlInvocationResults: [
      { functionResult: { actionGroup, function: name, responseBody: { TEXT: { body: "reservation R-1" } } } },
    ],
  },
}));
const failed = await complaint(async () => read(await ask(ids, { inputText: "Check inventory for BROKEN" })));
const unknown = await complaint(() => ask({ ...ids, agentId: "NOSUCHAGNT" }, { inputText: "Hello" }));
const invalid = await complaint(() => agents.send(new control.CreateAgentCommand({ agentName: "no spaces, please" })));

console.log(JSON.stringify({ made, head, answered, returned, resumed, failed, unknown, invalid }));
