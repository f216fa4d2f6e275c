"""The rows of the scale table, one file each: `measure(stage)` gives figures, `sections(figures)` tells them."""
