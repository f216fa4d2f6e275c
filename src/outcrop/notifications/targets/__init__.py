"""One file per kind of notification target; each has `target(settings, means) -> Target`."""
