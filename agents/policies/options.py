"""Options of a language model as a policy: plain data, importable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from seal_agents.base import AgentOptions
from seal_env.errors import UserError

ADAPTER = "adapter"
"""Folder of a checkpoint with the policy's LoRA adapter in PEFT's format."""


@dataclass(frozen=True)
class PolicyOptions(AgentOptions):
    """Options of sampling from a language-model policy."""

    prompt: str | None = None
    """Name of the prompt (`seal_env.prompts`); None for the default of the language or the task."""
    temperature: float = 1.0
    """Sampling temperature (SEAL: 1.0); 0 decodes greedily."""
    max_new_tokens: int = 256
    """Maximum length of a self-edit, in tokens."""
    generation_batch_size: int = 256
    """Self-edits sampled per batch; bounds the memory of the key-value cache."""
    rank: int = 16
    """Rank of the policy's LoRA adapter, on all linear layers."""

    constrained: bool = False
    """Whether decoding is constrained to valid self-edits, for languages with a grammar
    (`directives`); needs the extra `constrained`."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"temperature {self.temperature}: must be finite and not < 0")
        if min(self.max_new_tokens, self.generation_batch_size, self.rank) < 1:
            raise UserError("max_new_tokens, generation_batch_size and rank must be at least 1")
