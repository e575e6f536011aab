"""K LoRA adapters trained and evaluated side by side on one frozen model.

Token ids go in; trained adapters and numbers come out. The engine knows nothing of environments,
tasks or self-edits, and needs torch, transformers, peft, numpy, safetensors and tokenizers alone.
docs/engine.md is a page about it. The names below are loaded at their first use, so that the
settings do not load torch.

Example:
    >>> from seal_env.engine import AdapterBank, FinetuneConfig, LoraConfig, Sampling
    >>> from seal_env.engine import Dataset, Example, find_targets, finetune, generate, load_learner
    >>> learner = load_learner("tiny")
    >>> lora = LoraConfig(rank=8, alpha=16)
    >>> bank = AdapterBank(find_targets(learner.model, lora), lora, 2, learner.device)
    >>> bank.initialize([0, 0])  # seeds
    >>> texts = ["Edda Crane was born in Oslo .", "Edda Crane was born in Lima ."]
    >>> examples = [[Example(tuple(learner.renderer.document(text)))] for text in texts]
    >>> config = FinetuneConfig(learning_rate=5e-3, epochs=20)
    >>> stats = finetune(learner, bank, [Dataset(e, config, seed=0) for e in examples])
    >>> [s.steps for s in stats]
    [20, 20]
    >>> prompt = learner.renderer.encode("Edda Crane was born in")
    >>> answers = generate(learner, [prompt, prompt], Sampling(1), owners=[0, 1], bank=bank)
    >>> [learner.renderer.decode(ids) for ids in answers]
    ['Oslo', 'Lima']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seal_env.engine.config import FinetuneConfig, LoraConfig
    from seal_env.engine.deltas import DeltaBank, Deltas
    from seal_env.engine.generation import generate, sample, score_and_generate
    from seal_env.engine.learner import Learner
    from seal_env.engine.loading import load_learner, merged_learner, prepare
    from seal_env.engine.lora import AdapterBank, find_targets
    from seal_env.engine.peft_io import load_peft, merge_peft, save_peft
    from seal_env.engine.rendering import Content, Rendered, Renderer
    from seal_env.engine.sampling import Completion, Constraint, Guide, Sampling
    from seal_env.engine.training import Dataset, Example, TrainStats, finetune

_MODULES = {
    "config": ("FinetuneConfig", "LoraConfig"),
    "deltas": ("DeltaBank", "Deltas"),
    "training": ("Dataset", "Example", "TrainStats", "finetune"),
    "generation": ("generate", "sample", "score_and_generate"),
    "learner": ("Learner",),
    "loading": ("load_learner", "merged_learner", "prepare"),
    "lora": ("AdapterBank", "find_targets"),
    "peft_io": ("load_peft", "merge_peft", "save_peft"),
    "rendering": ("Content", "Rendered", "Renderer"),
    "sampling": ("Completion", "Constraint", "Guide", "Sampling"),
}
"""Module to the names that it gives this package."""
_PLACES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AdapterBank",
    "Completion",
    "Constraint",
    "Content",
    "Dataset",
    "DeltaBank",
    "Deltas",
    "Example",
    "FinetuneConfig",
    "Guide",
    "Learner",
    "LoraConfig",
    "Rendered",
    "Renderer",
    "Sampling",
    "TrainStats",
    "find_targets",
    "finetune",
    "generate",
    "load_learner",
    "load_peft",
    "merge_peft",
    "merged_learner",
    "prepare",
    "sample",
    "save_peft",
    "score_and_generate",
]


def __getattr__(name: str) -> Any:
    """Loads a name from its module at its first use (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
