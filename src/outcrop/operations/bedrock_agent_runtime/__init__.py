"""The operations of service `bedrock-agent-runtime`, one file per resource."""
