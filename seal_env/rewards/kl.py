"""Reward term `kl`: how far the update moved the learner where it had no reason to."""

from __future__ import annotations

from dataclasses import dataclass

from seal_env.checks import check_fields
from seal_env.errors import UserError
from seal_env.probes.drift import LARGEST, TextDrift
from seal_env.probes.texts import read_texts
from seal_env.rewards.base import RewardInputs, TermValue


@dataclass
class KL:
    """KL divergence of the updated learner from the one before it, in nats per token, 0 to `most`.

    ``kl = mean over tokens of sum over w of p_new(w) * (log p_new(w) - log p_old(w))``, over the
    whole vocabulary, on texts that have nothing to do with the passage. In ``accuracy - 0.05 * kl``
    it makes a self-edit pay for answers that it buys by changing the learner everywhere. Source:
    the penalty of RLHF (Ziegler et al. 2019, arXiv 1909.08593, section 2), which is for a policy;
    here it is for the learner. A learner whose distributions are not finite counts as
    `most`. Part: `unbounded`, the divergence itself.

    Raises:
        UserError: The file cannot be used, or `most` is out of bounds.
    """

    texts: str | None = None
    """A UTF-8 file with texts of one's own, with empty lines between them; None for those that
    suit the model (`seal_env.probes.texts`)."""
    most: float = 10.0
    """The largest value, in nats per token."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.most <= LARGEST:
            raise UserError(f"most {self.most}: must be above 0 and at most {LARGEST:g}")
        self._drift = TextDrift(() if self.texts is None else read_texts(self.texts))
        self.probes = (self._drift,)

    def __call__(self, measured: RewardInputs) -> TermValue:
        """See the class."""
        kl = measured.result(self._drift).kl
        return TermValue(min(kl, self.most), {"unbounded": kl})
