"""Files that tasks read."""
