"""Grid puzzles: task `few-shot` on ARC's files and on the embedded one-row grids."""
