"""Small random models and a task of our own, for the tests of the core."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)

from seal_env.engine.learner import Learner
from seal_env.engine.lora import AdapterBank, LoraConfig, find_targets
from seal_env.engine.training import Example, FinetuneConfig
from seal_env.inner_loop import InnerLoopConfig
from seal_env.pretraining.tokenizer import build_tokenizer
from seal_env.tasks.biographies.task import Biographies

ARCHITECTURES = ("llama", "gpt2", "qwen2")
LORA = LoraConfig(rank=4, alpha=8.0)
INNER = InnerLoopConfig(LORA, FinetuneConfig(learning_rate=2e-2, epochs=2))
"""Quick, and strong enough that answers change."""
MAX_LENGTH = 512


def word_pieces(kind=Qwen2Tokenizer):
    """A model's own kind of tokenizer, trained on the embedded world's passages."""
    world = Biographies()
    passages = [world.problem("train", i).context for i in range(200)]
    tokenizer = kind().train_new_from_iterator(passages, 520, show_progress=False)
    tokenizer.model_max_length = MAX_LENGTH
    return tokenizer


CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat_tokenizer():
    """Word pieces and ChatML: a turn ends with another token than a text."""
    tokenizer = word_pieces()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def save_model(architecture: str, folder: Path, tokenizer=None) -> str:
    """Writes a small random model: Qwen2 with word pieces, others with whole words as tokens."""
    if tokenizer is None:
        # transformers reads whatever tokenizer a Qwen2 comes with as word pieces.
        tokenizer = word_pieces() if architecture == "qwen2" else build_tokenizer(MAX_LENGTH)
    shared = {
        "vocab_size": len(tokenizer),
        "initializer_range": 0.08,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
    }
    rotary = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": MAX_LENGTH,
    }
    kept = torch.get_rng_state()
    torch.manual_seed(0)
    model: PreTrainedModel
    if architecture == "llama":
        model = LlamaForCausalLM(LlamaConfig(**shared, **rotary))
    elif architecture == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**shared, **rotary))
    else:
        sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": MAX_LENGTH}
        model = GPT2LMHeadModel(GPT2Config(**shared, **sizes))
    with torch.no_grad():  # biases and norms start at 0 and 1, which hides mistakes
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    torch.set_rng_state(kept)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def random_ids(length: int, seed: int) -> list[int]:
    """Token ids without special ones."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, 500, (length,), generator=generator).tolist()


def dataset(lengths: list[int], seed: int) -> list[Example]:
    """Training sequences of given lengths."""
    return [Example(tuple(random_ids(n, 1000 * seed + i))) for i, n in enumerate(lengths)]


def new_bank(learner: Learner, seeds: list[int], lora: LoraConfig = LORA) -> AdapterBank:
    """Freshly initialized adapters."""
    bank = AdapterBank(find_targets(learner.model, lora), lora, len(seeds), learner.device)
    bank.initialize(seeds)
    return bank


def scrambled_bank(learner: Learner, count: int, lora: LoraConfig = LORA) -> AdapterBank:
    """Adapters that change a lot: neither of their matrices is zero."""
    bank = new_bank(learner, list(range(count)), lora)
    generator = torch.Generator().manual_seed(5)
    for views in bank.matrices.values():
        for matrix in views:
            matrix += 0.2 * torch.randn(matrix.shape, generator=generator)
    return bank


def weights_hash(model: nn.Module) -> str:
    """Identifies all weights of a model, to the bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


class Parity(Biographies):
    """Grades by the length of an answer, so that even a random model is right now and then."""

    def grade(self, problem, answers):
        return [len(answer) % 2 == 1 for answer in answers]


class OneQuestion(Biographies):
    """The same people, and one question about each."""

    answer_tokens = 1

    def problem(self, split, index):
        problem = super().problem(split, index)
        return replace(problem, questions=problem.questions[:1])


class NoQuestions(Biographies):
    """The same people, and nothing is asked about them."""

    has_questions = False

    def problem(self, split, index):
        return replace(super().problem(split, index), questions=())


class Failing:
    """Raises KeyboardInterrupt in the middle of a pass, while adapters are attached."""

    def __init__(self, learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
        self.learner, self.attached = learner, False
        real, calls = AdapterBank.adapter, []

        def adapter(bank: AdapterBank, *args):
            calls.append(1)
            if len(calls) == 3 * len(bank.targets) + 2:  # the second module of a fourth pass
                self.attached = self._changed()
                raise KeyboardInterrupt
            return real(bank, *args)

        monkeypatch.setattr(AdapterBank, "adapter", adapter)

    def _changed(self) -> bool:
        return any("forward" in vars(module) for module in self.learner.model.modules())

    def check(self) -> None:
        """Nothing is attached any more, where something had been."""
        assert self.attached is (self.learner.decoder is None)  # else its layers are not called
        assert not self._changed()


def quick_grpo(folder: Path, **settings):
    """Settings of TRL's GRPO for groups of two texts of four tokens, logged at each step."""
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(folder),
        num_generations=2,
        max_completion_length=4,
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        report_to="none",
        logging_steps=1,
        disable_tqdm=True,
        **settings,
    )
