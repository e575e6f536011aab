"""`seal-env train-critic`: what is learned from, how it is validated, what is refused."""

import json
import shutil

import numpy as np
import pytest
from agent_fixtures import QUICK, quiet

from seal_agents import cli
from seal_agents.runner.configs import CriticConfig
from seal_agents.runner.pairs import Pair, read_pairs
from seal_agents.runner.train_critic import _folds, _validated, _within, train_critic
from seal_env.critics import load_critic
from seal_env.critics.ridge import fit_ridge
from seal_env.errors import UserError

ROWS = [
    {"context": f"{name} sings.", "text": "Oslo " * n, "reward": n + len(name) / 10}
    for name in ("Ada", "Boris", "Carla")
    for n in range(5)
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(models, tmp_path, **settings):
    given = {"model": models["llama"], "folds": 3, "out": tmp_path / "critic"}
    return CriticConfig(**given | settings)


def test_a_file_of_pairs_makes_a_critic_that_ranks_unseen_contexts(models, llama, tmp_path):
    file = write(tmp_path / "pairs.jsonl", [*ROWS, ROWS[0] | {"reward_before": -1.0}])
    figures = train_critic(config(models, tmp_path, pairs=file), False, quiet())
    assert figures["pairs"] == 16 and figures["problems"] == 3
    assert figures["spearman"] > 0.9
    critic = load_critic(tmp_path / "critic", llama)
    scores = critic.score([("Dora sings.", "Oslo " * n) for n in (0, 2, 4)])
    assert scores == sorted(scores) and critic.nothing == -1.0
    told = json.loads((tmp_path / "critic" / "critic.json").read_text())
    assert {name: told[name] for name in figures} == figures


def test_the_validation_holds_out_all_self_edits_about_a_context():
    """Features that name the context alone predict nothing of contexts that were held out."""
    random = np.random.default_rng(0)
    pairs = [Pair(f"c{i // 4}", "", 0.0, f"g{i // 4}") for i in range(80)]
    measured = np.repeat(np.eye(20), 4, axis=0)
    rewards = np.repeat(random.normal(size=20), 4)
    folds = _folds(pairs, 5)
    assert all(len(set(folds[i : i + 4])) == 1 for i in range(0, 80, 4))
    assert sorted(np.bincount(folds)) == [16] * 5
    assert _validated(measured, rewards, pairs, folds)["r2"] < 0.1
    seen = fit_ridge(measured, rewards).predict(measured)
    assert np.corrcoef(seen, rewards)[0, 1] > 0.9


def test_the_correlation_is_within_groups():
    pairs = [Pair("c", "", 0.0, group) for group in "aaabbbc"]
    rewards = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 12.0, 5.0])
    assert _within([3, 2, 1, 4, 5, 6, 0], rewards, pairs) == pytest.approx(0.0)
    assert _within([1, 2, 3, 0, 1, 2, 0], rewards, pairs) == pytest.approx(1.0)
    assert _within([1] * 7, rewards, pairs) == 0.0


@pytest.mark.parametrize(
    "line",
    ["{", "3", '{"context": "a", "text": "b"}', '{"context": "a", "text": 1, "reward": 1}']
    + [f'{{"context": "a", "text": "b", "reward": {reward}}}' for reward in ("NaN", "true", '"1"')],
)
def test_a_wrong_line_is_named(tmp_path, line):
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(ROWS[0]) + "\n\n" + line + "\n")
    with pytest.raises(UserError, match="line 3: must be a JSON object"):
        read_pairs(file)


def test_what_cannot_be_a_critics_folder_or_data_is_refused(models, tmp_path):
    file = write(tmp_path / "pairs.jsonl", ROWS[:5])
    with pytest.raises(UserError, match="5 self-edits about 1 contexts"):
        train_critic(config(models, tmp_path, pairs=file), False, quiet())
    with pytest.raises(UserError, match="exists and is no critic"):
        train_critic(config(models, tmp_path, pairs=file, out=tmp_path), False, quiet())
    file = write(tmp_path / "pairs.jsonl", ROWS)
    train_critic(config(models, tmp_path, pairs=file), False, quiet())
    with pytest.raises(UserError, match="holds a critic"):
        train_critic(config(models, tmp_path, pairs=file), False, quiet())
    train_critic(config(models, tmp_path, pairs=file), True, quiet())


@pytest.mark.slow
def test_runs_make_a_critic_by_the_command_line(models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    common = ["--model", models["llama"], "--options.max-new-tokens", "4"]
    flags = "--rounds 1 --problems 3 --samples 3 --test-problems 1 --references none"
    cli.main(["train", *QUICK, *common, *flags.split(), "--out", "one", "--reward", "accuracy"])
    shutil.copytree("one", "two")
    settings = (tmp_path / "two" / "config.json").read_text()
    assert settings.count('"reward": "accuracy"') == 1
    (tmp_path / "two" / "config.json").write_text(
        settings.replace('"reward": "accuracy"', '"reward": "log_likelihood"')
    )
    capsys.readouterr()
    cli.main(["train-critic", "one", "--out", "critic"])
    said = capsys.readouterr().out
    assert "9 self-edits about 3 contexts" in said and "wrote critic" in said
    told = json.loads((tmp_path / "critic" / "critic.json").read_text())
    assert told["model"] == models["llama"] and told["reward"] == "accuracy"
    with pytest.raises(SystemExit):
        cli.main(["train-critic", "one", "two", "--out", "both"])
    said = capsys.readouterr().err
    assert "two: was trained with --reward log_likelihood, and one with accuracy" in said
