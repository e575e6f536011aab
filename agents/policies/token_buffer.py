"""A rollout buffer of stable-baselines3 with one probability ratio a token."""

from __future__ import annotations

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.vec_env import VecNormalize


class TokenRolloutBuffer(RolloutBuffer):
    """Keeps the log-probability of every token, and gives the advantage of each.

    With it the unchanged `PPO.train` takes a ratio for each token: where it gets the
    log-probabilities of all tokens of a minibatch side by side, shape (T,), from the policy as
    well as from here, its ratios, its clipping and its means are over real tokens. A token's
    advantage is its self-edit's. Values and returns stay one a self-edit.
    """

    def reset(self) -> None:
        """Empties the buffer."""
        super().reset()
        # NaN where a text has ended already.
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
