"""Wrappers between the environment's text and what other libraries need."""
