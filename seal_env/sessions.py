"""Concurrent episodes, each driven by itself, all carried out in shared passes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gymnasium.utils.seeding import np_random

from seal_env.batcher import Batcher, BatcherConfig
from seal_env.config import EnvConfig
from seal_env.episodes import Episode, Episodes, Step
from seal_env.errors import UserError
from seal_env.seeding import Source, check_seed, inner_seed


class NoEpisodeError(UserError, RuntimeError):
    """A step where no episode is running."""


@dataclass(frozen=True)
class _Request:
    """One step that a session asks for."""

    episode: Episode
    """The episode before it; not changed."""
    action: Any
    """The self-edit."""


class Sessions:
    """Sessions of one environment, whose steps share passes of the inner loop.

    Rewards and infos are those of `SelfEditEnv` and `SelfEditVectorEnv`, to the bit, whichever
    requests meet in a pass. For trainers that ask for one reward at a time.

    Args:
        config: Settings of the environment.
        batching: Settings of the batcher; None for the defaults.

    Example:
        >>> from seal_env import EnvConfig
        >>> from seal_env.sessions import Sessions
        >>> with Sessions(EnvConfig()) as sessions:
        ...     session = sessions.open()
        ...     context, info = session.reset(seed=0, problems=7)
        ...     context, step = session.step(context)
        ...     again = sessions.one_step(7, context, seed=0)
        >>> step.reward == again.reward, step.terminated
        (True, True)
    """

    def __init__(self, config: EnvConfig, batching: BatcherConfig | None = None) -> None:
        self.config = config
        self.episodes = Episodes(config, 0, observe_final=False)
        self.batcher: Batcher[_Request, tuple[Episode, Step]] = Batcher(self._run, batching)
        self.lock = threading.Lock()
        """Held while problems are drawn or read, which tasks need not do in several threads."""

    def open(self) -> Session:
        """A new session."""
        return Session(self)

    def one_step(self, problem: Any, action: Any, seed: int = 0) -> Step:
        """The step of an episode of one problem, for threads.

        Args:
            problem: A `Problem`, or its index in the split.
            action: The self-edit.
            seed: Seed of the episode.
        """
        session = self.open()
        session.reset(seed, problem)
        return session.step(action)[1]

    async def one_step_async(self, problem: Any, action: Any, seed: int = 0) -> Step:
        """`one_step`, for coroutines."""
        session = self.open()
        session.reset(seed, problem)
        return (await session.step_async(action))[1]

    def steps(self, problems: Sequence[Any], actions: Sequence[Any], seed: int = 0) -> list[Step]:
        """`one_step` of many problems at once, in as few passes as `max_batch` allows."""
        sessions = [self.open() for _ in actions]
        for session, problem in zip(sessions, problems, strict=True):
            session.reset(seed, problem)
        futures = [
            self.batcher.submit(session.request(action))
            for session, action in zip(sessions, actions, strict=True)
        ]
        return [future.result(self.batcher.config.timeout)[1] for future in futures]

    def close(self) -> None:
        """Ends the worker; steps that wait are cancelled."""
        self.batcher.close()

    def __enter__(self) -> Sessions:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, requests: Sequence[_Request]) -> list[tuple[Episode, Step]]:
        """Steps in one pass, on copies of their episodes: a step that fails changes none."""
        episodes = [replace(request.episode) for request in requests]
        self.episodes.running = list(episodes)
        steps = self.episodes.step([request.action for request in requests])
        return list(zip(episodes, steps, strict=True))


class Session:
    """One episode after the other: a `SelfEditEnv` whose steps share passes with other sessions.

    Its observations are contexts alone. A step that fails, times out or is cancelled leaves the
    episode as it was. One step at a time.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._source: Source | None = None
        self.episode: Episode | None = None
        """The running episode; None before the first `reset`."""

    def reset(self, seed: int | None = None, problems: Any = None) -> tuple[str, dict[str, Any]]:
        """Starts an episode on the untouched learner; returns its first context, and an info.

        Args:
            seed: As in `SelfEditEnv`.
            problems: As in its ``options["problems"]``.
        """
        seed = check_seed(seed)
        if seed is not None:
            self._source = Source.of(seed)
        elif self._source is None:
            random, drawn = np_random(None)
            self._source = Source(random, inner_seed(drawn, random))
        episodes = self._sessions.episodes
        with self._sessions.lock:
            if problems is None:
                stream = episodes.draw(self._source.random)
            else:
                stream = episodes.resolve(problems)
        self.episode = Episode(stream, self._source.inner)
        return self.context, {"problem": stream[0].id, "title": stream[0].title}

    def step(self, action: Any) -> tuple[str, Step]:
        """Carries out a self-edit, for threads; returns the context that follows, and the step.

        Raises:
            UserError: The action is no text where the language reads texts.
            NoEpisodeError: There is no episode, or it is over.
            TimeoutError: The batcher's timeout has passed.
        """
        self.episode, step = self._sessions.batcher.call(self.request(action))
        return self.context, step

    async def step_async(self, action: Any) -> tuple[str, Step]:
        """`step`, for coroutines."""
        self.episode, step = await self._sessions.batcher.ask(self.request(action))
        return self.context, step

    @property
    def context(self) -> str:
        """The text that the policy reads: of the next problem, or of the last one."""
        episode = self._running()
        problem = episode.problems[min(episode.step, len(episode.problems) - 1)]
        with self._sessions.lock:
            return self._sessions.episodes.task.reads(problem)

    def request(self, action: Any) -> _Request:
        """What the batcher is asked for a step; changes nothing.

        Raises:
            NoEpisodeError: There is no episode, or it is over.
        """
        episode = self._running()
        if episode.step == len(episode.problems):
            raise NoEpisodeError("the episode is over: reset before the next step")
        return _Request(episode, action)

    def _running(self) -> Episode:
        if self.episode is None:
            raise NoEpisodeError("there is no episode: reset before the first step")
        return self.episode
