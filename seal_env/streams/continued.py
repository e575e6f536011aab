"""Stream `continue`: one adapter, trained on from self-edit to self-edit."""

from __future__ import annotations

from seal_env.streams.base import Stream


class Continue(Stream):
    """Each update starts from the state that the one before it left.

    Size and cost of a step do not grow. Kinds of update cannot follow one another. Source:
    sequential finetuning, the usual lower bound of continual learning.
    """
