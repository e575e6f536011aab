"""Tokenizers of the embedded models: one token per word of their worlds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from seal_env.edits.directive_model import MOST_EPOCHS, STRATEGIES, TOOLS, tool_key
from seal_env.tasks.biographies.people import (
    ATTRIBUTES,
    FIRST_NAMES,
    INTRODUCTIONS,
    LAST_NAMES,
    REMARKS,
)
from seal_env.tasks.grids.families import REMARKS_ON
from seal_env.tasks.grids.grid import COLORS, INPUT, OUTPUT

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
EXTRA = ("Question", "Answer", "Notes", "Passage", ":", ".", "?", ",", "\n", "this", "This")
LEARNING_RATES = ("0.0001", "0.0003", "0.001", "0.003", "0.01", "0.03", "0.1")
"""Learning rates that the grid tokenizer has a word for."""


def vocabulary() -> list[str]:
    """Special tokens, and all words of the world's sentences."""
    words: set[str] = set(EXTRA) | set(FIRST_NAMES) | set(LAST_NAMES)
    templates = [*INTRODUCTIONS, *REMARKS]
    for attribute in ATTRIBUTES:
        words.update(attribute.values)
        templates += [*attribute.passages, *attribute.statements, *attribute.questions]
    for template in templates:
        found = re.findall(r"\w+", re.sub(r"\{\w+\}", " ", template))
        words.update(found)
        words.update(word[0].upper() + word[1:] for word in found[:1])
    return [*SPECIAL, *sorted(words)]


def build_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """Word-level tokenizer: words, punctuation marks and line breaks are tokens.

    Decoding joins words with spaces, without a space before punctuation, and keeps line breaks, so
    that generated text has the form of the training text.

    Args:
        max_length: Length of the model's longest input, in tokens.
    """
    split: list[pre_tokenizers.PreTokenizer] = [pre_tokenizers.Punctuation("isolated")]
    joined: list[decoders.Decoder] = [decoders.Replace(" :", ":")]
    return _word_level(vocabulary(), split, joined, max_length)


def build_grid_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """Tokenizer of grids and of directives in JSON.

    A token is a cell, a label such as ``Input:``, a line break, a bracket or comma of JSON, a
    key with its colon, or a value. Decoding gives JSON in the form of `json.dumps`.

    Args:
        max_length: The model's longest input, in tokens.
    """
    tight = [(opening + " ", opening) for opening in "{["] + [(" " + end, end) for end in "}]"]
    split: list[pre_tokenizers.PreTokenizer] = [
        pre_tokenizers.Split(Regex(r"[{}\[\],]"), "isolated")
    ]
    joined: list[decoders.Decoder] = [decoders.Replace(apart, one) for apart, one in tight]
    return _word_level(grid_vocabulary(), split, joined, max_length)


def grid_vocabulary() -> list[str]:
    """All tokens of `build_grid_tokenizer`, the special ones first."""
    keys = ["data_generation", *map(tool_key, TOOLS), "training", "strategy", "learning_rate"]
    keys += ["num_train_epochs", "layers", "data"]
    return [
        *SPECIAL,
        "\n",
        "|",
        *(INPUT, OUTPUT, "Directives:"),
        *dict.fromkeys(word for text in REMARKS_ON.values() for word in text.split()),
        *map(str, range(COLORS)),
        *"{}[],",
        *(f'"{key}":' for key in keys),
        *("true", "false"),
        *(f'"{strategy}"' for strategy in STRATEGIES),
        *LEARNING_RATES,
        # Epochs; numbers of one digit are cells.
        *map(str, range(COLORS, MOST_EPOCHS + 1)),
    ]


def _word_level(
    words: Sequence[str],
    split: Sequence[pre_tokenizers.PreTokenizer],
    joined: Sequence[decoders.Decoder],
    max_length: int,
) -> PreTrainedTokenizerFast:
    """Tokenizer of words, which spaces separate; line breaks are words.

    Args:
        words: The vocabulary, beginning with `SPECIAL`.
        split: Further rules that separate words.
        joined: Decoding rules that remove the spaces at these separations.
        max_length: The model's longest input, in tokens.
    """
    tokens = {word: index for index, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Split(" ", "removed"),
            *split,
        ]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=True),
            decoders.Fuse(),
            decoders.Replace(" \n", "\n"),
            decoders.Replace("\n ", "\n"),
            *joined,
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
