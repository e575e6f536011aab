"""What a judge's reply says."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seal_env.grading.verdicts import read_verdict

YES = [
    "yes",
    " **Yes**\n",
    "YES.",
    '"yes"',
    "Yes, because both name the same town.",
    "Yes - the student is right.",
    "Yes\n\nThe gold answer is Otrar, and no other town is named.",
    "<think>It says no more. No? Hmm, it is the same.</think>\nyes",
    "<think>\nno\n</think>\n\n**Yes.**",
    "no</think>yes",
    "<thinking>no</thinking> yes",
    "[THINK]no[/THINK]yes",
    "◁think▷no◁/think▷yes",
    "<|channel|>analysis<|message|>No...<|end|><|start|>assistant<|channel|>final<|message|>yes",
    "The student names the right town. Verdict: yes",
    "The answers agree.\n\nFinal answer: **Yes**",
    "They mean the same, so yes.",
    "The names differ in spelling only. Yes.",
    "Verdict: yes, since both say Otrar.",
    '{"verdict": "yes"}',
    '```json\n{"reason": "no word differs", "correct": true}\n```',
    '{"is_correct": true}',
    "$\\boxed{yes}$",
    "\\boxed{\\text{Yes}}",
    "# Verdict\n\nThe verdict is **yes**.",
    "<answer>yes</answer>",
    "yes<|im_end|>",
]
NONE = [
    "",
    "maybe",
    "yes and no",
    "Yes or no?",
    "yesterday",
    "No doubt he is",
    "I cannot say yes to that",
    "<think>It is the same, so yes",
    "<think>yes</think>",
    "<|channel|>analysis<|message|>yes",
    "Yes. But on reflection: no",
    "Verdict: yes\nVerdict: no",
    "yes\nno",
]


@pytest.mark.parametrize("reply", YES)
def test_yes(reply):
    assert read_verdict(reply) is True


@pytest.mark.parametrize("reply", YES)
def test_no(reply):
    swapped = {"yes": "no", "no": "yes", "true": "false", "Yes": "No", "No": "Yes", "YES": "NO"}
    words = re.split(rf"\b({'|'.join(swapped)})\b", reply)
    assert read_verdict("".join(swapped.get(word, word) for word in words)) is False


@pytest.mark.parametrize("reply", NONE)
def test_neither(reply):
    assert read_verdict(reply) is None


@pytest.mark.slow
@given(st.text() | st.lists(st.sampled_from([*NONE, *YES, "<", "|", "{", "\n"])).map(" ".join))
def test_any_reply_is_read(reply):
    assert read_verdict(reply) in (True, False, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", ["<", "<|", "<think>", "yes ", "no", "* ", "the ", "\n", "is ", ":"]
)
def test_a_long_reply_is_read(unit):
    assert read_verdict(unit * (1_000_000 // len(unit))) in (True, False, None)
