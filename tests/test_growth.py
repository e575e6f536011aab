"""Every reader of foreign text takes time in proportion to its length, whatever it holds.

A text eight times as long may take some three times as long again as eight times the time; what is
quadratic takes 64 times. Only texts that take long at all are measured twice, so the result does
not depend on the machine.
"""

import functools
import time

import pytest

from seal_env.edits import EDITS, directives
from seal_env.edits.training_data import TrainingData, TrainingDataConfig
from seal_env.edits.weights import Weights, WeightsConfig
from seal_env.engine.loading import load_learner
from seal_env.errors import UserError
from seal_env.tasks.biographies.edits import classify
from seal_env.tasks.biographies.task import Biographies
from seal_env.tasks.grids.few_shot import FewShot
from seal_env.tasks.grids.grid import parse_demonstrations
from seal_env.tasks.grids.tiny_grids import TinyGrids
from seal_env.tasks.multiple_choice import MultipleChoice
from seal_env.tasks.squad import Squad

SHORT, FACTOR, MOST = 2_500, 8, 24
"""Characters of a text, how many times as long the other is, and how many times its time."""
QUICK = 0.05
"""Seconds below which the longer text is not looked at any further."""
NO_BOUND = 10**9

UNITS = (
    *"{}[]\"'\\9.-+,;:*`|e_ \t\n\r\x00\x85\u0301\u0130\ud800é😀",
    *r'[[ {[ {} [] \" "\ A: a* -, 1e9, "" ", {" {"a": "a":1, NaN, layers. [0,0] here: ans:'.split(),
    *r'{"data": {"data":["x"]} {"training":{}} {"question":"Q","choices":["a","b"]},'.split(),
    *("a ", " \n", "- ", "1. ", "A:\n", "{ ", "add ", "by ", "row 1 ", "[1,2] ", "here is:"),
    *("answer: ", "---\n", "1 | ", ". A", "a,b,c,A\n", "Input: 1 2\nOutput: 2 1\n"),
)
BEGINNINGS = (
    *("", "add ", "scale layer 1 by ", "scale layer 1 by 1.", "set layers.0.mlp.down_proj["),
    *("A:", "sure ", "here is ", '{"data":["', '{"data":[', '{"training":{"learning_rate":0.'),
)
ENDS = ("", "x", '"]}')


@functools.cache
def problem():
    return Biographies().problem("train", 0)


@functools.cache
def readers():
    """What reads texts of a policy, with bounds on their length out of the way."""
    learner = load_learner("tiny", device="cpu")
    languages = {name: EDITS.load(name)() for name in EDITS}
    languages["weights"] = Weights(
        WeightsConfig(max_characters=NO_BOUND, max_instructions=NO_BOUND)
    )
    languages["training-data"] = TrainingData(
        TrainingDataConfig(pairs="asked", max_characters=NO_BOUND, max_sequences=NO_BOUND)
    )
    for language in languages.values():
        language.bind(learner, Biographies())
    found = {
        name: functools.partial(lambda language, text: language.parse(text, problem()), language)
        for name, language in languages.items()
    }
    return found | {
        "style of biographies": classify,
        "style of grids": TinyGrids().style,
        "demonstrations": parse_demonstrations,
    }


def seconds(read, text, times):
    """Processor time, the least of some tries."""
    best = NO_BOUND
    for _ in range(times):
        start = time.process_time()
        read(text)
        best = min(best, time.process_time() - start)
    return best


def check(read, beginning, unit, end):
    short, long = (beginning + unit * (size // len(unit)) + end for size in (SHORT, SHORT * FACTOR))
    if seconds(read, long, 1) < QUICK:
        return
    ratio = seconds(read, long, 2) / max(seconds(read, short, 5), 1e-4)
    assert ratio < MOST, f"{beginning!r} + {unit!r} * n + {end!r}: {ratio:.0f} times"


OTHERS = ("style of biographies", "style of grids", "demonstrations")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*EDITS, *OTHERS])
def test_what_a_policy_writes(monkeypatch, name):
    monkeypatch.setattr(directives, "MOST_CHARACTERS", NO_BOUND)
    for unit in UNITS:
        for beginning in BEGINNINGS:
            for end in ENDS:
                check(readers()[name], beginning, unit, end)


def test_many_instructions_that_all_count(monkeypatch):
    read = readers()["weights"]
    lines = [f"add 1e-9 to layers.0.mlp.down_proj[{i % 192}, {i // 192}]\n" for i in range(2400)]
    assert not read("".join(lines[:300])).error
    ratio = seconds(read, "".join(lines), 1) / seconds(read, "".join(lines[:300]), 3)
    assert ratio < MOST


FILES = {"squad": Squad, "multiple-choice": MultipleChoice, "few-shot": FewShot}
OPENINGS = {
    ".json": r"""[ { [{ [" {"a": {"data":[{"paragraphs":[{"context":" [{"context":"
        [{"context":"c","questions":[ {"question":"Q","choices":[ {"train":[{"input":[""".split(),
    ".csv": [
        "",
        '"',
        "context,question,answer\n",
        "question,A,B,answer\n",
        'question,A,B,answer\n"',
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", OPENINGS)
@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path, name, suffix):
    path = tmp_path / f"data{suffix}"

    def read(text):
        path.write_text(text, "utf-8", "replace")
        try:
            FILES[name](str(path))
        except UserError as error:
            assert str(error).isprintable() and len(str(error)) < 1000

    for unit in UNITS:
        for opening in OPENINGS[suffix]:
            for end in ("", "]", '"}]'):
                check(read, opening, unit, end)
