"""Agent `rest-em`: filtered behavior cloning on what was rewarded.

ReST-EM (Singh et al. 2023, arXiv 2312.06585) as SEAL uses it (arXiv 2506.10943, section 3.1):
sample several self-edits per problem, keep the best, finetune the policy on them, repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seal_agents.algorithms.prompted import Prompted
from seal_agents.base import Experience
from seal_agents.policies.options import PolicyOptions
from seal_env.engine.config import FinetuneConfig
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.rewards import REWARDS
from seal_env.rewards.base import uses_labels


@dataclass(frozen=True)
class RestEMOptions(PolicyOptions):
    """Options of ReST-EM."""

    keep: int = 1
    """Self-edits kept per problem."""
    finetune: FinetuneConfig = field(
        default_factory=lambda: FinetuneConfig(1e-3, epochs=4, batch_size=8)
    )
    """Finetuning of the policy on the kept self-edits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep < 1:
            raise UserError(f"keep {self.keep}: at least 1 self-edit per problem is kept")


class RestEM(Prompted[RestEMOptions]):
    """Behavioral cloning of the best self-edits per problem."""

    Options = RestEMOptions
    trainable = True

    def learn(self, experiences: Sequence[Experience]) -> Mapping[str, float]:
        """Filters the self-edits of a round and finetunes the policy on the kept ones."""
        kept = best(experiences, self.options.keep)
        problems = len({e.group for e in experiences})
        numbers = {
            "kept": float(len(kept)),
            "kept_reward": sum(e.reward for e in kept) / max(len(kept), 1),
            "problems_with_a_kept_edit": len({e.group for e in kept}) / max(problems, 1),
        }
        if kept:
            numbers["loss"] = self.policy.imitate(
                kept,
                self.options.finetune,
                stable_hash(self.context.seed, *sorted({e.group for e in kept})),
            )
        return numbers


def best(experiences: Sequence[Experience], keep: int) -> list[Experience]:
    """The best self-edits of each problem.

    By reward; ties go to the higher log-likelihood of the gold answers, then to the earlier
    sample. Where the reward looks at no gold answers, its ties do not, either. A self-edit is never
    kept if it could not be carried out, or if doing nothing would have ranked as high.
    """
    groups: dict[str, list[Experience]] = {}
    for experience in experiences:
        groups.setdefault(experience.group, []).append(experience)
    kept = []
    for group in groups.values():
        better = [e for e in group if not e.info["error"] and _rank(e) > _rank_of_nothing(e)]
        better.sort(key=_rank, reverse=True)
        kept += better[:keep]
    return kept


def _rank(experience: Experience) -> tuple[float, float]:
    info = experience.info
    return experience.reward, info["log_likelihood"] if _uses_labels(info) else 0.0


def _rank_of_nothing(experience: Experience) -> tuple[float, float]:
    info = experience.info
    return info["reward_before"], info["log_likelihood_before"] if _uses_labels(info) else 0.0


def _uses_labels(info: Mapping[str, Any]) -> bool:
    return any(uses_labels(REWARDS.load(name)) for name in info["terms"])
