"""What survives between calls: sessions with their history, and the journal of every turn."""
