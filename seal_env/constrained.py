"""Constrained decoding: generation limited to texts of a given form.

A `PatternConstraint` is a regular expression; for every generated text it starts a `PatternGuide`,
which gives the allowed tokens before each step. The implementation is llguidance (Moskal et al.,
github.com/guidance-ai/llguidance), installed by the extra `constrained`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from seal_env.engine.rendering import TOKENIZING
from seal_env.errors import UserError

try:
    import llguidance
    from llguidance import hf as llguidance_hf
    from llguidance import numpy as llguidance_numpy
except ImportError:  # an extra
    INSTALLED = False
else:
    INSTALLED = True

_NEUTRAL = "0"
"""Text after which a token is decoded to find the bytes that it adds."""


class PatternConstraint:
    """Texts that match a regular expression, in a tokenizer's tokens.

    A byte-level or SentencePiece tokenizer can spell every text. A word-level tokenizer has only
    its words, with spaces between them: it can write texts of these words, if the form allows the
    spaces.

    Args:
        tokenizer: Tokenizer of the generating model.
        pattern: Regular expression that whole texts match (Rust's `regex` syntax).
        vocabulary: Number of the model's logits, at least the number of the tokenizer's tokens.
        stop_ids: Ids that end a text; by default the tokenizer's end token.

    Raises:
        UserError: llguidance is not installed, or does not support the pattern.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        pattern: str,
        vocabulary: int,
        stop_ids: Sequence[int] | None = None,
    ) -> None:
        if not INSTALLED:
            raise UserError(
                "constrained decoding needs llguidance: pip install 'seal-env[constrained]'"
            )
        stops = [tokenizer.eos_token_id] if stop_ids is None else [int(i) for i in stop_ids]
        if not stops or None in stops:
            raise UserError("constrained decoding: the model has no token that ends a text")
        self.vocabulary = vocabulary
        self._stops = stops
        with TOKENIZING:
            self._tokens, self._spells_all = _read_tokenizer(tokenizer, vocabulary, stops)
        self._grammar = llguidance.LLMatcher.grammar_from_regex(pattern)
        if problem := llguidance.LLMatcher.validate_grammar(self._grammar, self._tokens):
            raise UserError(f"constrained decoding: {' '.join(problem.split())}")

    def start(self) -> PatternGuide:
        """Guide of one new text."""
        matcher = llguidance.LLMatcher(self._tokens, self._grammar, log_level=0)
        return PatternGuide(matcher, self.vocabulary, self._stops, look_ahead=not self._spells_all)


class PatternGuide:
    """State of the constraint on one text while it is generated."""

    def __init__(
        self, matcher: Any, vocabulary: int, stops: Sequence[int], look_ahead: bool
    ) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._stops = stops
        self._look_ahead = look_ahead
        self._bits = llguidance_numpy.allocate_token_bitmask(1, vocabulary)

    def allowed(self) -> np.ndarray:
        """Whether each token may come next, bool, shape (vocabulary,).

        The end tokens are allowed once the text matches.

        Raises:
            UserError: No token is allowed, and the text does not match.
        """
        allowed = self._next(self._matcher)
        if self._look_ahead:
            for token in np.setdiff1d(np.flatnonzero(allowed), self._stops):
                ahead = self._matcher.deep_copy()
                ahead.consume_token(int(token))
                allowed[token] = self._next(ahead).any()
        if not allowed.any():
            raise UserError(
                "constrained decoding: the model's tokenizer has no token that could come next; "
                "it cannot spell what the self-edit language asks for"
            )
        return allowed

    def _next(self, matcher: Any) -> np.ndarray:
        llguidance_numpy.fill_next_token_bitmask(matcher, self._bits, 0)
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")
        # A matcher that found out only now that nothing can follow leaves an end token allowed.
        return bits[: self._vocabulary].astype(bool) & (not matcher.is_error())

    def take(self, token: int) -> None:
        """Advances by a token that `allowed` permits."""
        self._matcher.consume_token(int(token))


def _read_tokenizer(
    tokenizer: PreTrainedTokenizerBase, vocabulary: int, stops: Sequence[int]
) -> tuple[Any, bool]:
    """Bytes of each token for llguidance, and whether they can spell any text."""
    try:
        fast = cast(PreTrainedTokenizerFast, tokenizer)
        return llguidance_hf.from_tokenizer(fast, vocabulary, list(stops)), True
    except ValueError:  # llguidance supports byte-level and SentencePiece tokenizers
        spelled = _Spelled(tokenizer, vocabulary, stops[0])
        wrapper = llguidance.TokenizerWrapper(spelled)
        return llguidance.LLTokenizer(wrapper, n_vocab=vocabulary, eos_token=list(stops)), False


class _Spelled:
    """Any other tokenizer: the bytes that each token adds to a decoded text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int, stop: int) -> None:
        decode: Callable[[list[int]], str] = tokenizer.decode  # type: ignore[assignment]
        neutral = tokenizer(_NEUTRAL, add_special_tokens=False)["input_ids"][:1]
        before = decode(neutral)
        special = set(tokenizer.all_special_ids)
        self.tokens = [b""] * vocabulary
        for token in range(min(len(tokenizer), vocabulary)):
            whole = decode([*neutral, token])
            if token not in special and whole.startswith(before):
                self.tokens[token] = whole[len(before) :].encode("utf-8")
        self.eos_token_id = stop
        self.bos_token_id = None
        self.special_token_ids = sorted(special | {stop})

    def __call__(self, text: bytes | str) -> list[int]:
        """No tokens: what llguidance asks this for, shortening forced text, is not used here."""
        return []
