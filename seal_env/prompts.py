"""What a policy and a learner read: the prompts, plain or as a turn of a chat.

The five prompts for real passages ask for what SEAL's ask for (arXiv 2506.10943, appendix B:
implications, longer lists of them, rewrites, question-answer pairs). A base model continues a
text, so its prompt ends in a cue, such as "Implications:". An instruct model is asked in a
user turn under its own chat template, and there the cue is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from seal_env.errors import UserError

_PASSAGE = "Passage:\n{title}\n{context}\n\n"

PROMPTS: Mapping[str, str] = MappingProxyType(
    {
        # What the embedded tiny model was pretrained on.
        "notes": "{context}\nNotes:\n",
        # What the embedded model of grids was pretrained on; a demonstration ends its own line.
        "directives": "{context}\nDirectives:\n",
        "implications": (
            "Let's read the passage below and write a list of implications that follow from "
            f"it, directly or indirectly.\n\n{_PASSAGE}Implications:\n"
        ),
        "implications-long": (
            "Let's read the passage below and write a long list of implications that follow "
            f"from it, directly or indirectly.\n\n{_PASSAGE}Implications:\n"
        ),
        "implications-very-long": (
            "Let's read the passage below and write a very long list of implications that "
            f"follow from it, directly or indirectly.\n\n{_PASSAGE}Implications:\n"
        ),
        "rewrite": (
            "Let's read the passage below and rewrite it in several different ways, with a "
            f"line of --- between them.\n\n{_PASSAGE}Rewritten passages:\n"
        ),
        "self-qa": (
            "Let's read the passage below and rewrite it as questions, each followed by its "
            f"answer.\n\n{_PASSAGE}Question 1: "
        ),
    }
)
"""Prompt name to template, with the fields `title` and `context`."""


def render_prompt(
    name: str, title: str, context: str, tokenizer: Any = None, chat: bool | None = None
) -> str:
    """What a policy reads in order to write a self-edit.

    Args:
        name: A key of `PROMPTS`.
        title: The problem's title; may be empty.
        context: The problem's context.
        tokenizer: The policy's tokenizer; only its chat template is used.
        chat: Whether to ask in a chat turn; by default, if the tokenizer has a chat template.

    Returns:
        The prompt's text. A chat template writes its own special tokens, so tokenize a prompt
        from a chat with ``add_special_tokens=False``.

    Raises:
        UserError: The name is unknown, or a chat was asked for without a usable template.
    """
    if name not in PROMPTS:
        raise UserError(f"unknown prompt {name!r}: known: {', '.join(PROMPTS)}")
    template = PROMPTS[name]
    if not title:
        template = template.replace("{title}\n", "")
    if not uses_chat(tokenizer, chat):
        return template.format(title=title, context=context)
    # The last paragraph is the cue that tells a base model where to begin.
    request = template.rpartition("\n\n")[0] or template
    return _user_turn(request.format(title=title, context=context), tokenizer)


def render_question(prompt_text: str, tokenizer: Any = None, chat: bool | None = None) -> str:
    """What a learner reads in order to answer: a closed-book prompt, as a chat turn if it has one.

    Args:
        prompt_text: What `Task.question_prompt` returned.
        tokenizer: The learner's tokenizer.
        chat: As in `render_prompt`; the same holds for tokenizing the result.

    Raises:
        UserError: A chat was asked for without a usable template.
    """
    return _user_turn(prompt_text, tokenizer) if uses_chat(tokenizer, chat) else prompt_text


def uses_chat(tokenizer: Any, chat: bool | None) -> bool:
    """Whether prompts are chat turns.

    Raises:
        UserError: A chat was asked for, but the tokenizer has no chat template.
    """
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if chat and not has_template:
        raise UserError(
            "chat prompts were asked for, but the model's tokenizer has no chat template; "
            "use an instruct model or leave the chat setting out"
        )
    return has_template if chat is None else chat


def _user_turn(text: str, tokenizer: Any) -> str:
    """Wraps a text as the user's turn, up to where the model's own turn begins."""
    # One user turn and no system turn: some templates (Gemma's) refuse a system turn.
    messages = [{"role": "user", "content": text.strip()}]
    try:
        # Models that think aloud are asked not to: a self-edit or a short answer is wanted.
        # Templates that know no such switch ignore it.
        rendered = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    except Exception as error:  # templates are Jinja programs and raise what they like
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"the model's chat template failed ({reason}); use plain prompts instead"
        ) from error
    return str(rendered)
