"""The open engine that runs Amazon Bedrock Agents code on any model."""
