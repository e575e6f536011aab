"""Reward term `shift`: a penalty for updates that make the learner worse at everything else."""

from __future__ import annotations

from dataclasses import dataclass

from seal_env.checks import check_fields
from seal_env.errors import UserError
from seal_env.probes.drift import LARGEST, TextDrift
from seal_env.probes.texts import read_texts
from seal_env.rewards.base import RewardInputs, TermValue


@dataclass
class Shift:
    """Increase of the loss on general text beyond a margin, in nats per token, 0 to `most`.

    ``shift = min(most, max(0, loss_new - loss_old - margin))``, where a loss is the mean negative
    log-probability per token of texts that have nothing to do with the passage. The margin is what
    an honest self-edit costs (docs/rewards.md has the calibration), so an honest one pays next to
    nothing, and in ``accuracy - shift`` one that ruins the learner pays in full. A learner whose
    loss is not finite counts as `most`. Source: this project. Parts: `loss_before` and
    `loss_after`.

    Raises:
        UserError: The file cannot be used, or a number is out of bounds.
    """

    margin: float = 1.0
    """Increase that costs nothing, in nats per token."""
    texts: str | None = None
    """A UTF-8 file with texts of one's own, with empty lines between them; None for those that
    suit the model (`seal_env.probes.texts`)."""
    most: float = 10.0
    """The largest value, in nats per token."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.margin <= LARGEST:
            raise UserError(f"margin {self.margin}: must be 0 to {LARGEST:g}")
        if not 0 < self.most <= LARGEST:
            raise UserError(f"most {self.most}: must be above 0 and at most {LARGEST:g}")
        self._drift = TextDrift(() if self.texts is None else read_texts(self.texts))
        self.probes = (self._drift,)

    def __call__(self, measured: RewardInputs) -> TermValue:
        """See the class."""
        drift = measured.result(self._drift)
        excess = drift.new_loss - drift.old_loss - self.margin
        parts = {"loss_before": drift.old_loss, "loss_after": drift.new_loss}
        return TermValue(min(max(excess, 0.0), self.most), parts)
