"""The operations of service `bedrock-agent`, one file per resource."""
