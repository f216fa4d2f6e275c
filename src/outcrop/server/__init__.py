"""The front door: HTTP in, operations called, HTTP or an event stream out."""
