"""`seal-env tune`: settings of the inner loop for a model, found by successive halving."""
