"""A model's chat template: what stands around the turns of a chat."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from seal_env.errors import UserError

_PROBES = ("a", "b")
"""Texts that are put into a template to see what it writes around them."""


class ChatTemplate:
    """The chat template of a tokenizer, if it has one.

    Templates are programs. What one writes around a turn is found by running it on two texts: they
    agree but for the text.

    Args:
        tokenizer: The tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.source = str(getattr(tokenizer, "chat_template", None) or "")
        """The template itself; empty if there is none."""
        self._around: tuple[str, str] | None = None
        self._in_parts = False  # whether it takes a turn as a list of parts, as some with images do

    def user_turn(self, said: str) -> tuple[str, str, str]:
        """What stands before a user's turn, the turn as it is put, and what stands behind it.

        That ends where the model's own turn begins.

        Args:
            said: What the user says, without white space around it.

        Raises:
            UserError: The template fails, or leaves out what is said.
        """
        before, behind = self._around_user()
        whole = self._apply(said)
        if whole.startswith(before) and whole[len(before) :].endswith(behind):
            said = whole[len(before) : len(whole) - len(behind)]
        return before, said, behind

    def behind_answer(self) -> str:
        """What stands behind what the model says.

        Raises:
            UserError: The template fails, or leaves out what is said.
        """
        self._around_user()  # finds out how the template takes a text
        return around([self._apply(_PROBES[0], probe) for probe in _PROBES])[1]

    def _around_user(self) -> tuple[str, str]:
        """What stands before a user's turn, and behind it.

        Raises:
            UserError: The template fails, or leaves out what is said.
        """
        if self._around is None:
            for self._in_parts in (False, True):
                first, second = (self._apply(probe) for probe in _PROBES)
                if first != second:
                    self._around = around((first, second))
                    break
            else:
                raise UserError(
                    "the model's chat template leaves out what the user says; use plain prompts "
                    "instead"
                )
        return self._around

    def _apply(self, said: str, answer: str | None = None) -> str:
        """The text of a user's turn, and of the model's if it is given."""
        # No system turn: some templates (Gemma's) refuse one.
        turns = [("user", said)] if answer is None else [("user", said), ("assistant", answer)]
        messages = [{"role": role, "content": self._content(text)} for role, text in turns]
        try:
            # Models that think aloud are asked not to: a self-edit or a short answer is wanted.
            # Templates that know no such switch ignore it.
            rendered = self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=answer is None,
                enable_thinking=False,
            )
        except Exception as error:  # templates are Jinja programs and raise what they like
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"the model's chat template failed ({reason}); use plain prompts instead"
            ) from error
        return str(rendered)

    def _content(self, text: str) -> str | list[dict[str, str]]:
        """A turn's text as the template takes it: that of a model of text and images, in parts."""
        return [{"type": "text", "text": text}] if self._in_parts else text


def around(texts: Sequence[str]) -> tuple[str, str]:
    """What texts have in common before and behind that in which they differ."""
    before = _common(texts)
    rest = [text[len(before) :][::-1] for text in texts]
    return before, _common(rest)[::-1]


def _common(texts: Sequence[str]) -> str:
    """What all texts begin with."""
    columns = zip(*texts, strict=False)
    return "".join(column[0] for column in takewhile(lambda c: len(set(c)) == 1, columns))
