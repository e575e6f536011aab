"""The embedded model's tokenizer: one token a word, built from the words of the world."""

from __future__ import annotations

import re

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from seal_env.tasks.people import ATTRIBUTES, FIRST_NAMES, INTRODUCTIONS, LAST_NAMES, REMARKS

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
EXTRA = ("Question", "Answer", "Notes", "Passage", ":", ".", "?", ",", "\n", "this", "This")


def vocabulary() -> list[str]:
    """Every word that the world's sentences can contain, after the special tokens."""
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
    """A word-level tokenizer: words, punctuation marks and line breaks are tokens.

    Decoding joins words with spaces, closes the space before punctuation, and keeps line
    breaks, so that text written by the model reads like the text it was trained on.

    Args:
        max_length: The model's longest input, in tokens.
    """
    tokens = {word: index for index, word in enumerate(vocabulary())}
    backend = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Punctuation("isolated"),
        ]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=True),
            decoders.Fuse(),
            decoders.Replace(" \n", "\n"),
            decoders.Replace("\n ", "\n"),
            decoders.Replace(" :", ":"),
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
