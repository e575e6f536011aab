"""Small random models of the causal language models that transformers knows."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

WINDOW = 16
"""Sliding window of the models that have one, in tokens."""
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.08,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
    "sliding_window": WINDOW,
    "use_sliding_window": True,
    "max_window_layers": 1,
    "is_decoder": True,
    # mixtures of experts
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "experts_per_token": 2,
    "moe_k": 2,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "first_k_dense_replace": 1,
    # latent attention
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "qk_head_dim": 24,
    "v_head_dim": 16,
}
"""Settings of a small model; each is used where an architecture has it."""
OVERRIDES: dict[str, dict[str, Any]] = {
    "codegen": {"rotary_dim": 8},
    "gptj": {"rotary_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": WINDOW},
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "hidden_size_per_layer_input": 16,
        "vocab_size_per_layer_input": 600,
        "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
    },
    "gemma4_text": {"hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 600},
    "falcon_h1": {
        "mamba_d_ssm": 64,
        "mamba_n_heads": 8,
        "mamba_d_state": 16,
        "mamba_chunk_size": 8,
    },
    "mamba2": {"num_heads": 8, "head_dim": 16, "expand": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
}
"""Settings of single architectures."""
NOT_TEXT = {
    "blt", "emu3", "fuyu", "gemma3", "gemma3n", "gemma4", "gemma4_assistant", "gemma4_unified",
    "gemma4_unified_assistant", "git", "got_ocr2", "mllama", "moshi", "moss_transcribe_diarize",
    "musicgen", "musicgen_melody", "phi4_multimodal", "qwen3_5", "qwen3_5_moe", "qwen4_exp",
    "trocr", "whisper",
}  # fmt: skip
"""Architectures around a text model of another name, or that read images, sound or bytes."""


def architectures() -> list[str]:
    """Values of ``config.model_type`` that transformers has a causal language model for."""
    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) & set(CONFIG_MAPPING.keys())
    return sorted(known - NOT_TEXT)


def small_model(kind: str, vocabulary: int) -> PreTrainedModel:
    """A small random model in float32.

    Args:
        kind: One of `architectures`.
        vocabulary: Its tokens.
    """
    config_class = CONFIG_MAPPING[kind]
    wanted = {**SIZES, "vocab_size": vocabulary, **OVERRIDES.get(kind, {})}
    known = config_class().to_dict()
    names = {*known, *getattr(config_class, "attribute_map", {}), *OVERRIDES.get(kind, {})}
    if "qk_rope_head_dim" in names:  # latent attention: what is rotated is a head's width
        wanted["head_dim"] = wanted["qk_rope_head_dim"]
        wanted["num_key_value_heads"] = wanted["num_attention_heads"]
    if "text_config" in names and "text_config" not in wanted:
        inner = known["text_config"]
        wanted["text_config"] = {k: v for k, v in wanted.items() if k in inner}
        wanted["text_config"]["model_type"] = inner["model_type"]
    config = config_class(**{k: v for k, v in wanted.items() if k in names})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():  # biases and norms start at 0 and 1, which hides mistakes
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model
