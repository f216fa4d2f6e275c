"""One file per way to decide the next step; each has `strategy(definition) -> Strategy`."""
