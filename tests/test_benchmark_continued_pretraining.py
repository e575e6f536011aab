"""`benchmarks.continued_pretraining`: one adapter for all passages, stopped and repeated."""

import json

import pytest
from agent_fixtures import quiet
from helpers import INNER

from benchmarks import continued_pretraining
from benchmarks.continued_pretraining import Args
from seal_env.config import EnvConfig
from seal_env.edits.training_data import TrainingData, TrainingDataConfig
from seal_env.errors import UserError
from seal_env.inner_loop import InnerLoop
from seal_env.tasks.biographies.task import Biographies


def args(models, out, **changes):
    env = EnvConfig(task="helpers:Parity", model=models["llama"], inner=INNER, split="test")
    given = {"passages": (1, 3), "policies": ("none", "passage"), "known": 2, "env": env}
    return Args(**given | {"out": out} | changes)


@pytest.mark.slow
def test_one_adapter_learns_all_passages_and_a_stop_changes_nothing(models, tmp_path, monkeypatch):
    found = continued_pretraining.run(args(models, tmp_path / "whole"), quiet())
    assert list(found["3"]) == ["none", "passage, joint", "passage, stream"]
    assert found["3"]["none"]["tokens"] == 0 < found["1"]["passage, joint"]["tokens"]
    joint, stream = (found["3"][f"passage, {mode}"] for mode in ("joint", "stream"))
    assert joint["tokens"] == stream["tokens"] > 2 * found["1"]["passage, joint"]["tokens"]
    assert joint["log_likelihood"] != stream["log_likelihood"]
    # Of one passage, both modes are the same but for the seed.
    one = found["1"]
    assert one["passage, joint"]["log_likelihood"] == one["passage, stream"]["log_likelihood"]
    real, calls = continued_pretraining.measured, []

    def stops(*given):
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(continued_pretraining, "measured", stops)
    with pytest.raises(KeyboardInterrupt):
        continued_pretraining.run(args(models, tmp_path / "cut"), quiet())
    assert continued_pretraining.run(args(models, tmp_path / "cut"), quiet()) == found
    assert len(calls) == 7  # the stopped one alone is repeated
    assert json.loads((tmp_path / "cut" / "table.json").read_text()) == found


def test_questions_that_are_asked_are_no_texts_here_either(llama, monkeypatch):
    task = Biographies()
    loop, problem = InnerLoop(llama, task, INNER), task.problem("train", 0)
    language = TrainingData(TrainingDataConfig(pairs="asked", passage="none"))
    language.bind(llama, task)
    given = []

    def stopped(_, sequences, *__):
        given.extend(sequences)
        raise KeyboardInterrupt

    monkeypatch.setattr(continued_pretraining, "train", stopped)
    texts = [(problem, "Where?\nA: Oslo"), (problem, None)]
    with pytest.raises(KeyboardInterrupt):
        continued_pretraining.measured(loop, language, texts, [], "joint", 0)
    assert given == [(task.asked("Where?", "Oslo"),), ()]


def test_senseless_settings_are_one_line(models, tmp_path):
    with pytest.raises(UserError, match="--passages, --batch-size and --known start at 1"):
        continued_pretraining.run(args(models, tmp_path / "out", passages=(0,)), quiet())
    assert not (tmp_path / "out").exists()
