"""Grid puzzles: `few-shot` on ARC files, and `tiny-grids`."""
