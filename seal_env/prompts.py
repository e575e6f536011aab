"""The prompts by which a policy is asked for self-edits, as texts.

The five prompts for real passages ask for the same as SEAL's (arXiv 2506.10943, appendix B:
implications, longer lists of them, rewrites, question-answer pairs). A base model continues a
text, so its prompt ends in a cue, such as "Implications:". An instruct model is asked in a
user turn under its own chat template, without the cue. `seal_env.engine.rendering` converts prompts
to tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from seal_env.engine.rendering import Content, Rendered, Renderer
from seal_env.errors import UserError

_PASSAGE = "Passage:\n{title}\n{context}\n\n"

PROMPTS: Mapping[str, str] = MappingProxyType(
    {
        # What the embedded tiny model was pretrained on.
        "notes": "{context}\nNotes:\n",
        # The beginning of those notes of it that are questions.
        "notes-qa": "{context}\nNotes:\nQuestion:",
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
        # What is asked for in a form that can be read; small models forget it behind a passage.
        "short-qa": (
            "Passage:\n{title}\n{context}\n\nWrite short questions about facts in the passage. "
            'Put each on a line of its own after "Question:", and its answer, a few words copied '
            'from the passage, on the next line after "Answer:".\n\nQuestion:'
        ),
    }
)
"""Templates with the fields `title` and `context`, by name."""


def edit_prompt(name: str, title: str, context: str, cue: bool = True) -> tuple[str, ...]:
    """Prompt for a self-edit, in parts.

    Args:
        name: A key of `PROMPTS`.
        title: The problem's title; may be empty.
        context: The problem's context, the part that is `Content`.
        cue: Whether the prompt has its last paragraph, the cue for a base model.

    Raises:
        UserError: The name is unknown.
    """
    if name not in PROMPTS:
        raise UserError(f"unknown prompt {name!r}: known: {', '.join(PROMPTS)}")
    template = PROMPTS[name]
    if not cue:
        template = template.rpartition("\n\n")[0] or template
    template = template.replace("{title}", title) if title else template.replace("{title}\n", "")
    before, _, after = template.partition("{context}")
    return before, Content(context), after


def render_prompt(name: str, title: str, context: str) -> str:
    """`edit_prompt` as one plain text."""
    return "".join(edit_prompt(name, title, context))


def prompt_tokens(
    renderer: Renderer,
    name: str,
    context: str,
    room: int | None = None,
    chat: bool | None = None,
) -> Rendered:
    """`edit_prompt` in a model's tokens.

    Args:
        renderer: Renderer of the model.
        name: A key of `PROMPTS`.
        context: Observation's ``context``.
        room: Bound on the tokens; None for the model's longest input.
        chat: Whether it is a chat turn, as in `Renderer.uses_chat`.

    Raises:
        DoesNotFit: The instruction is longer than the room.
        UserError: The name is unknown, or the chat template is missing or fails.
    """
    parts = edit_prompt(name, "", context, cue=not renderer.uses_chat(chat))
    return renderer.prompt(parts, room, chat)
