"""The operations of service `outcrop`, one file per resource; `models/` describes them, for us and for clients."""
