"""Agent `base`: the untrained model, prompted to write a self-edit.

`base:PROMPT` uses another prompt than the task's own (`seal_env.prompts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from seal_agents.base import Action, Agent, AgentContext, Observation
from seal_agents.policies.options import PolicyOptions

if TYPE_CHECKING:
    from seal_agents.policies.language_model import Policy


PolicyOptionsT = TypeVar("PolicyOptionsT", bound=PolicyOptions)


class Prompted(Agent[PolicyOptionsT]):
    """Writes self-edits without learning (SEAL's "base model" rows)."""

    Options = PolicyOptions
    takes = "PROMPT"
    trainable = False

    def __init__(self, context: AgentContext) -> None:
        from seal_agents.policies.language_model import (
            Policy,  # here, so that options are known without torch
        )

        super().__init__(context)
        self.policy: Policy = Policy(context, self.options, self.trainable)

    def act(self, observations: Sequence[Observation], seeds: Sequence[int]) -> Sequence[Action]:
        """Samples one self-edit per observation."""
        return self.policy.write(observations, seeds)

    def truncated(self, observation: Observation) -> int:
        """Number of context tokens that were cut from the prompt."""
        return self.policy.tokens.read(str(observation["context"])).cut

    def save(self, folder: Path) -> None:
        """Writes the policy's adapter, if it has one."""
        self.policy.save(folder)

    def load(self, folder: Path) -> None:
        """Reads a policy's adapter; the policy writes with it from then on."""
        self.policy.load(folder)
