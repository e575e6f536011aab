"""Updates: the ways in which a self-edit can change the learner. One file per kind.

There is no registry: a self-edit language makes updates, so a kind of its own comes with the
language that makes it.
"""

from seal_env.updates.base import DirectUpdate, PreparedUpdate, Update, UpdateContext, UpdateResult
from seal_env.updates.finetuning import Finetuning, Training

__all__ = [
    "DirectUpdate",
    "Finetuning",
    "PreparedUpdate",
    "Training",
    "Update",
    "UpdateContext",
    "UpdateResult",
]
