"""One file per way to carry out a tool call; each has `executor(binding) -> Executor`."""
