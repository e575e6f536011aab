"""Architecture and size of a model, read from its config without its weights.

Settings per model depend on these and not on the name of a file, which anybody may choose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seal_env.engine.fields import set_checked
from seal_env.errors import UserError

REAL = 10_000_000
"""`ModelShape.parameters` from which on a model counts as a real one; smaller ones are embedded in
the package or made for tests, and have the same settings everywhere."""


@dataclass(frozen=True)
class ModelShape:
    """Architecture and size of a language model."""

    kind: str
    """Architecture, as ``config.model_type`` of transformers without underscores: "qwen2"."""
    width: int
    """Entries of a hidden state."""
    layers: int
    """Number of layers."""

    def __post_init__(self) -> None:
        set_checked(self)
        if self.width < 1 or self.layers < 1:
            raise UserError(f"model shape {self.kind} {self.width} x {self.layers}: must be > 0")

    @property
    def parameters(self) -> int:
        """Weights of the layers, about: 12 per layer and pair of entries of a hidden state.

        Four square matrices in the attention and eight times as many entries in a feed-forward
        part of four times the width (Kaplan et al. 2020, arXiv 2001.08361, table 1).
        """
        return 12 * self.layers * self.width**2


def shape_of(config: Any) -> ModelShape | None:
    """Shape by a config of transformers; None if it does not say."""
    text = config.get_text_config()
    width, layers = (getattr(text, name, None) for name in ("hidden_size", "num_hidden_layers"))
    return _shape(text.model_type, width, layers)


def read_shape(model: str) -> ModelShape | None:
    """Shape of a folder, a ``.gguf`` file or a name on the hub; None if it cannot be found out.

    Whoever loads the model is told what is wrong with it.
    """
    path = Path(model)
    if not path.exists() and not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model):
        return None  # neither a file nor a name that the hub would be asked for
    try:
        if path.suffix == ".gguf":
            # Not `AutoConfig`: it makes the tokenizer's lists, which takes seconds.
            from transformers.integrations.gguf.reader import read_gguf_metadata

            metadata, _ = read_gguf_metadata(model)
            kind = metadata["general.architecture"]
            sizes = (metadata[f"{kind}.{name}"] for name in ("embedding_length", "block_count"))
            return _shape(kind, *sizes)
        from transformers import AutoConfig

        return shape_of(AutoConfig.from_pretrained(model, trust_remote_code=False))
    except Exception:  # transformers raises whatever a file or the network gives it
        return None


def _shape(kind: Any, width: Any, layers: Any) -> ModelShape | None:
    """A shape, unless its parts are not what they should be."""
    if not isinstance(kind, str) or type(width) is not int or type(layers) is not int:
        return None
    return ModelShape(kind.replace("_", ""), width, layers)
