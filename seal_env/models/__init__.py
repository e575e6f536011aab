"""The embedded models and the scripts that made them."""
