"""What the model is told, and what its words mean: prompt texts and the parsers of replies."""
