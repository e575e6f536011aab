"""What a policy and a learner read."""

import pytest

from seal_env.errors import UserError
from seal_env.prompts import PROMPTS, render_prompt, render_question

SEAL_PROMPTS = ["implications", "implications-long", "implications-very-long", "rewrite", "self-qa"]


class ChatTokenizer:
    """A tokenizer with a chat template, as far as prompts are concerned."""

    chat_template = "..."

    def apply_chat_template(self, messages, *, tokenize, add_generation_prompt, **_):
        assert tokenize is False
        assert add_generation_prompt is True
        turns = "".join(f"<{message['role']}>{message['content']}</>" for message in messages)
        return f"{turns}<assistant>"


class BaseTokenizer:
    chat_template = None


class BrokenTokenizer(ChatTokenizer):
    def apply_chat_template(self, *_, **__):
        raise KeyError("two\nlines")


def test_notes_is_exactly_what_the_tiny_model_knows():
    assert render_prompt("notes", "Ada", "Ada was born.") == "Ada was born.\nNotes:\n"


def test_seal_prompts_are_there_and_differ():
    assert set(PROMPTS) == {"notes", "directives", *SEAL_PROMPTS}
    assert len({render_prompt(name, "T", "C") for name in PROMPTS}) == len(PROMPTS)


@pytest.mark.parametrize("name", SEAL_PROMPTS)
def test_base_prompt_holds_title_and_context_and_ends_in_a_cue(name):
    prompt = render_prompt(name, "Rivers", "The {Elbe} is long.", BaseTokenizer())
    assert "Passage:\nRivers\nThe {Elbe} is long.\n\n" in prompt
    assert prompt.rstrip().endswith((":", "1:"))
    assert "Passage:\nC\n\n" in render_prompt(name, "", "C")


@pytest.mark.parametrize("name", SEAL_PROMPTS)
def test_instruct_models_are_asked_in_a_user_turn_without_the_cue(name):
    prompt = render_prompt(name, "Rivers", "One.\n\nTwo.", ChatTokenizer())
    assert prompt.startswith("<user>Let's read")
    assert prompt.endswith("Passage:\nRivers\nOne.\n\nTwo.</><assistant>")


def test_notes_in_a_chat():
    assert render_prompt("notes", "T", "C", ChatTokenizer()) == "<user>C\nNotes:</><assistant>"


def test_chat_can_be_switched_off_and_not_on_without_a_template():
    assert render_prompt("notes", "T", "C", ChatTokenizer(), chat=False) == "C\nNotes:\n"
    for tokenizer in (None, BaseTokenizer()):
        with pytest.raises(UserError, match="no chat template"):
            render_prompt("notes", "T", "C", tokenizer, chat=True)


def test_question_prompt():
    assert render_question("Q?\nAnswer:\n", BaseTokenizer()) == "Q?\nAnswer:\n"
    assert render_question("Q?\nAnswer:\n", ChatTokenizer(), chat=False) == "Q?\nAnswer:\n"
    assert render_question("Q?\nAnswer:\n", ChatTokenizer()) == "<user>Q?\nAnswer:</><assistant>"
    with pytest.raises(UserError, match="no chat template"):
        render_question("Q?", None, chat=True)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r"'summary'.*notes.*implications-very-long.*self-qa"):
        render_prompt("summary", "T", "C")


def test_a_template_that_fails_is_one_line():
    with pytest.raises(UserError, match=r"chat template failed") as caught:
        render_prompt("rewrite", "T", "C", BrokenTokenizer())
    assert "\n" not in str(caught.value)


def test_a_real_chat_template_of_transformers():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")))
    assert render_question("Q?", tokenizer) == "Q?"
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    assert render_question("Q?", tokenizer) == "[user] Q?\n[assistant]"
    tokenizer.chat_template = "{{ raise_exception('no user turns') }}"
    with pytest.raises(UserError, match="no user turns"):
        render_question("Q?", tokenizer)
