"""Tasks: sources of problems, and graders of answers. One file per task."""

from seal_env.registry import Registry
from seal_env.tasks.base import SPLITS, Problem, Question, Task

TASKS = Registry(
    "task",
    {
        "multiple-choice": "seal_env.tasks.multiple_choice:MultipleChoice",
        "biographies": "seal_env.tasks.biographies.task:Biographies",
        "documents": "seal_env.tasks.documents:Documents",
        "few-shot": "seal_env.tasks.grids.few_shot:few_shot",
        "squad": "seal_env.tasks.squad:Squad",
    },
)

__all__ = ["SPLITS", "TASKS", "Problem", "Question", "Task"]
