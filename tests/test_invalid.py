"""Self-edits that cannot be carried out: counted, shown, and the end of a run of nothing else."""

import pytest
from agent_fixtures import env, lines, quiet, summary

from seal_agents import Agent
from seal_agents.reporting.invalid import ENOUGH, commonest, counted, percent, share
from seal_agents.runner.configs import EvaluateConfig, TrainConfig
from seal_agents.runner.train import evaluate, train
from seal_env.curriculum import Curriculum
from seal_env.errors import UserError


class Writer(Agent):
    """Writes instructions for `weights`; right ones where the seed is a multiple of `valid`."""

    valid = 0

    def act(self, observations, seeds):
        right = {s for s in seeds if self.valid and s % self.valid == 0}
        return [
            "scale model.layers.0.self_attn.q_proj by 1.1" if s in right else f"write {s}"
            for s in seeds
        ]


class Often(Writer):
    valid = 2


def settings(models, agent="test_invalid:Writer", **changes):
    told = {"rounds": 2, "problems": 2, "samples": 4, "test_problems": 2, "references": ("none",)}
    return TrainConfig(
        env(models["llama"], edit="weights"), agent, learner="fixed", **told | changes
    )


def test_a_run_of_nothing_but_invalid_self_edits_stops_with_a_reason(models, tmp_path):
    config = settings(models, out=tmp_path / "run")
    for resume in (False, True):
        with pytest.raises(UserError, match="round 1: all 8 self-edits so far") as error:
            train(config, resume, False, quiet())
        said = str(error.value)
        assert "no instruction" in said and "--edit weights" in said and "\n" not in said
        assert len(lines(tmp_path / "run")) == 8
    assert not (tmp_path / "run" / "summary.json").exists()


def test_few_self_edits_are_not_enough_to_stop_before_the_end(models, tmp_path):
    few = settings(models, problems=1, samples=2, rounds=3, out=tmp_path / "few")
    assert few.rounds * few.samples < ENOUGH
    with pytest.raises(UserError, match="round 3: all 6 self-edits so far"):
        train(few, False, False, quiet())
    more = settings(models, problems=1, samples=3, rounds=5, out=tmp_path / "more")
    with pytest.raises(UserError, match="round 3: all 9 self-edits so far"):
        train(more, False, False, quiet())


@pytest.mark.slow
def test_a_run_with_some_valid_self_edits_goes_on_and_says_how_many(models, tmp_path):
    said = quiet()
    train(settings(models, "test_invalid:Often", out=tmp_path / "run"), False, False, said)
    tried = [r for r in lines(tmp_path / "run") if r["phase"] == "train" and r["round"] == 1]
    wrong = sum(bool(r["error"]) for r in tried)
    assert 0 < wrong < len(tried) == 8
    row = summary(tmp_path / "run")["rows"]["trained"]
    assert row["written"] == 2 and percent(share(row)) in said.file.getvalue()
    assert f"round 1: {wrong} of 8 self-edits were invalid" in said.file.getvalue() or wrong < 4


def test_who_writes_nothing_has_no_share(models, tmp_path):
    train(settings(models, "none", out=tmp_path / "run"), False, False, quiet())
    row = summary(tmp_path / "run")["rows"]["trained"]
    assert (row["written"], row["errors"], share(row), percent(share(row))) == (0, 0, None, "")


@pytest.mark.parametrize("agent", ["rest-em", "grpo", "ppo", "best-of-n", "base"])
def test_a_language_of_vectors_is_refused_to_language_models_at_once(models, tmp_path, agent):
    config = TrainConfig(
        env(models["llama"], edit="subspace"), agent, learner="fixed", out=tmp_path / "run"
    )
    from seal_agents.runner.build import agent_class

    config = TrainConfig(**{**config.__dict__, "options": agent_class(agent).Options()})
    with pytest.raises(UserError, match="--edit subspace: its self-edits are vectors"):
        train(config, False, False, quiet())
    assert not (tmp_path / "run").exists()


class Vectors(Agent):
    def act(self, observations, seeds):
        return ["0.5 " * 8 for _ in seeds]


def test_an_agent_of_ones_own_writes_vectors(models, tmp_path):
    told = {"rounds": 1, "problems": 2, "samples": 1, "test_problems": 2, "out": tmp_path / "run"}
    train(
        TrainConfig(env(models["llama"], edit="subspace"), "test_invalid:Vectors", **told),
        False,
        False,
        quiet(),
    )
    rows = summary(tmp_path / "run")["rows"]
    assert list(rows) == ["none", "trained"] and rows["trained"]["errors"] == 0


def test_an_evaluation_tells_whose_self_edits_are_invalid(models, tmp_path):
    said = quiet()
    config = EvaluateConfig(
        ("none", "passage", "test_invalid:Vectors"),
        env(models["llama"], edit="subspace"),
        problems=3,
        out=tmp_path / "run",
    )
    evaluate(config, False, False, said)
    shown = " ".join(said.file.getvalue().split())
    assert "note: passage: 3 of 3 self-edits were invalid" in shown
    assert "100%" in shown and "0%" in shown


def test_errors_of_a_kind_differ_in_numbers_and_names_alone():
    errors = ["line 1: 'a' is bad", "line 22: 'bc' is bad", "empty", "empty"]
    assert commonest(errors[:3]) == "line 1: 'a' is bad"
    assert commonest(["x " * 500])[-1] == "…" and len(commonest(["x " * 500])) <= 160
    assert commonest([]) == ""
    assert counted([{"text": None, "error": ""}, {"text": "", "error": "empty"}])["written"] == 1


def test_none_and_all_are_exact():
    assert [percent(x) for x in (0.0, 0.001, 0.5, 0.999, 1.0)] == ["0%", "1%", "50%", "99%", "100%"]


@pytest.mark.slow
def test_what_a_curriculum_cut_short_does_not_end_a_run(models, tmp_path):
    out = tmp_path / "run"
    told = {"curriculum": True, "lengths": Curriculum(1, 1, "characters", 0.5)}
    config = settings(models, "test_invalid:Often", rounds=3, out=out, **told)
    train(config, False, False, quiet())
    tried = [r for r in lines(out) if r["phase"] == "train"]
    assert all(r["error"] and "written" in r for r in tried if r["round"] == 1)
    assert not any("written" in r for r in tried if r["round"] > 2)
