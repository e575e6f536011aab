"""Menus: a few choices from which a self-edit is written."""
