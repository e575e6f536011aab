"""What a self-edit is once it has been read, and what reads it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymnasium import spaces

from seal_env.spaces import LONGEST_TEXT, AnyText
from seal_env.tasks.base import Problem, Task

if TYPE_CHECKING:
    from seal_env.engine.learner import Learner
    from seal_env.updates.base import Update


@dataclass(frozen=True)
class SelfEdit:
    """A parsed self-edit: either an update of the learner, or why there is none."""

    update: Update[Any] | None = None
    """The change of the learner; None if there is an error."""
    truncated: bool = False
    """Whether a cap cut something off."""
    error: str | None = None
    """Why the action is no self-edit, in one line; None if it is one."""

    def __post_init__(self) -> None:
        if (self.update is None) == (self.error is None):
            raise ValueError("a self-edit holds either an update or an error")


class EditLanguage(ABC):
    """A way of writing self-edits: any action in, plain data out."""

    default_prompt: str | None = None
    """Name of the prompt (see `seal_env.prompts`) that a policy uses unless told otherwise; None
    for the task's."""
    menu: object = None
    """Menu of a policy that chooses instead of writing: a `seal_env.menus.base.Menu`, its name in
    `MENUS` or "package.module:Name"; None for the task's."""

    @abstractmethod
    def parse(self, action: Any, problem: Problem) -> SelfEdit:
        """Reads an action as a self-edit for a problem.

        Never raises: an action that is no self-edit comes back with `SelfEdit.error` set.
        """

    def bind(  # noqa: B027 (most languages need not know)
        self, learner: Learner, task: Task | None = None
    ) -> None:
        """Tells the language what it is used for, before anything is parsed.

        For languages that name parts of the model or tools of the task.

        Args:
            learner: The model that will be changed.
            task: Where problems come from, if that is known.

        Raises:
            UserError: The language's settings do not go with these.
        """

    def example(self, problem: Problem) -> str | None:
        """An action that is right for a problem, for tests and for readers; None if none is made.

        Args:
            problem: Its held-out questions are not looked at.
        """
        return None

    def pattern(self) -> str | None:
        """A regular expression of right self-edits, None if there is none.

        By it a policy can be held to write nothing else, see `seal_env.constrained`.
        """
        return None

    def action_space(self) -> spaces.Space[Any]:
        """The space of actions: by default any text."""
        return AnyText(LONGEST_TEXT)
