"""TRL's ``environment_factory``: a chat model hands in its self-edit by a tool call.

Example::

    factory = partial(SelfEditToolEnv, Sessions(EnvConfig()))
    trainer = GRPOTrainer(policy, args=settings, train_dataset=rows, environment_factory=factory)
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from seal_env.integrations.prompts import prompt_of
from seal_env.sessions import Session, Sessions

ASK = "Hand in what you write by one call of the tool `write`."
"""What the prompt says beside the environment's own text."""


def rows(problems: Iterable[int]) -> Any:
    """A `datasets.Dataset` of problems; `SelfEditToolEnv.reset` adds their prompts."""
    from datasets import Dataset

    empty = [{"role": "user", "content": ""}]
    return Dataset.from_list([{"prompt": empty, "problem": problem} for problem in problems])


class SelfEditToolEnv:
    """One rollout, whose public methods but `reset` and `get_reward` are tools of the model.

    A tool call only submits its self-edit. TRL asks for the rewards of a batch one after the other
    when all rollouts are complete; by then they have shared passes.

    Args:
        sessions: The environment, with a horizon of 1, that all rollouts share.
        seed: Seed of all inner loops, so that the self-edits of a group are compared on common
            random numbers.
    """

    def __init__(self, sessions: Sessions, seed: int = 0) -> None:
        self._sessions, self._seed = sessions, seed
        self._session: Session = sessions.open()
        self._submitted: Future[Any] | None = None

    def reset(self, problem: int, **_: Any) -> str:
        """Starts an episode; returns what is appended to the prompt.

        Args:
            problem: Index of the problem in the split, from the row of the data set.
        """
        self._session.reset(self._seed, problem)
        self._submitted = None
        return f"{prompt_of(self._sessions, problem)}\n\n{ASK}"

    def write(self, text: str) -> str:
        """Hands in the text to be trained on. Only the first call counts.

        Args:
            text: The text, with one statement per line.

        Returns:
            What became of it.
        """
        if self._submitted is not None:
            return "There is a text already."
        self._submitted = self._sessions.batcher.submit(self._session.request(text))
        return "Handed in."

    def get_reward(self) -> float:
        """Reward of the self-edit; of an empty one, where the model has called no tool."""
        if self._submitted is None:
            self.write("")
        assert self._submitted is not None
        _, step = self._submitted.result(self._sessions.batcher.config.timeout)
        return float(step.reward)
