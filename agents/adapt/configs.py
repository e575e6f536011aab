"""Settings of `seal-env adapt` and `seal-env chat`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from seal_agents.policies.options import PolicyOptions
from seal_env.config import EnvConfig, InnerLoopConfig
from seal_env.edits import PairForm, PassagePlace
from seal_env.errors import UserError

MOST_SAMPLES = 1000
"""Bound on the self-edits per passage and policy."""
JOINT_BATCH = 8
"""Sequences per optimizer step of a joint training, at least: presets are for one self-edit, and a
library has thousands of short lines, for each of which all weights would be read and changed."""

WRITING = PolicyOptions(prompt="short-qa", temperature=0.7, max_new_tokens=160)
"""What small models write questions about a short passage with (docs/lab-log.md)."""


def suited_to(mode: str, inner: InnerLoopConfig) -> InnerLoopConfig:
    """The inner loop of a preset, with larger batches for the mode ``joint``."""
    if mode != "joint":
        return inner
    batch = max(JOINT_BATCH, inner.finetune.batch_size)
    return replace(inner, finetune=replace(inner.finetune, batch_size=batch))


@dataclass(frozen=True)
class AdaptConfig:
    """Settings of the adaptation of a model to documents."""

    documents: Path | None = None
    """File or folder of documents: .txt, .md, .html, .pdf."""
    model: str | None = None
    """The model: a folder, a .gguf file, or a name on the Hugging Face hub."""
    policy: tuple[str, ...] = ("base",)
    """Who writes the self-edits, several to pool theirs: base or base:PROMPT for the model itself,
    the folder of a training run, edits:FILE.jsonl, or another agent."""
    writer: str | None = None
    """Another model that writes the self-edits in place of the adapted one, a larger one for
    example: a folder, a .gguf file, or a name on the hub. A trained policy must be of it."""
    samples: int = 2
    """Self-edits per passage and policy."""
    questions: Path | None = None
    """File of questions that people wrote (JSON, JSONL or CSV with the fields question and
    answer), asked before and after; never trained on."""
    mode: Literal["joint", "stream"] = "joint"
    """joint: one training on all passages, in random order; stream: passage after passage."""
    words: int = 60
    """Number of words of the longest passage: small models write about short ones better."""
    passage: PassagePlace = "last"
    """Where the passages themselves are trained on, too: after the self-edits of each, before
    them, or none for not at all."""
    pairs: PairForm = "asked"
    """How a question with its answer, which a policy wrote, is trained on: asked as the model is
    asked afterwards, and learned from its answer, or as text like everything else."""
    inner: InnerLoopConfig = field(default_factory=InnerLoopConfig)
    """Adapter and optimizer."""
    options: PolicyOptions = WRITING
    """Sampling of the self-edits, for the policy base."""
    merge: bool = False
    """Whether the model with the adapter in its weights is written, too."""
    dtype: str = EnvConfig.dtype
    """Precision of the frozen weights: float32, bfloat16, or auto."""
    device: str = EnvConfig.device
    """cpu, cuda, mps, or auto for the best there is."""
    trust_remote_code: bool = False
    """Whether a model may bring Python code of its own, which is then run."""
    seed: int = 0
    """Seed of everything random."""
    out: Annotated[Path, tyro.conf.arg(help="Folder of the results.")] = Path("adapted")
    """Folder of the results."""

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise UserError(f"--samples {self.samples}: must be from 1 to {MOST_SAMPLES}")
        if not self.policy:
            raise UserError("--policy: name at least one, such as base")
        for name in self.policy:
            if self.policy.count(name) > 1:
                raise UserError(f"--policy {name}: is named twice; give more --samples instead")
        if not 0 <= self.seed < 1 << 63:
            raise UserError(f"--seed {self.seed}: must be 0 or more, and less than 2 to the 63")

    def env(self) -> EnvConfig:
        """Settings of the environment whose problems the passages are.

        Raises:
            UserError: Documents or model are not named.
        """
        if self.documents is None:
            raise UserError("--documents: name a file or a folder of .txt, .md, .html or .pdf")
        documents, out = self.documents.resolve(), self.out.resolve()
        if documents == out or documents in out.parents:
            raise UserError(
                f"--out {self.out}: lies within --documents, and would be read as one of them; "
                f"give a folder elsewhere"
            )
        if self.model is None:
            raise UserError("--model: name a folder, a .gguf file, or a name on the hub")
        return EnvConfig(
            task="documents",
            model=self.model,
            data=str(self.documents),
            task_options={"words": self.words},
            edit_options={"config": {"passage": self.passage, "pairs": self.pairs}},
            inner=self.inner,
            trust_remote_code=self.trust_remote_code,
            dtype=self.dtype,
            device=self.device,
        )


@dataclass(frozen=True)
class ChatConfig:
    """Settings of questions to an adapted model."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("adapted")
    """Folder that `seal-env adapt` wrote."""
    max_new_tokens: int = 64
    """Length of the longest answer, in tokens."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_new_tokens <= 1 << 16:
            raise UserError(f"--max-new-tokens {self.max_new_tokens}: must be from 1 to {1 << 16}")
