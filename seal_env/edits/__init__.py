"""Self-edit languages: text in, plain data out. One file a language."""

from typing import Literal

from seal_env.edits.base import EditLanguage, SelfEdit
from seal_env.registry import Registry

EDITS = Registry(
    "self-edit language",
    {
        "training-data": "seal_env.edits.training_data:TrainingData",
        "directives": "seal_env.edits.directives:Directives",
        "weights": "seal_env.edits.weights:Weights",
        "full": "seal_env.edits.full:Full",
        "ia3": "seal_env.edits.ia3:IA3",
        "subspace": "seal_env.edits.subspace:Subspace",
    },
    aliases={"gradient": "subspace"},
)

__all__ = ["EDITS", "EditLanguage", "SelfEdit"]

PassagePlace = Literal["last", "first", "none"]
"""Where a language trains on the passage itself: after the self-edit, before it, or not at all."""

PairForm = Literal["text", "asked"]
"""How a language trains on a question with its answer: as a text like any other, or asked as the
learner is asked, so that the answer alone is learned."""
