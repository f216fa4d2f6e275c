"""What every part behind a seam must do, as checks to run over our parts and yours: one module per seam."""
