"""One OpenEnv session around one session of `seal_env.sessions`."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import EnvironmentMetadata, State

from seal_env import __version__
from seal_env.errors import UserError
from seal_env.serving.models import SelfEditAction, SelfEditObservation
from seal_env.sessions import Sessions
from seal_env.tasks.base import problem_at

NAME = "seal-env"
"""Name of the environment in OpenEnv's terms."""
LONGEST_LIST = 100
"""Most problems that one request lists."""


class SelfEditEnvironment(Environment[SelfEditAction, SelfEditObservation, State]):
    """Episodes of one client, in passes shared with those of all others.

    Args:
        sessions: The environment that all clients share.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, sessions: Sessions) -> None:
        super().__init__()
        self._sessions = sessions
        self._session = sessions.open()
        self._state = State()

    async def reset_async(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        problem: int | list[int] | None = None,
        **_: Any,
    ) -> SelfEditObservation:
        """Starts an episode.

        Args:
            seed: As in `SelfEditEnv`.
            episode_id: Name of the episode; by default one of its own.
            problem: Index in the split, with a `horizon` above 1 a list of these; by default the
                problem is drawn.
        """
        state = State(episode_id=str(uuid4()) if episode_id is None else episode_id)
        context, info = await asyncio.to_thread(self._session.reset, seed, problem)
        self._state = state
        return SelfEditObservation(context=context, metadata=info)

    async def step_async(
        self, action: SelfEditAction, timeout_s: float | None = None, **_: Any
    ) -> SelfEditObservation:
        """Carries out a self-edit.

        Args:
            action: The self-edit.
            timeout_s: Seconds until a `TimeoutError`, which leaves the episode as it was.
        """
        step = self._session.step_async(action.text)
        context, done = await asyncio.wait_for(step, timeout_s)
        self._state.step_count += 1
        return SelfEditObservation(
            context=context, reward=done.reward, done=done.terminated, metadata=done.info
        )

    def reset(self, *arguments: Any, **options: Any) -> SelfEditObservation:
        """`reset_async`, for callers without an event loop."""
        return asyncio.run(self.reset_async(*arguments, **options))

    def step(self, *arguments: Any, **options: Any) -> SelfEditObservation:
        """`step_async`, for callers without an event loop."""
        return asyncio.run(self.step_async(*arguments, **options))

    @property
    def state(self) -> State:
        """Name of the episode, and its number of steps."""
        return self._state

    def get_metadata(self) -> EnvironmentMetadata:
        """Name, description and version."""
        config = self._sessions.config
        return EnvironmentMetadata(
            name=NAME,
            description=f"SelfEdit-v0: the task {config.task}, the learner {config.model}, "
            f"self-edits in the language {config.edit}, the reward {config.reward}",
            version=__version__,
        )

    def list_splits(self) -> list[str]:
        """The split that is served."""
        return [self._sessions.config.split]

    def num_tasks(self, split: str) -> int | None:
        """Number of problems; None for an endless split."""
        return self._sessions.episodes.task.size(self._served(split))

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        """Description of a problem; `reset(problem=index)` starts an episode of it."""
        with self._sessions.lock:
            problem = problem_at(self._sessions.episodes.task, self._served(split), index)
        return {"index": index, "id": problem.id, "title": problem.title}

    def get_task_range(
        self, split: str, start: int | None = None, stop: int | None = None
    ) -> list[dict[str, Any]]:
        """Descriptions of the problems from `start` up to `stop`, at most `LONGEST_LIST`."""
        size = self.num_tasks(split)
        first = max(start or 0, 0)
        last = first + LONGEST_LIST if stop is None else min(stop, first + LONGEST_LIST)
        end = last if size is None else min(last, size)
        return [self.get_task(split, index) for index in range(first, end)]

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        """Descriptions of the first problems, at most `LONGEST_LIST`."""
        return self.get_task_range(split)

    def _served(self, split: str) -> str:
        if split != self._sessions.config.split:
            raise UserError(f"split {split!r}: this server has {self._sessions.config.split!r}")
        return split
