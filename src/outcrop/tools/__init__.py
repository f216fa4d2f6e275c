"""Action groups as tools: their schemas, the names the model sees, and what carries them out."""
