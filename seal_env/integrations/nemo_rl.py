"""NeMo-RL: `SelfEdit-v0` as an `EnvironmentInterface`, a Ray actor.

Example::

    from nemo_rl.environments.utils import register_env

    register_env("self_edit", "seal_env.integrations.nemo_rl.SelfEditActor")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from seal_env.integrations.prompts import text_of
from seal_env.integrations.shared import needs, shared_sessions

with needs("nemo-rl", "install NVIDIA-NeMo/RL from its repository"):
    import ray
    from nemo_rl.environments.interfaces import EnvironmentInterface, EnvironmentReturn


class SelfEditEnvironment(EnvironmentInterface):
    """Rewards of a whole batch, in shared passes.

    The metadata of a rollout is a mapping with ``problem``, an index in the split.

    Args:
        cfg: The environment's part of the trainer's ``env`` section: ``env_config``, fields of
            `seal_env.EnvConfig` with a horizon of 1, and ``seed``, of all inner loops.
    """

    def __init__(self, cfg: Mapping[str, Any] | None = None) -> None:
        cfg = cfg or {}
        self.sessions = shared_sessions(cfg.get("env_config") or {})
        self.seed = cfg.get("seed", 0)

    def step(
        self, message_log_batch: Sequence[Sequence[dict[str, Any]]], metadata: Sequence[Any]
    ) -> EnvironmentReturn:
        """Carries out the last message of each log."""
        texts = [text_of(log) for log in message_log_batch]
        steps = self.sessions.steps([one["problem"] for one in metadata], texts, self.seed)
        return EnvironmentReturn(
            observations=[
                {"role": "environment", "content": step.info["error"] or ""} for step in steps
            ],
            metadata=[None] * len(steps),
            next_stop_strings=[None] * len(steps),
            rewards=torch.tensor([step.reward for step in steps], dtype=torch.float32),
            terminateds=torch.tensor([step.terminated for step in steps], dtype=torch.bool),
        )

    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict[str, float]]:
        """The batch as it is, and the mean reward of its rollouts."""
        return batch, {"self_edit_reward": float(batch["total_reward"].mean())}

    def shutdown(self) -> None:
        """Does nothing: other environments of the process may share the sessions."""


SelfEditActor = ray.remote(SelfEditEnvironment)
"""The actor that `nemo_rl.environments.utils.create_env` starts."""
