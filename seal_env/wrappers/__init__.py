"""Wrappers that convert the environment's texts for other libraries."""

from seal_env.menus.base import MENUS, Choice, Menu
from seal_env.wrappers.choices import ChoiceActions, ChoiceView
from seal_env.wrappers.curriculum import ShortFirst, VectorShortFirst
from seal_env.wrappers.scalar_info import ScalarInfo
from seal_env.wrappers.vector_choices import VectorChoiceActions

__all__ = [
    "MENUS",
    "Choice",
    "ChoiceActions",
    "ChoiceView",
    "Menu",
    "ScalarInfo",
    "ShortFirst",
    "VectorChoiceActions",
    "VectorShortFirst",
]
