"""Chat templates: the text around the turns of a chat."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from seal_env.errors import UserError

_PROBES = ("a", "b")
"""Texts that are put into a template to find the text around them."""


class ChatTemplate:
    """The chat template of a tokenizer, if it has one.

    Templates are programs. The text around a turn is found by running one on two turns: the results
    agree except for the turn itself.

    Args:
        tokenizer: The tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.source = str(getattr(tokenizer, "chat_template", None) or "")
        """Source of the template; empty if there is none."""
        self._around: tuple[str, str] | None = None
        self._in_parts = False  # whether a turn is a list of parts, as for models with images

    def user_turn(self, said: str) -> tuple[str, str, str]:
        """Text before a user's turn, the turn itself, and the text up to the model's turn.

        Args:
            said: Text of the turn, without surrounding white space.

        Raises:
            UserError: The template fails, or omits the turn.
        """
        before, behind = self._around_user()
        whole = self._apply(said)
        if whole.startswith(before) and whole[len(before) :].endswith(behind):
            said = whole[len(before) : len(whole) - len(behind)]
        return before, said, behind

    def behind_answer(self) -> str:
        """Text after the model's turn.

        Raises:
            UserError: The template fails, or omits the turn.
        """
        self._around_user()  # finds out how the template takes a text
        return around([self._apply(_PROBES[0], probe) for probe in _PROBES])[1]

    def _around_user(self) -> tuple[str, str]:
        """Text before a user's turn, and after it.

        Raises:
            UserError: The template fails, or omits the turn.
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
        """Chat of a user's turn, and the model's if it is given."""
        # No system turn: some templates (Gemma's) refuse one.
        turns = [("user", said)] if answer is None else [("user", said), ("assistant", answer)]
        messages = [{"role": role, "content": self._content(text)} for role, text in turns]
        try:
            # Reasoning is switched off: a self-edit or a short answer is needed.
            # Templates that know no such switch ignore it.
            rendered = self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=answer is None,
                enable_thinking=False,
            )
        except Exception as error:  # templates are Jinja programs and may raise any exception
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"the model's chat template failed ({reason}); use plain prompts instead"
            ) from error
        return str(rendered)

    def _content(self, text: str) -> str | list[dict[str, str]]:
        """Content of a turn in the template's form: a text, or a list of parts."""
        return [{"type": "text", "text": text}] if self._in_parts else text


def around(texts: Sequence[str]) -> tuple[str, str]:
    """Longest common prefix and suffix of texts."""
    before = _common(texts)
    rest = [text[len(before) :][::-1] for text in texts]
    return before, _common(rest)[::-1]


def _common(texts: Sequence[str]) -> str:
    """Longest common prefix of texts."""
    columns = zip(*texts, strict=False)
    return "".join(column[0] for column in takewhile(lambda c: len(set(c)) == 1, columns))
