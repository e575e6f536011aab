"""How much of a reward is the self-edit: statistics, and inner loops in a file."""

import json
import math

import numpy as np
import pytest
from agent_fixtures import FORKS
from rich.console import Console

from benchmarks import fidelity_records, reward_fidelity
from benchmarks import fidelity_stats as stats
from benchmarks.fidelity_records import AGAIN, Job, Records
from seal_env.errors import UserError
from seal_env.tasks.biographies.task import Biographies


def world(edit=1.0, seed=0.0, noise=0.0, problems=200, edits=5, seeds=3):
    """Measurements of known variances: of self-edits, of seeds common to them, of the rest."""
    random = np.random.default_rng(0)
    return [
        10 * random.normal()
        + edit * random.normal(size=(edits, 1))
        + seed * random.normal(size=(1, seeds))
        + noise * random.normal(size=(edits, seeds))
        for _ in range(problems)
    ]


@pytest.mark.parametrize(("noise", "expected"), [(0.0, 1.0), (1.0, 0.5), (2.0, 0.2)])
def test_the_share_of_the_self_edit_is_found(noise, expected):
    found = stats.icc_interval(world(noise=noise))
    assert found.value == pytest.approx(expected, abs=0.05)
    assert found.low <= expected <= found.high + 1e-9
    assert abs(stats.icc(world(edit=0.0, noise=1.0))) < 0.05


def test_what_a_seed_does_to_all_alike_is_no_error_under_common_seeds():
    groups = world(seed=1.0)
    assert stats.icc(groups, common_seeds=True) == pytest.approx(1.0)
    assert stats.icc(groups) < 0.7


def test_icc_is_that_of_shrout_and_fleiss():
    """Their example (1979, table 2 and 4): six targets, four judges; ICC(1,1) and ICC(3,1)."""
    judges = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    groups = [np.array(judges, dtype=float)]
    assert stats.icc(groups) == pytest.approx(0.17, abs=0.005)
    assert stats.icc(groups, common_seeds=True) == pytest.approx(0.71, abs=0.005)


def test_the_mean_of_runs_is_as_reliable_as_spearman_and_brown_say():
    assert stats.spearman_brown(0.134, 3) == pytest.approx(0.317, abs=0.001)  # SEAL's
    groups = world(noise=1.5, problems=400, seeds=4)
    one = stats.icc(groups)
    pairs = [np.stack([x[:, :2].mean(axis=1), x[:, 2:].mean(axis=1)], axis=1) for x in groups]
    assert stats.spearman_brown(one, 2) == pytest.approx(stats.icc(pairs), abs=0.03)
    measured, predicted = stats.seed_halves(groups)
    assert measured == pytest.approx(predicted, abs=0.03)


def test_ties_are_those_of_the_best_alone():
    groups = [np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])]
    assert stats.ties(groups) == 0.5


def test_the_best_by_luck_is_worth_nothing_where_it_was_not_chosen():
    random = np.random.default_rng(0)
    noise = [(random.random((5, 3, 6)) < 0.5).astype(float) for _ in range(80)]

    def values(number, chosen):
        x = noise[number]
        return (x if chosen is None else x[:, :, chosen]).mean(axis=2)

    best = stats.best_of(values, noise, 1)
    assert best.same > 0.15
    assert max(map(abs, best[1:])) < 0.04


def test_the_best_by_merit_is_worth_the_same_everywhere():
    right = [np.repeat(np.arange(5.0)[:, None, None] / 5, 3, 1).repeat(4, 2) for _ in range(3)]
    best = stats.best_of(lambda i, q: right[i].mean(axis=2), right, 2)
    assert best == pytest.approx((0.4, 0.4, 0.4, 0.4))


def test_agreement_does_not_share_the_noise_of_a_seed():
    random = np.random.default_rng(0)
    noise = [random.normal(size=(5, 3)) for _ in range(150)]
    assert abs(stats.agreement(noise, noise, 1).spearman) < 0.1
    true = world()
    assert stats.agreement(true, true, 2).spearman == pytest.approx(1.0)
    found = stats.agreement(true, world(noise=1.0), 1)  # the same self-edits, seen with noise
    assert found.spearman < 0.75 and found.corrected == pytest.approx(
        found.spearman / np.sqrt(2 / 3), abs=0.03
    )


def test_fewer_questions_are_less_reliable():
    random = np.random.default_rng(0)
    groups = [random.normal(size=(5, 1, 1)) + 2 * random.normal(size=(5, 3, 8)) for _ in range(200)]
    one, four, eight = (stats.fewer_questions(groups, count) for count in (1, 4, 8))
    assert one == pytest.approx(0.2, abs=0.05) and one < four < eight
    assert math.isnan(stats.fewer_questions(groups, 9))


# ---- the file ----------------------------------------------------------------------------------


def line(job, **terms):
    problem, text, seed, kind = job.key
    return {
        "problem": problem,
        "text": text,
        "seed": seed,
        "kind": kind,
        "error": "",
        "terms": terms,
    }


def test_a_file_goes_on_after_a_stop_and_refuses_other_settings(tmp_path):
    problem = Biographies().problem("train", 0)
    jobs = [Job(problem, text, seed) for text in ("a", "b") for seed in (0, 1)]
    path = tmp_path / "r.jsonl"
    records = Records(path, {"model": "tiny"})
    records.add([line(jobs[0], accuracy=1.0), line(jobs[1], accuracy=1.0, f1=0.5)])
    with path.open("a") as file:
        file.write('{"problem": "half a li')  # killed while writing
    again = Records(path, {"model": "tiny"})
    assert again.missing(jobs, ["accuracy"]) == jobs[2:]
    assert again.missing(jobs, ["accuracy", "f1"]) == [jobs[0], *jobs[2:]]
    assert again.missing([jobs[0]._replace(kind=AGAIN)], ["accuracy"])
    with pytest.raises(UserError, match="other settings"):
        Records(path, {"model": "other"})
    path.write_text(path.read_text().replace('"accuracy": 1.0}', '"accuracy": 1.0', 1))
    with pytest.raises(UserError, match="line 2: is damaged"):
        Records(path, {"model": "tiny"})


@pytest.mark.slow
def test_inner_loops_are_measured_once_and_are_the_same_in_another_process(tmp_path, monkeypatch):
    monkeypatch.setattr(fidelity_records, "get_context", lambda _: FORKS)
    monkeypatch.setattr(stats, "RESAMPLES", 100)
    problems = [Biographies().problem("train", i) for i in range(2)]
    texts = {p: ["", p.context.split(". ")[0]] for p in problems}
    monkeypatch.setattr(reward_fidelity, "self_edits", lambda *_: texts)
    sizes = dict(again=4, terms=("accuracy", "log_likelihood", "f1"))
    files = dict(records=tmp_path, json=tmp_path / "f.json")
    args = reward_fidelity.Args(**sizes, **files, num_envs=12)
    found = reward_fidelity.run(args, Console(quiet=True))
    assert found["icc"] == 1.0 and found["problems"] == 2
    lines = (tmp_path / "biographies-tiny-auto.jsonl").read_text()
    assert lines.count("\n") == 1 + 2 * 2 * 3 + 4
    (tmp_path / "f.json").write_text('{"squad": {"m": 1}}')
    reward_fidelity.run(args, Console(quiet=True))
    assert (tmp_path / "biographies-tiny-auto.jsonl").read_text() == lines
    whole = json.loads((tmp_path / "f.json").read_text())
    assert whole["squad"] == {"m": 1}
    default = whole["biographies"]["default"]
    assert {"icc", "icc_over_seeds", "ties"} <= set(default)
    assert set(default["rewards"]) >= {"accuracy", "f1", reward_fidelity.DENSE}


def test_published_accuracies_have_the_same_figures(tmp_path):
    passages = [
        {"completions": [{"accuracy_by_seed": row.tolist()} for row in x]}
        for x in world(seed=1.0, noise=1.0)
    ]
    (tmp_path / "p.json").write_text(json.dumps(passages))
    found = reward_fidelity.published(str(tmp_path / "p.json"))
    own = found["rewards"]["accuracy"]
    assert own["icc_common_seeds"] == pytest.approx(0.5, abs=0.05)
    assert own["icc_over_seeds"] < own["icc_common_seeds"] - 0.05
    (tmp_path / "p.json").write_text(json.dumps([{"questions": []}]))
    assert reward_fidelity.published(str(tmp_path / "p.json")) is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"seeds": 2}, "--seeds must be at least 3"),
        ({"edits": 1}, "--edits must be at least 2"),
        ({"terms": ("f1",)}, "--terms has no 'accuracy'"),
    ],
)
def test_what_cannot_be_measured_is_told(wrong, told, tmp_path):
    with pytest.raises(UserError, match=told):
        reward_fidelity.run(reward_fidelity.Args(**wrong, records=tmp_path), Console(quiet=True))
