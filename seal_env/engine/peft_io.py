"""Adapter folders in PEFT's format: written, read as a bank, or merged into a model.

A bank holds plain LoRA only (`load_peft`). For merging, PEFT itself reads the folder
(`merge_peft`), so that everything it can merge is merged in its way: DoRA, ranks that differ
between modules, trained biases and embeddings, other types of adapters. An adapter that cannot be
reproduced exactly is refused.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import peft
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from seal_env.engine.config import LoraConfig
from seal_env.engine.lora import AdapterBank, find_targets
from seal_env.errors import UserError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MERGED_TYPES = frozenset(
    "LORA ADALORA BOFT FOURIERFT HRA IA3 LN_TUNING LOHA LOKR MISS OFT VERA".split()
)
"""Types of adapters that PEFT merges exactly (tests/test_peft_io.py)."""
_PREFIX = "base_model.model."
_ABOUT = frozenset(
    "auto_mapping base_model_name_or_path inference_mode peft_type peft_version revision "
    "runtime_config task_type".split()
)
"""Fields of a config without influence on the weights."""
_PLAIN = _ABOUT | frozenset(
    "corda_config eva_config exclude_modules fan_in_fan_out init_lora_weights layers_pattern "
    "layers_to_transform loftq_config lora_alpha lora_dropout lora_ga_config r target_modules "
    "use_rslora".split()
)
"""Fields that plain LoRA may have set: weights, targets and scale follow from them."""
_EXACT = _PLAIN | frozenset(
    "alpha_pattern bias ensure_weight_tying lora_bias modules_to_save rank_pattern "
    "target_parameters trainable_token_indices use_dora".split()
)
"""Fields of LoRA that PEFT merges exactly."""
_BASE_KEPT = (True, False, "gaussian", "eva", "orthogonal", "mica")
"""Initializations of LoRA that do not change the base's weights."""
_BASE_AGAIN = ("pissa", "olora")
"""Initializations that change the base, which PEFT repeats when it loads an adapter."""


def save_peft(bank: AdapterBank, index: int, folder: Path, base: str) -> None:
    """Writes one adapter in PEFT's format (`PeftModel.from_pretrained` reads it).

    Args:
        bank: The adapters.
        index: Index of the adapter.
        folder: Folder of the files, created if needed.
        base: Name or path of the base model, for PEFT's config.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for target in bank.targets:
        for letter, matrix in zip("AB", bank.matrices[target.name], strict=True):
            key = f"{_PREFIX}{target.name}.lora_{letter}.weight"
            tensors[key] = matrix[index].detach().cpu().contiguous()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": bank.config.rank,
        "lora_alpha": bank.config.alpha,
        "lora_dropout": 0.0,
        "target_modules": [target.name for target in bank.targets],
        "bias": "none",
        "inference_mode": True,
    }
    (folder / CONFIG).write_text(json.dumps(described, indent=2) + "\n")


def load_peft(folder: Path, model: PreTrainedModel, device: torch.device) -> AdapterBank:
    """Bank of one with a plain LoRA adapter from a folder.

    Raises:
        UserError: A file is missing or broken, or the adapter is for another model, or it is more
            than plain LoRA.
    """
    described, tensors = _read(folder)
    _check_fields(folder, described, _PLAIN, "a LoRA adapter to train on may not have")
    if described.init_lora_weights in _BASE_AGAIN:
        raise _changed_base(folder, described.init_lora_weights)
    rank, alpha = int(described.r), float(described.lora_alpha)
    if described.use_rslora:  # rank-stabilized LoRA divides alpha by the root of the rank
        alpha *= math.sqrt(rank)
    pieces = {name.removeprefix(_PREFIX).rpartition(".lora_")[0] for name in tensors}
    every = find_targets(model, LoraConfig(targets=("all-linear",)))
    targets = tuple(target for target in every if target.name in pieces)
    bank = AdapterBank(targets, LoraConfig(rank, alpha), 1, device)
    for target in targets:
        for letter, matrix in zip("AB", bank.matrices[target.name], strict=True):
            found = tensors.pop(f"{_PREFIX}{target.name}.lora_{letter}.weight", None)
            if found is None or found.shape != matrix[0].shape:
                raise UserError(f"{folder}: the adapter's {target.name} does not fit the model")
            matrix[0] = found
    if tensors:
        raise _wrong_base(folder, min(tensors))
    return bank


def merge_peft(folder: Path, network: PreTrainedModel) -> PreTrainedModel:
    """Merges an adapter into a model's own weights.

    Weights in bfloat16 are merged and compared in float32 and rounded once at the end: rounding
    hides a wrong sum.

    Args:
        folder: Folder of the adapter.
        network: The model, which is changed and must not be used afterwards.

    Returns:
        The model with the adapter in its weights.

    Raises:
        UserError: A file is missing or broken, the adapter is for another model, or the merged
            model would not be the adapted one.
    """
    packed, tied = network.config._attn_implementation, _untie(network)
    network.set_attn_implementation("eager")
    narrow = [name for name, x in network.named_parameters() if x.dtype == torch.bfloat16]
    try:
        for name in narrow:
            network.get_parameter(name).data = network.get_parameter(name).data.float()
        with _quietly(folder), torch.random.fork_rng():
            adapted = _adapted(folder, network)
            before = _probe(adapted)
            tuner: Any = adapted.base_model
            merged: PreTrainedModel = tuner.merge_and_unload(safe_merge=True)
            after = _probe(merged)
    finally:
        network.set_attn_implementation(packed)
    if tied:
        _tie_if_equal(merged)
    for name in narrow:
        merged.get_parameter(name).data = merged.get_parameter(name).data.bfloat16()
    error_size = (after - before).square().mean().sqrt()
    if not error_size <= 1e-3 * before.std():
        raise UserError(f"{folder}: merged into the weights, the adapter does not act as it should")
    return merged


def _adapted(folder: Path, network: PreTrainedModel) -> peft.PeftModel:
    """Model with all tensors of an adapter.

    Raises:
        UserError: See `merge_peft`.
    """
    described, tensors = _read(folder)
    if described.peft_type == "LORA":
        _check_fields(folder, described, _EXACT, "it cannot be merged exactly with")
    # Initial weights are replaced at once, and needed only where they change the base.
    empty = getattr(described, "init_lora_weights", True) not in _BASE_AGAIN
    adapted = peft.PeftModel(network, described, low_cpu_mem_usage=empty)
    expected = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    if missing := expected.keys() - tensors.keys():
        raise UserError(f"{folder}: {WEIGHTS} lacks {min(missing)}, which {CONFIG} asks for")
    found = adapted.load_adapter(
        str(folder), "default", torch_device=str(network.device), low_cpu_mem_usage=empty
    )
    if found.unexpected_keys:
        raise _wrong_base(folder, min(found.unexpected_keys))
    return adapted


def _untie(network: PreTrainedModel) -> bool:
    """Copies the output head's weights if they are the embedding's; returns whether they were.

    An adapter of one would otherwise be merged into both.
    """
    embedding: Any = network.get_input_embeddings()
    head: Any = network.get_output_embeddings()
    tied = bool(embedding.weight is head.weight)
    if tied:
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    return tied


def _tie_if_equal(network: PreTrainedModel) -> None:
    """Ties the output head to the embedding if their weights are equal, and sets the config."""
    embedding: Any = network.get_input_embeddings()
    head: Any = network.get_output_embeddings()
    tied = torch.equal(embedding.weight, head.weight)
    if tied:
        head.weight = embedding.weight
    network.config.tie_word_embeddings = tied


@torch.no_grad()
def _probe(model: Any) -> Tensor:
    """Logits of a few tokens."""
    ids = 1 + torch.arange(12, device=model.device)[None]
    logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits.float()


def _read(folder: Path) -> tuple[Any, dict[str, Tensor]]:
    """Config of an adapter, in PEFT's class for its type, and its weights.

    Raises:
        UserError: A file is missing or broken, the adapter's type cannot be merged, its base
            cannot be reproduced, or it needs a later version of PEFT.
    """
    try:
        given = dict(json.loads((folder / CONFIG).read_text()))
        kind, initial = str(given["peft_type"]), given.get("init_lora_weights", True)
        tensors = load_file(folder / WEIGHTS)
    except Exception as error:  # the readers of such files may raise any exception
        raise _unreadable(folder, error) from error
    if kind not in MERGED_TYPES:
        raise UserError(f"{folder}: an adapter of type {kind} cannot be merged into the weights")
    if initial not in _BASE_KEPT + _BASE_AGAIN:
        raise _changed_base(folder, initial)
    config_class = PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(kind)]
    names = {field.name for field in fields(config_class)}
    if unknown := sorted(name for name in given.keys() - names - _ABOUT if given[name]):
        raise UserError(
            f"{folder}: {CONFIG} has {', '.join(unknown)}, which PEFT {peft.__version__} does not "
            f"know; is it of a later version?"
        )
    try:
        with warnings.catch_warnings(action="ignore"):
            described = config_class(**{k: v for k, v in given.items() if k in names})
    except Exception as error:  # the classes of such configs may raise any exception
        raise _unreadable(folder, error) from error
    if not tensors:
        raise UserError(f"{folder}: the adapter has no weights")
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise UserError(f"{folder}: the adapter has infinite or NaN weights in {name!r}")
    return described, tensors


def _unreadable(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"{folder}: no readable PEFT adapter ({_line(error)}); it needs {CONFIG} and {WEIGHTS}"
    )


def _check_fields(folder: Path, described: Any, allowed: frozenset[str], why: str) -> None:
    """Checks that a LoRA config sets only the allowed fields.

    Raises:
        UserError: It sets another one.
    """
    for field in fields(described):
        usual = field.default if field.default_factory is MISSING else field.default_factory()
        value = getattr(described, field.name)
        if field.name not in allowed and value != usual:
            shown = str(value) if len(str(value)) < 60 else "(...)"
            raise UserError(f"{folder}: {why} {field.name}={shown}")


def _changed_base(folder: Path, initial: Any) -> UserError:
    return UserError(
        f"{folder}: the adapter belongs to a base that init_lora_weights={initial!r} changed; save "
        f"it with PEFT's path_initial_model_for_weight_conversion"
    )


def _wrong_base(folder: Path, name: str) -> UserError:
    return UserError(f"{folder}: the model has no place for {name!r}; wrong base model?")


@contextmanager
def _quietly(folder: Path) -> Iterator[None]:
    """Context without PEFT's warnings, in which any exception becomes a `UserError` of one line."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except UserError:
        raise
    except Exception as error:  # PEFT's adapter types may raise any exception
        raise UserError(f"{folder}: PEFT cannot merge the adapter: {_line(error)}") from error


def _line(error: Exception) -> str:
    """Message of an exception in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "size mismatch" in line), lines[0] if lines else "")
    return f"{told[:300]}" or type(error).__name__
