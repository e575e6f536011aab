"""Menus: fixed sets of choices from which self-edits are written."""
