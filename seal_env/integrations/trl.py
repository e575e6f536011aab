"""TRL: the environment as a reward function, in this process or behind a server.

Example::

    reward = SelfEditReward(EnvConfig())
    trainer = GRPOTrainer(policy, reward, settings, reward.dataset(range(256)), None, tokenizer)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seal_env.batcher import BatcherConfig
from seal_env.config import EnvConfig
from seal_env.integrations.prompts import prompt_of, text_of
from seal_env.sessions import Sessions


class SelfEditReward:
    """A function for TRL's ``reward_funcs``: rewards of a whole batch, in shared passes.

    The data set has the columns ``prompt`` and ``problem``; see `dataset`.

    Args:
        env: Settings of the environment, with a horizon of 1.
        batching: Settings of the batcher.
        seed: Seed of all inner loops, so that the self-edits of a group are compared on common
            random numbers.
    """

    __name__ = "self_edit"

    def __init__(
        self, env: EnvConfig, batching: BatcherConfig | None = None, seed: int = 0
    ) -> None:
        self.sessions = Sessions(env, batching)
        self.seed = seed

    def dataset(self, problems: Iterable[int], prompt: str | None = None) -> Any:
        """A `datasets.Dataset` of problems, by their indices in the split."""
        from datasets import Dataset

        rows = [{"prompt": prompt_of(self.sessions, p, prompt), "problem": p} for p in problems]
        return Dataset.from_list(rows)

    def __call__(self, completions: Sequence[Any], problem: Sequence[int], **_: Any) -> list[float]:
        """Rewards of completions."""
        texts = [text_of(completion) for completion in completions]
        return [step.reward for step in self.sessions.steps(problem, texts, self.seed)]


class ServerReward:
    """The same through an OpenEnv server (`seal-env serve`), with one session per completion.

    Args:
        base_url: Address of the server.
        headers: HTTP headers, such as the token's.
        seed: Seed of all inner loops.
    """

    __name__ = "self_edit"

    def __init__(
        self, base_url: str, headers: Mapping[str, str] | None = None, seed: int = 0
    ) -> None:
        self.base_url, self.headers, self.seed = base_url, dict(headers or {}), seed

    def __call__(self, completions: Sequence[Any], problem: Sequence[int], **_: Any) -> list[float]:
        """Rewards of completions."""
        return asyncio.run(self._rewards([text_of(one) for one in completions], problem))

    async def _rewards(self, texts: Sequence[str], problems: Sequence[int]) -> list[float]:
        from seal_env.serving.client import SelfEditClient
        from seal_env.serving.models import SelfEditAction

        async def reward(text: str, problem: int) -> float:
            client = SelfEditClient(
                base_url=self.base_url, headers=self.headers, message_timeout_s=3600.0
            )
            async with client:
                await client.reset(seed=self.seed, problem=problem)
                return float((await client.step(SelfEditAction(text=text))).reward)

        pairs = zip(texts, problems, strict=True)
        return list(await asyncio.gather(*(reward(text, problem) for text, problem in pairs)))
