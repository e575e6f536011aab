"""The prompts by which a policy is asked, as texts."""

import pytest

from seal_env.engine.rendering import Content
from seal_env.errors import UserError
from seal_env.prompts import PROMPTS, edit_prompt, render_prompt

SEAL_PROMPTS = ["implications", "implications-long", "implications-very-long", "rewrite", "self-qa"]


def test_notes_is_exactly_what_the_tiny_model_knows():
    assert render_prompt("notes", "Ada", "Ada was born.") == "Ada was born.\nNotes:\n"


def test_seal_prompts_are_there_and_differ():
    assert set(PROMPTS) == {"notes", "notes-qa", "directives", "short-qa", *SEAL_PROMPTS}
    assert len({render_prompt(name, "T", "C") for name in PROMPTS}) == len(PROMPTS)


@pytest.mark.parametrize("name", SEAL_PROMPTS)
def test_base_prompt_holds_title_and_context_and_ends_in_a_cue(name):
    prompt = render_prompt(name, "Rivers", "The {Elbe} is long.")
    assert "Passage:\nRivers\nThe {Elbe} is long.\n\n" in prompt
    assert prompt.rstrip().endswith((":", "1:"))
    assert "Passage:\nC\n\n" in render_prompt(name, "", "C")


@pytest.mark.parametrize("name", SEAL_PROMPTS)
def test_the_cue_can_be_left_out(name):
    prompt = "".join(edit_prompt(name, "Rivers", "One.\n\nTwo.", cue=False))
    assert prompt.startswith("Let's read")
    assert prompt.endswith("Passage:\nRivers\nOne.\n\nTwo.")


def test_a_prompt_that_is_all_cue_keeps_it():
    assert "".join(edit_prompt("notes", "T", "C", cue=False)) == "C\nNotes:\n"


@pytest.mark.parametrize("name", PROMPTS)
def test_the_context_is_what_may_be_cut(name):
    parts = edit_prompt(name, "T", "{title} and {context}")
    assert [p for p in parts if isinstance(p, Content)] == ["{title} and {context}"]


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r"'summary'.*notes.*implications-very-long.*self-qa"):
        render_prompt("summary", "T", "C")
