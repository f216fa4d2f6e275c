"""Language models behind one streaming method: Converse in, Converse events out."""
