"""Wrappers between the environment's text and what other libraries need."""

from seal_env.wrappers.choices import ChoiceActions, ChoiceView
from seal_env.wrappers.menus import MENUS, Choice, Menu

__all__ = ["MENUS", "Choice", "ChoiceActions", "ChoiceView", "Menu"]
