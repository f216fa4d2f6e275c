"""The command `outcrop`."""
