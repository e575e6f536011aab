"""Reward term `critic`: a separate model's prediction of the reward."""

from __future__ import annotations

from dataclasses import dataclass

from seal_env.checks import check_fields
from seal_env.critics.critic import check_critic
from seal_env.probes.critic_scores import CriticScores
from seal_env.rewards.base import RewardInputs


@dataclass
class PredictedReward:
    """Reward that a critic predicts from the context and the text of the self-edit.

    ``critic = b + sum over features of w * (h - m) / s``, where h is the mean last hidden state of
    the self-edit's tokens under the untouched learner, after the context, m and s its mean and
    standard deviation in the critic's training, and w and b a ridge regression of measured rewards
    (`seal_env.critics`). Unit: that of the reward that the critic was trained on. Without an
    update it is the mean reward of no self-edit in that training. It sees neither questions nor
    answers, and can be exploited: weigh it lightly beside a measured term. Source: the reward
    model of RLHF (Stiennon et al. 2020, arXiv 2009.01325, section 3.4); what becomes of a policy
    that is optimized against one is in Gao et al. 2022 (arXiv 2210.10760).

    Raises:
        UserError: The folder holds no critic.
    """

    path: str
    """Folder that ``seal-env train-critic`` wrote."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_critic(self.path)
        self._scores = CriticScores(self.path)
        self.probes = (self._scores,)

    def __call__(self, measured: RewardInputs) -> float:
        """See the class."""
        return measured.result(self._scores)
