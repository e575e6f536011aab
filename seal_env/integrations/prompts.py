"""What the adapters share: prompts of problems, and the text of a completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seal_env.config import default_prompt
from seal_env.prompts import render_prompt
from seal_env.sessions import Sessions


def prompt_of(sessions: Sessions, problem: int, prompt: str | None = None) -> str:
    """Text by which a language model is asked for a self-edit.

    Args:
        sessions: The environment.
        problem: Index of the problem in the split.
        prompt: A key of `seal_env.prompts.PROMPTS`; None for the default of task and language.
    """
    episodes = sessions.episodes
    context, _ = sessions.open().reset(0, [problem] * episodes.config.horizon)
    return render_prompt(prompt or default_prompt(episodes.task, episodes.language), "", context)


def text_of(completion: str | Sequence[dict[str, Any]]) -> str:
    """Text of a completion: itself, or the content of the last of its messages."""
    return completion if isinstance(completion, str) else str(completion[-1]["content"] or "")
