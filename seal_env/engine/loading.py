"""Learners by name: loaded once, checked, and shared.

A process-wide pool holds the learners that are in use and the last unused ones, so that
environments are cheap to construct.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from pathlib import Path
from threading import RLock
from typing import Any
from weakref import WeakValueDictionary

import torch
from transformers import PreTrainedModel

from seal_env.engine.agreement import checked
from seal_env.engine.checkpoints import EMBEDDED, read_checkpoint
from seal_env.engine.devices import resolve_device, resolve_dtype
from seal_env.engine.experts import EXPERTS
from seal_env.engine.learner import Learner
from seal_env.engine.lora import AdapterBank
from seal_env.engine.memory import keep_freed_memory
from seal_env.engine.passes import IMPLEMENTATION
from seal_env.engine.peft_io import CONFIG, WEIGHTS, merge_peft
from seal_env.engine.rotary import fix_rotary
from seal_env.engine.rounding import even_activations
from seal_env.engine.shapes import read_shape
from seal_env.errors import UserError, first_line

KEPT = 2
"""Numbers of unused base models and of unused models with a merged adapter in the pool."""
_MODEL_FILES = (".safetensors", ".json", ".gguf")

_pool: WeakValueDictionary[tuple[str, ...], Learner] = WeakValueDictionary()
_last_used: dict[bool, deque[Learner]] = {merged: deque(maxlen=KEPT) for merged in (False, True)}
_lock = RLock()
_float32_alone: set[tuple[str, str]] = set()
"""Models, with their stamps, that the check refused in bfloat16 although it is quicker."""
_log = logging.getLogger(__name__)


class RefusedError(UserError):
    """A model that was loaded does not pass the check of its results."""


def load_learner(
    model: str,
    dtype: str = "auto",
    device: str = "auto",
    adapter: str | None = None,
    trust_remote_code: bool = False,
) -> Learner:
    """Frozen model by name, from the pool if it is there.

    Args:
        model: A name in `EMBEDDED`, a folder, a ``.gguf`` file, or a name on the Hugging Face hub.
        dtype: ``"float32"``, ``"bfloat16"``, or ``"auto"``: see `resolve_dtype`; float32 where the
            check of the loaded model refuses it in bfloat16.
        device: ``"cpu"``, ``"cuda"``, ``"mps"``, or ``"auto"`` for the best there is.
        adapter: Folder of an adapter in PEFT's format, merged into the weights.
        trust_remote_code: Whether a model may bring Python code of its own.

    Raises:
        UserError: There is no such model, or it cannot be used.
    """
    target = resolve_device(device)
    if target.type == "cpu":
        keep_freed_memory()
    if dtype == "auto":
        return _load_auto(model, target, adapter, trust_remote_code)
    precision = resolve_dtype(dtype, target)
    content = _digest(adapter) if adapter else ""
    key = (model, _stamp(model), str(precision), str(target), content, str(trust_remote_code))
    with _lock:
        learner = _pool.get(key)
        if learner is None:
            if adapter is None:
                network, tokenizer = read_checkpoint(model, precision, trust_remote_code)
                network.to(target)  # type: ignore[arg-type]
                learner = prepare(network, tokenizer, model)
            else:
                base = load_learner(model, dtype, device, None, trust_remote_code)
                network = merge_peft(Path(adapter), base.copy_model())
                learner = _like(base, network)
            learner.trust_remote_code = trust_remote_code
            _pool[key] = learner
        recent = _last_used[adapter is not None]
        if learner in recent:
            recent.remove(learner)
        recent.append(learner)
    return learner


def release(learner: Learner) -> None:
    """Takes a learner out of the pool, so that its memory is freed when nobody else uses it."""
    with _lock:
        for recent in _last_used.values():
            if learner in recent:
                recent.remove(learner)


def _load_auto(
    model: str, device: torch.device, adapter: str | None, trust_remote_code: bool
) -> Learner:
    """A learner in the precision that suits device and model, or that its check accepts."""
    on_cpu = device.type == "cpu"
    known = model in EMBEDDED or (model, _stamp(model)) in _float32_alone
    shape = read_shape(model) if on_cpu and not known else None
    precision = str(resolve_dtype("auto", device, shape)).removeprefix("torch.")
    try:
        return load_learner(model, precision, str(device), adapter, trust_remote_code)
    except RefusedError as error:
        if not on_cpu or precision == "float32":
            raise
        _log.warning("dtype auto: float32, since in bfloat16 %s", error)
        _float32_alone.add((model, _stamp(model)))
        return load_learner(model, "float32", str(device), adapter, trust_remote_code)


def prepare(network: PreTrainedModel, tokenizer: Any, name: str) -> Learner:
    """Learner of a loaded model, after a check that packed rows give the model's own results.

    Raises:
        RefusedError: The model's architecture does not work on packed rows.
    """

    def learner() -> Learner:
        network.set_attn_implementation(IMPLEMENTATION)
        if network._can_set_experts_implementation():
            network.set_experts_implementation(EXPERTS)
        even_activations(network)
        fix_rotary(network)
        return Learner(network, tokenizer, name)

    try:
        return checked(network.eval(), learner)
    except Exception as error:  # architectures may raise any exception
        reason = first_line(error)
        if not isinstance(error, UserError):
            reason = f"it fails on packed rows ({type(error).__name__}: {reason})"
        raise RefusedError(
            f"model {name!r} cannot be used here because of its architecture "
            f"({network.config.model_type}): {reason}"
        ) from error


def merged_learner(base: Learner, bank: AdapterBank) -> Learner:
    """Copy of a learner with the adapter of a bank of one merged into its weights."""
    network = base.copy_model()
    with torch.no_grad():
        bank.merge_into(network)
    return _like(base, network)


def _like(base: Learner, network: PreTrainedModel) -> Learner:
    """Learner of another network of the same architecture."""
    learner = Learner(network, base.tokenizer, base.name)
    learner.bits = base.bits
    learner.trust_remote_code = base.trust_remote_code
    return learner


def _stamp(model: str) -> str:
    """Fingerprint of a folder or file by sizes and times; empty for other names."""
    path = Path(model)
    if model in EMBEDDED or not path.exists():
        return ""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = {file.name: file.stat() for file in files if file.suffix in _MODEL_FILES}
    return str([path.resolve(), {name: (s.st_size, s.st_mtime_ns) for name, s in stats.items()}])


def _digest(adapter: str) -> str:
    """Hash of an adapter's files: the same folder may be written again."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        for name in (CONFIG, WEIGHTS):
            path = Path(adapter) / name
            digest.update(path.read_bytes())
        return digest.hexdigest()
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"adapter {adapter!r}: cannot read {path.name} ({reason})") from error
