"""A rollout buffer of stable-baselines3 with one probability ratio per token."""

from __future__ import annotations

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.vec_env import VecNormalize


class TokenRolloutBuffer(RolloutBuffer):
    """Stores log-probabilities per token and returns advantages per token.

    With it the unchanged `PPO.train` uses one ratio per token: buffer and policy both return the
    log-probabilities of all T tokens of a minibatch, shape (T,), so ratios, clipping and means are
    over real tokens. A token has the advantage of its self-edit. Values and returns are per
    self-edit.
    """

    def reset(self) -> None:
        """Empties the buffer."""
        super().reset()
        # NaN behind the end of a text.
        shape = (self.buffer_size, self.n_envs, self.action_dim)
        self.log_probs = np.full(shape, np.nan, dtype=np.float32)

    def _get_samples(
        self, batch_inds: np.ndarray, env: VecNormalize | None = None
    ) -> RolloutBufferSamples:
        samples = super()._get_samples(batch_inds, env)
        rows = samples.old_log_prob.view(len(batch_inds), self.action_dim)
        real = ~rows.isnan()
        return samples._replace(
            old_log_prob=rows[real],
            advantages=samples.advantages.repeat_interleave(real.sum(dim=1)),
        )
