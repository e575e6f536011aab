"""Models and tokenizers from files, completely or not at all.

Weights are read from safetensors or GGUF files only; no code that comes with a model is executed.
transformers fills missing tensors with random weights, skips tensors that the config does not name,
and logs both. Here either is an error: the model that is trained and measured is the file's.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.integrations.gguf.reader import read_gguf_metadata
from transformers.utils import logging as hf_logging

from seal_env.errors import UserError, first_line

EMBEDDED = {name: Path(__file__).parents[1] / "models" / name for name in ("tiny", "tiny-grids")}
"""Folders of the models that come with the package, by name."""
SHORTEST = 16
"""Smallest length of the longest input, in tokens: fewer hold no question and answer."""
LANGUAGE_MODEL = {
    r"^(model\.)?language_model\.lm_head\.": "lm_head.",
    r"^(model\.)?language_model\.(model\.)?": "model.",
}
"""Patterns of tensor names in models of text and images, and the names in the language model."""
_OBSOLETE = re.compile(
    r"(^|\.)(inv_freq|position_ids|masked_bias|causal_mask)$|(attn|attention)\.bias$"
)
"""Buffers of old checkpoints that current code computes."""


def read_checkpoint(
    model: str, dtype: torch.dtype, trust_remote_code: bool
) -> tuple[PreTrainedModel, Any]:
    """A model with all its weights, and its tokenizer.

    Args:
        model: A name in `EMBEDDED`, a folder, a ``.gguf`` file, or a name on the Hugging Face hub.
        dtype: Precision of the weights.
        trust_remote_code: Whether the model may bring Python code of its own.

    Raises:
        UserError: There is no such model, a file is broken or incomplete, or the model is no causal
            language model.
    """
    source, options = _source(model)
    trust = {"trust_remote_code": trust_remote_code}
    if options:
        special: dict[str, Any] = {"quantization_config": GgufConfig(dequantize=True)}
    else:
        config = _quietly(model, lambda: AutoConfig.from_pretrained(source, **trust))
        special = _text_part(model, config)
    network, report = _quietly(
        model,
        lambda: AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # loaded so that `_check_complete` can name them
            output_loading_info=True,
            **special,
            **trust,
            **options,
        ),
    )
    if options:
        report["unexpected_keys"] |= _layers_beyond(Path(model), network)
    _check_complete(model, network, report)
    _check_finite(model, network)
    tokenizer = _quietly(model, lambda: AutoTokenizer.from_pretrained(source, **trust, **options))
    _check_sizes(model, network, tokenizer)
    if options:
        # Weights that were unpacked from GGUF are plain weights; transformers would not save them
        # again while the config still calls them quantized.
        network.config.__dict__.pop("quantization_config", None)
    # Renaming of the file's tensors; `save_pretrained` would reverse it.
    network._weight_conversions = None
    return network, tokenizer


def _source(model: str) -> tuple[str, dict[str, Any]]:
    """Source to load from, and extra arguments of ``from_pretrained`` (for GGUF files only)."""
    if model in EMBEDDED:
        return str(EMBEDDED[model]), {}
    path = Path(model)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"model {model!r}: no such file; give the path of a .gguf file")
        return str(path.parent), {"gguf_file": path.name}
    if model and path.is_dir():
        if (path / "adapter_config.json").is_file():
            raise UserError(
                f"model {model!r}: the folder holds an adapter; give its base as the model and "
                f"the folder as the adapter"
            )
        if not (path / "config.json").is_file():
            raise UserError(f"model {model!r}: the folder has no config.json; is it a model?")
        if not list(path.glob("*.safetensors")):
            raise UserError(
                f"model {model!r}: the folder has no weights; it needs a .safetensors file"
            )
    elif path.is_absolute() or model.startswith(".") or model.count("/") > 1 or not model:
        raise UserError(f"model {model!r}: no such folder or file")
    elif "/" not in model:
        known = ", ".join(EMBEDDED)
        close = difflib.get_close_matches(model, EMBEDDED, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UserError(
            f"unknown model {model!r}: {hint}embedded are {known}; otherwise give a folder, a "
            f".gguf file, or a hub name like owner/name"
        )
    return model, {}


def _text_part(model: str, config: PreTrainedConfig) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` that load the language model of a model of text and images.

    Empty for a model of text.

    Raises:
        UserError: transformers has no causal language model of this kind.
    """
    text = _quietly(model, config.get_text_config)
    if type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING and not hasattr(config, "auto_map"):
        raise UserError(
            f"model {model!r} cannot be used here: transformers has no causal language model of "
            f"kind {text.model_type}"
        )
    if text is config or type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return {}
    # Old and new configs differ in where they say it; if the file has both weights, it decides.
    text.tie_word_embeddings = config.tie_word_embeddings or text.tie_word_embeddings
    return {"config": text, "key_mapping": LANGUAGE_MODEL}


def _check_complete(model: str, network: PreTrainedModel, report: dict[str, Any]) -> None:
    """Checks that the file's tensors are the model's.

    Args:
        model: Name or path that was loaded.
        network: The loaded model.
        report: Loading info of ``from_pretrained(output_loading_info=True)``, which omits weights
            that are tied to one in the file.

    Raises:
        UserError: A tensor is missing or of another shape, or a layer has an extra one.
    """
    if getattr(network, "_hf_peft_config_loaded", False):
        raise UserError(f"model {model!r} is an adapter; give its base as the model")
    if missing := report["missing_keys"]:
        own = missing - network.all_tied_weights_keys.keys()
        raise UserError(
            f"model {model!r} is incomplete: its config asks for {_listed(own or missing)}, which "
            f"the file lacks"
        )
    if mismatched := report["mismatched_keys"]:
        name, found, wanted = min(mismatched)
        more = f" ({len(mismatched) - 1} more do not fit)" if len(mismatched) > 1 else ""
        raise UserError(
            f"model {model!r}: {name} has shape {tuple(found)} in the file and {tuple(wanted)} by "
            f"its config{more}"
        )
    if unused := {name for name in report["unexpected_keys"] if _is_of_layer(name, network)}:
        raise UserError(
            f"model {model!r}: the file has {_listed(unused)}, which its config has no place for"
        )


def _layers_beyond(path: Path, network: PreTrainedModel) -> set[str]:
    """Tensors of a GGUF file for layers beyond the config's, which transformers ignores."""
    _, names = read_gguf_metadata(str(path))
    layers = {name: re.match(r"blk\.(\d+)\.", name) for name in names}
    count = network.config.num_hidden_layers
    return {name for name, found in layers.items() if found and int(found[1]) >= count}


def _is_of_layer(name: str, network: PreTrainedModel) -> bool:
    """Whether a tensor without a counterpart belongs to the layers, the embedding or the head.

    The model would not compute what it was trained to without it. Other tensors are parts of a
    larger model (a vision tower, a value head) or obsolete buffers.
    """
    if name.startswith("blk."):  # GGUF's word for a layer
        return True
    if _OBSOLETE.search(name):
        return False
    modules = dict(network.named_modules())
    for whole in (name, f"{network.base_model_prefix}.{name}"):
        parts = whole.split(".")
        above = [".".join(parts[:end]) for end in range(1, len(parts))]
        known = [modules[path] for path in above if path in modules]
        if any(isinstance(module, nn.ModuleList) for module in known):
            return True
        if known and any(True for _ in known[-1].parameters(recurse=False)):
            return True
    return False


def _check_finite(model: str, network: PreTrainedModel) -> None:
    """Checks that all weights are finite.

    Raises:
        UserError: One is infinite or NaN.
    """
    broken = {name for name, tensor in network.state_dict().items() if not _is_finite(tensor)}
    if broken:
        raise UserError(f"model {model!r}: infinite or NaN weights in {_listed(broken)}")


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether all entries of a tensor are finite, computed without a copy."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(math.isfinite(float(bound)) for bound in tensor.aminmax())


def _check_sizes(model: str, network: PreTrainedModel, tokenizer: Any) -> None:
    """Checks that lengths and token ids are consistent.

    Raises:
        UserError: They are not.
    """
    length = _length(tokenizer.model_max_length)
    if length is None:
        raise UserError(
            f"model {model!r}: its tokenizer's model_max_length is {tokenizer.model_max_length!r}; "
            f"mend or remove it in tokenizer_config.json (a number from {SHORTEST})"
        )
    tokenizer.model_max_length = length
    positions = getattr(network.config, "max_position_embeddings", None)
    if positions is not None and _length(positions) is None:
        raise UserError(
            f"model {model!r}: its config's max_position_embeddings is {positions!r}; a number "
            f"from {SHORTEST} is needed"
        )
    rows = int(network.get_input_embeddings().weight.shape[0])  # type: ignore[index]
    if tokenizer.vocab_size > rows:
        raise UserError(
            f"model {model!r}: its tokenizer has {tokenizer.vocab_size} tokens and the model "
            f"{rows}; is it the tokenizer of another model?"
        )
    ends = getattr(network.generation_config, "eos_token_id", None)
    for end in [*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id]:
        if end is not None and not (type(end) is int and 0 <= end < rows):
            raise UserError(
                f"model {model!r}: its end token is number {end!r}, and the model has the tokens "
                f"0 to {rows - 1}; mend eos_token_id in generation_config.json or the tokenizer"
            )


def _length(value: Any) -> int | None:
    """Length in tokens as a number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not value >= SHORTEST or (math.isfinite(value) and value != int(value)):
        return None
    return int(min(value, 1 << 62))


def _listed(names: Collection[str]) -> str:
    """First of several names, and the number of the others."""
    first = min(names)
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{first if first.isprintable() else repr(first)}{more}"


def _quietly(model: str, load: Callable[[], Any]) -> Any:
    """Result of a loader; any exception becomes a `UserError` of one line."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        return load()
    except Exception as error:  # loaders raise whatever their file formats raise
        local = model in EMBEDDED or Path(model).exists()
        offline = os.environ.get("HF_HUB_OFFLINE") == "1" and not local
        hint = " (the hub is switched off by HF_HUB_OFFLINE)" if offline else ""
        if "trust_remote_code" in str(error):
            hint = " (it brings code of its own; if you trust it, give --trust-remote-code)"
        raise UserError(f"model {model!r} cannot be loaded{hint}: {first_line(error)}") from error
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
