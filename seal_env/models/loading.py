"""Loading causal language models: the embedded ones, folders, ``.gguf`` files, hub names.

Weights come from safetensors or GGUF files alone; nothing that came with a model is executed.
Loaded models are kept in a process-wide pool, so that environments are cheap to construct.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel
from transformers.utils import logging as hf_logging

from seal_env.adapters import AdapterBank
from seal_env.errors import UserError
from seal_env.learner import Learner
from seal_env.memory import keep_freed_memory
from seal_env.packing import Layout
from seal_env.passes import IMPLEMENTATION, FullPass
from seal_env.rounding import even_activations

EMBEDDED = {name: Path(__file__).parent / name for name in ("tiny", "tiny-grids")}
"""Models that come with the package: name to folder."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MERGED_KEPT = 2
"""How many models with a merged adapter the pool keeps; base models stay for good."""

_pool: dict[tuple[str, ...], Learner] = {}


def load_learner(
    model: str,
    dtype: str = "auto",
    device: str = "auto",
    adapter: str | None = None,
    trust_remote_code: bool = False,
) -> Learner:
    """A frozen model, from the pool if it is there.

    Args:
        model: A name in `EMBEDDED`, a folder, a ``.gguf`` file, or a name on the Hugging Face hub.
        dtype: ``"float32"``, ``"bfloat16"``, or ``"auto"``: float32 on a CPU, else bfloat16.
        device: ``"cpu"``, ``"cuda"``, ``"mps"``, or ``"auto"`` for the best there is.
        adapter: Folder of a LoRA adapter in PEFT's format, merged into the weights.
        trust_remote_code: Whether a model may bring Python code of its own.

    Raises:
        UserError: There is no such model, or it cannot be used.
    """
    place = resolve_device(device)
    if place.type == "cpu":
        keep_freed_memory()
    kind = resolve_dtype(dtype, place)
    content = _digest(adapter) if adapter else ""
    key = (model, str(kind), str(place), content, str(trust_remote_code))
    if key not in _pool:
        if adapter is None:
            _pool[key] = _load(model, kind, place, trust_remote_code)
        else:
            base = load_learner(model, dtype, device, None, trust_remote_code)
            bank = AdapterBank.load_peft(Path(adapter), base.model, base.device)
            _pool[key] = merged_learner(base, bank)
            merged = [k for k in _pool if k[3]]
            for old in merged[:-MERGED_KEPT]:
                del _pool[old]
    return _pool[key]


def resolve_device(device: str) -> torch.device:
    """The device that a name means.

    Raises:
        UserError: The name is unknown or the device is not there.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        device = "cuda" if cuda else "mps" if mps else "cpu"
    available = {"cpu": True, "cuda": cuda, "mps": mps}.get(device.partition(":")[0])
    if available is None:
        raise UserError(f"unknown device {device!r}: use auto, cpu, cuda or mps")
    if not available:
        raise UserError(f"device {device!r} is not available here: use auto or cpu")
    return torch.device(device)


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The precision of the frozen weights that a name means.

    Raises:
        UserError: The name is unknown.
    """
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if dtype not in DTYPES:
        raise UserError(f"unknown precision {dtype!r}: use auto, float32 or bfloat16")
    return DTYPES[dtype]


def _load(model: str, dtype: torch.dtype, device: torch.device, trust: bool) -> Learner:
    source, options = _source(model)
    network = _quietly(
        model,
        lambda: AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, use_safetensors=True, trust_remote_code=trust, **options
        ),
    )
    options.pop("quantization_config", None)
    tokenizer = _quietly(
        model,
        lambda: AutoTokenizer.from_pretrained(source, trust_remote_code=trust, **options),
    )
    # Weights that were unpacked from GGUF are plain weights; transformers would not save them
    # again while the config still calls them quantized.
    if getattr(network.config, "quantization_config", None) is not None:
        del network.config.quantization_config
    return prepare(network.to(device), tokenizer, model)


def prepare(network: PreTrainedModel, tokenizer: Any, name: str) -> Learner:
    """Makes a learner of a loaded model, and checks that packed rows give its own numbers.

    Raises:
        UserError: The model's architecture does something that packed rows cannot do.
    """
    network.eval()
    # Ordinary words: what a model makes of special tokens can be a matter of rounding.
    probe = (1009 + 997 * torch.arange(12, device=network.device))[None] % network.config.vocab_size
    with torch.no_grad():
        expected = network(input_ids=probe, use_cache=False).logits[0].float()
    try:
        network.set_attn_implementation(IMPLEMENTATION)
        even_activations(network)
        learner = Learner(network, tokenizer, name)
        # Behind another sequence, to which an architecture without attention would listen.
        layout = Layout([probe[0, 5:].tolist(), probe[0].tolist()], [0, 0], learner.device)
        with torch.no_grad():
            found = learner.head(learner.hidden(layout.row, FullPass(layout), None))[7:19]
        tolerance = 1e-3 if network.dtype == torch.float32 else 0.1
        error_size = (found - expected).square().mean().sqrt()
        agrees = bool(error_size <= tolerance * (expected.std() + 1e-3))
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"model {name!r} cannot be used here: {_first_line(error)}") from error
    if not agrees:
        raise UserError(
            f"model {name!r} cannot be used here: its architecture "
            f"({network.config.model_type}) treats tokens in a packed row in a way of its own"
        )
    return learner


def _source(model: str) -> tuple[str, dict[str, Any]]:
    """Where to load from, and extra arguments of ``from_pretrained``."""
    if model in EMBEDDED:
        return str(EMBEDDED[model]), {}
    path = Path(model)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"model {model!r}: no such file; give the path of a .gguf file")
        return str(path.parent), {
            "gguf_file": path.name,
            "quantization_config": GgufConfig(dequantize=True),
        }
    if model and path.is_dir():
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
        raise UserError(
            f"unknown model {model!r}: embedded are {known}; otherwise give a folder, a .gguf "
            f"file, or a hub name like owner/name"
        )
    return model, {}


def _quietly(model: str, load: Callable[[], Any]) -> Any:
    """Calls a loader; whatever goes wrong in it becomes one line."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        return load()
    except Exception as error:  # loaders raise whatever their file formats raise
        offline = os.environ.get("HF_HUB_OFFLINE") == "1"
        hint = " (the hub is switched off by HF_HUB_OFFLINE)" if offline else ""
        raise UserError(f"model {model!r} cannot be loaded{hint}: {_first_line(error)}") from error
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def merged_learner(base: Learner, bank: AdapterBank) -> Learner:
    """A copy of a learner with the (single) adapter of a bank merged into its weights."""
    network = copy.deepcopy(base.model)
    with torch.no_grad():
        bank.merge_into(network)
    return Learner(network, base.tokenizer, base.name)


def _digest(adapter: str) -> str:
    """Identifies an adapter by its content: the same folder may be written again."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            path = Path(adapter) / name
            digest.update(path.read_bytes())
        return digest.hexdigest()
    except OSError as error:
        raise UserError(
            f"adapter {adapter!r}: cannot read {path.name} ({error.strerror})"
        ) from error
