"""One file per kind of model provider; each has `provider(binding) -> ModelProvider`."""
