"""Rendering: token ids of every prompt, answer and training sequence.

A prompt is a frame (begin token, chat header, instruction, question, cue) around contents (a
passage, demonstrations). A prompt that is too long is cut by one rule: contents lose their middles,
the longest of them first, and the frame is never cut.

Texts from data stay texts. A passage that spells a special token is read as its characters, also
inside a chat turn, where only the chat template's own special tokens count; so is one that spells a
token for which the model has no row of weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seal_env.engine.chat import ChatTemplate
from seal_env.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = "a"
"""Text that is tokenized to find the special tokens around it."""
TOKENIZING = RLock()
"""Lock around every use of a tokenizer: a call stores its settings (whether spelled special tokens
are read as such) in the tokenizer, where another thread's call would use them."""


class Content(str):
    """Part of a prompt that may lose its middle if the whole prompt is too long.

    All other parts are the frame (instruction, question, cue), which is never cut.
    """


class DoesNotFit(UserError):
    """The frame of a prompt is longer than the room for the prompt."""


class Rendered(NamedTuple):
    """A prompt in tokens."""

    ids: list[int]
    """Token ids, never empty."""
    cut: int
    """Number of tokens that were cut from the contents."""


class _Written(NamedTuple):
    """A prompt as one text; ranges are of characters."""

    text: str
    """The prompt with the chat template's text."""
    said: range
    """Range without the chat template's text."""
    contents: tuple[range, ...]
    """Ranges that may be cut."""


class Renderer:
    """Conversion of texts to a model's token ids.

    Args:
        tokenizer: The model's tokenizer.
        name: The model's name, for messages.
        rows: Number of tokens with weights in the model; the tokenizer may have more.
        max_length: The model's longest input, in tokens.
        ends: Ids of the tokens that end a text by the model's generation settings.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        rows: int,
        max_length: int,
        ends: Sequence[int] = (),
    ) -> None:
        self.tokenizer, self.name = tokenizer, name
        self.rows, self.max_length = rows, max_length
        before, behind = _around_texts(tokenizer)
        end = self._known(tokenizer.eos_token_id) or self._known(*behind)[:1]
        self._template = ChatTemplate(tokenizer)
        self._control = _control_tokens(tokenizer, self._template.source)
        stops = {*self._known(*ends), *end}
        # Some models have one token for the end of a text and for what is unknown.
        self._unknown = [i for i in self._known(tokenizer.unk_token_id) if i not in stops]
        self._control -= set(self._unknown)
        self._spellings: dict[int, list[int]] = {}
        self._begin = self._known(*before)
        self._filler = [*self._known(tokenizer.bos_token_id), *end, 0][:1]
        self.end_ids = end
        """Ids at the end of a plain text; empty if there is no such token."""
        self.turn_end_ids = self._turn_end() or end
        """Ids at the end of a chat turn under the chat template; empty if there is none."""
        self.stop_ids = np.array(sorted(stops | set(self.turn_end_ids)), dtype=np.int64)
        """Ids that end a continuation."""

    def uses_chat(self, chat: bool | None = None) -> bool:
        """Whether prompts are chat turns.

        Args:
            chat: The setting; None for chat turns if the tokenizer has a chat template.

        Raises:
            UserError: Chat turns are set, but the tokenizer has no chat template.
        """
        has_template = bool(self._template.source)
        if chat and not has_template:
            raise UserError(
                "chat prompts were asked for, but the model's tokenizer has no chat template; "
                "use an instruct model or leave the chat setting out"
            )
        return has_template if chat is None else chat

    def prompt(
        self, parts: Sequence[str], room: int | None = None, chat: bool | None = None
    ) -> Rendered:
        """Prompt to be continued, which never ends in an end token.

        Args:
            parts: Text of the prompt in parts; those that are `Content` may be cut.
            room: Bound on its tokens; None for the model's longest input.
            chat: Whether it is a chat turn, as in `uses_chat`.

        Raises:
            DoesNotFit: The frame is longer than the room.
            UserError: The chat template is missing, or fails.
        """
        chat = self.uses_chat(chat)
        written = self._turn(parts) if chat else _joined(parts)
        ids, origins = self._read(written)
        if chat:  # a template without a cue for the model's turn may end in an end token
            while len(ids) > 1 and ids[-1] in self.stop_ids:
                ids.pop()
                origins.pop()
        else:
            ids, origins = self._begin + ids, [-1] * len(self._begin) + origins
        room = self.max_length if room is None else room
        over = len(ids) - room
        if over > 0:
            ids = _without_middles(ids, origins, room)
        return Rendered(ids or self._filler, max(over, 0))

    def reading(self, text: str) -> list[int]:
        """Ids of a text that is read and not continued, cut to the model's longest input."""
        return self.prompt((Content(text),), chat=False).ids

    def encode(self, text: str) -> list[int]:
        """Ids of a whole text without end token; empty for an empty text without begin token."""
        return self._begin + self._text(text)

    def document(self, text: str) -> list[int]:
        """Ids of a whole text to train on, with its end token."""
        return self.encode(text) + self.end_ids

    def answer(self, text: str, most: int | None = None) -> list[int]:
        """Ids of a text that follows a prompt, without end token, cut to `most` tokens."""
        return self._text(text)[:most]

    def scored(self, text: str, most: int | None = None, chat: bool | None = None) -> list[int]:
        """`answer`, never empty: an empty text is represented by the end token."""
        return self.answer(text, most) or self.ends(chat) or self._filler

    def ends(self, chat: bool | None = None) -> list[int]:
        """Ids that end a model's answer to a prompt; may be empty."""
        return self.turn_end_ids if self.uses_chat(chat) else self.end_ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        with TOKENIZING:
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    # ---- text -> tokens ----------------------------------------------------------------------

    def _known(self, *tokens: int | None) -> list[int]:
        """Token ids that exist and have a row in the model."""
        return [int(i) for i in tokens if i is not None and i < self.rows]

    def _call(self, text: str, control: bool) -> Any:
        """Result of the tokenizer, with spelled special tokens read as such or as text."""
        with TOKENIZING:
            return self.tokenizer(
                text, add_special_tokens=False, split_special_tokens=not control, verbose=False
            )

    def _text(self, text: str) -> list[int]:
        """Token ids of a text, none of which is a control token."""
        ids: list[int] = self._call(_clean(text), control=False)["input_ids"]
        if self._is_text(ids):
            return list(ids)
        return [i for token in ids for i in self._allowed(token, said=True)]

    def _is_text(self, ids: Sequence[int]) -> bool:
        """Whether the model has rows for all tokens, and none is a control token."""
        return all(i < self.rows and i not in self._control for i in ids)

    def _read(self, written: _Written) -> tuple[list[int], list[int]]:
        """Token ids of a prompt, and the index of the content of each, -1 for the frame."""
        ids: list[int] = []
        origins: list[int] = []
        for token, start, stop in self._tokens(written):
            said = start < written.said.stop and stop > written.said.start
            inside = (i for i, r in enumerate(written.contents) if r.start <= start < r.stop)
            origin = next((i for i in inside if stop <= written.contents[i].stop), -1)
            spelled = self._allowed(token, said)
            ids += spelled
            origins += [origin] * len(spelled)
        return ids, origins

    def _tokens(self, written: _Written) -> Iterator[tuple[int, int, int]]:
        """Tokens of a prompt, each with its range of characters."""
        text, said = written.text, written.said
        if self.tokenizer.is_fast:
            # In one piece, so that tokens may span the boundaries of parts as in training.
            found = self._call(text, control=len(said) < len(text))
            for token, (start, stop) in zip(found["input_ids"], found[0].offsets, strict=True):
                yield token, start, stop
            return
        parts = (range(len(text)), said, *written.contents)
        for start, stop in pairwise(sorted({end for r in parts for end in (r.start, r.stop)})):
            control = not said.start <= start < said.stop
            for token in self._call(text[start:stop], control)["input_ids"]:
                yield token, start, stop

    def _allowed(self, token: int, said: bool) -> Sequence[int]:
        """The token, or its spelling where it is not allowed: in texts from data."""
        if token < self.rows and not (said and token in self._control):
            return (token,)
        if token not in self._spellings:
            text = str(self.tokenizer.decode([token]))
            if token >= self.rows and all(known < self.rows for known in self._spellings):
                warnings.warn(
                    f"model {self.name!r} has no weights for some tokens of its tokenizer, such as "
                    f"{text!r}; a text that spells them is read piece by piece",
                    stacklevel=2,
                )
            self._spellings[token] = self._unknown  # in case its parts lead back to it
            self._spellings[token] = self._spelled(text)
        return self._spellings[token]

    def _spelled(self, text: str) -> list[int]:
        """Token ids of the spelling of a special token: as text, or else in two pieces."""
        ids: list[int] = self._call(text, control=False)["input_ids"]
        if self._is_text(ids):
            return list(ids)
        half = (len(text) + 1) // 2
        pieces = (text[:half], text[half:]) if len(text) > 1 else ()
        return [i for piece in pieces for i in self._text(piece)] or self._unknown

    def _turn(self, parts: Sequence[str]) -> _Written:
        """Prompt as the user's turn, up to the beginning of the model's turn."""
        plain = _joined(parts)
        said = plain.text.strip()
        before, inner, behind = self._template.user_turn(said)
        place = inner.find(said)
        first = len(before) + max(place, 0)
        if place < 0:  # the template rewrote the turn, and the ranges of its parts are unknown
            contents: tuple[range, ...] = (range(first, first + len(inner)),)
        else:
            shift = first - (len(plain.text) - len(plain.text.lstrip()))
            contents = tuple(
                range(max(r.start + shift, first), min(r.stop + shift, first + len(said)))
                for r in plain.contents
            )
        whole = range(len(before), len(before) + len(inner))
        return _Written(before + inner + behind, whole, contents)

    def _turn_end(self) -> list[int]:
        """First special token after the model's turn in the chat template, if any."""
        if not self.uses_chat():
            return []
        try:
            behind = self._call(self._template.behind_answer(), control=True)["input_ids"]
        except UserError:  # raised again when the template is used
            return []
        return [i for i in self._known(*behind) if i in self._control][:1]


def _clean(text: str) -> str:
    """Text with every lone surrogate, which UTF-8 cannot encode, replaced by one character."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _joined(parts: Sequence[str]) -> _Written:
    """Parts of a prompt joined to one plain text."""
    texts = [_clean(part) for part in parts]
    starts = [sum(map(len, texts[:i])) for i in range(len(texts))]
    contents = tuple(
        range(start, start + len(text))
        for start, text, part in zip(starts, texts, parts, strict=True)
        if isinstance(part, Content)
    )
    text = "".join(texts)
    return _Written(text, range(len(text)), contents)


def _without_middles(ids: Sequence[int], origins: Sequence[int], room: int) -> list[int]:
    """Prompt with its contents cut to the room.

    Raises:
        DoesNotFit: The frame is longer than the room.
    """
    places: dict[int, list[int]] = {}
    for place, origin in enumerate(origins):
        if origin >= 0:
            places.setdefault(origin, []).append(place)
    contents = sorted(places.values(), key=len)
    frame = len(ids) - sum(map(len, contents))
    if frame > room:
        raise DoesNotFit(
            f"the prompt takes {frame} tokens without what may be cut of it, and there is room "
            f"for {max(room, 0)}"
        )
    dropped: set[int] = set()
    left = room - frame
    for done, content in enumerate(contents):
        kept = min(len(content), left // (len(contents) - done))  # the shortest first
        dropped.update(content[(kept + 1) // 2 : len(content) - kept // 2])
        left -= kept
    return [token for place, token in enumerate(ids) if place not in dropped]


def _around_texts(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Special tokens that a tokenizer puts before and after a text."""
    whole: list[int] = list(tokenizer(_PROBE)["input_ids"])
    bare: list[int] = list(tokenizer(_PROBE, add_special_tokens=False)["input_ids"])
    for start in range(len(whole) - len(bare) + 1):
        stop = start + len(bare)
        if whole[start:stop] == bare:
            return whole[:start], whole[stop:]
    return [], []


def _control_tokens(tokenizer: PreTrainedTokenizerBase, template: str) -> set[int]:
    """Ids of the tokens that are no text: special ones, and others that a chat template uses."""
    added = {
        index
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.special or (token.content in template and not token.content.isspace())
    }
    return added | set(tokenizer.all_special_ids)
