"""`seal-env train` and `evaluate`, from beginning to end, on a small random model."""

import json
import sys
from pathlib import Path

import pytest
import torch
from agent_fixtures import TRAIN, env, lines, quiet, snapshot, summary
from peft import PeftModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from seal_agents.cli import main
from seal_agents.train import EvaluateConfig, TrainConfig, evaluate, restored, train
from seal_env.errors import UserError

ROWS = ["none", "passage", "base", "trained"]


@pytest.fixture(scope="module")
def trained(models, tmp_path_factory) -> Path:
    """A run of train."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    main(["train", *TRAIN, "--model", models["llama"], "--out", str(out)])
    return out


def test_the_folder_holds_everything(trained):
    there = set(snapshot(trained))
    names = {"config.json", "summary.json", "episodes.jsonl"}
    names |= {"learning_curve.png", "comparison.png"}
    for folder in ("adapter", "checkpoints/round-1/adapter", "checkpoints/round-2/adapter"):
        names |= {f"{folder}/adapter_config.json", f"{folder}/adapter_model.safetensors"}
    names |= {f"events.out.tfevents.round-00000{n}" for n in (1, 2)}
    assert there - {".lock"} == names
    for name in ("learning_curve.png", "comparison.png"):
        assert (trained / name).read_bytes().startswith(b"\x89PNG")


def test_the_summary_has_its_rows(trained):
    found = summary(trained)
    assert list(found["rows"]) == [*ROWS, "trained (base learner)"]
    assert found["seed"] == 0 and found["seconds"] > 0
    for name, row in found["rows"].items():
        mine = [r for r in lines(trained) if r["phase"] == "evaluate" and r["policy"] == name]
        assert row["problems"] == len(mine) == 3
        assert row["accuracy"] == pytest.approx(sum(r["accuracy"] for r in mine) / 3)
        assert row["log_likelihood"] == pytest.approx(sum(r["log_likelihood"] for r in mine) / 3)
        assert row["ci"][0] <= row["accuracy"] <= row["ci"][1]
    gap = found["differences"]["trained - base"]["mean"]
    assert gap == pytest.approx(
        found["rows"]["trained"]["accuracy"] - found["rows"]["base"]["accuracy"]
    )


def test_the_lines_are_what_was_asked_for(trained):
    tried = [r for r in lines(trained) if r["phase"] == "train"]
    assert [(r["round"], r["index"]) for r in tried] == [(n, i) for n in (1, 2) for i in range(6)]
    problems = {r["problem"] for r in tried}
    assert len(problems) == 4 and all("/train/" in p for p in problems)
    held_out = {r["problem"] for r in lines(trained) if r["phase"] == "evaluate"}
    assert len(held_out) == 3 and all("/test/" in p for p in held_out)


def test_the_config_says_what_was_run(trained, models):
    config = json.loads((trained / "config.json").read_text())
    assert config["command"] == "train" and config["problems"] == 2
    assert config["env"]["model"] == models["llama"]
    assert config["env"]["inner"]["lora"]["rank"] == 4
    assert config["options"]["max_new_tokens"] == 16
    assert config["run_time"]["dtype"] == "float32" and config["run_time"]["device"] == "cpu"


def test_tensorboard_reads_the_events(trained):
    events = EventAccumulator(str(trained))
    events.Reload()
    wanted = {"reward", "accuracy", "log_likelihood", "kept", "loss"}
    assert wanted <= set(events.Tags()["scalars"])
    rewards = [(e.step, e.value) for e in events.Scalars("reward")]
    for step, value in rewards:
        mine = [r["reward"] for r in lines(trained) if r["round"] == step]
        assert value == pytest.approx(sum(mine) / len(mine))
    assert [step for step, _ in rewards] == [1, 2]


def test_peft_loads_the_adapter(trained, models):
    last = snapshot(trained / "checkpoints" / "round-2" / "adapter")
    assert snapshot(trained / "adapter") == last
    ids = torch.arange(5, 15)[None]
    base = AutoModelForCausalLM.from_pretrained(models["llama"])
    plain = base(ids).logits
    adapted = PeftModel.from_pretrained(base, str(trained / "adapter"))(ids).logits
    assert (plain - adapted).abs().max() > 1e-3


def test_a_fixed_learner_stays_the_base(models, tmp_path):
    arguments = [*TRAIN, "--model", models["llama"], "--learner", "fixed"]
    main(["train", *arguments, "--out", str(tmp_path / "run")])
    assert list(summary(tmp_path / "run")["rows"]) == ROWS
    before = {}
    for r in lines(tmp_path / "run"):
        assert before.setdefault(r["problem"], r["answers_before"]) == r["answers_before"]


def test_a_learner_that_follows_changes(trained):
    rows = [r for r in lines(trained) if r["phase"] == "evaluate" and r["index"] == 0]
    likelihoods = {r["policy"]: r["log_likelihood_before"] for r in rows}
    assert likelihoods["trained"] != likelihoods["base"]
    assert likelihoods["trained (base learner)"] == likelihoods["base"] == likelihoods["none"]


def test_any_number_of_policies_are_compared(trained, models, tmp_path, monkeypatch, capsys):
    observed = restored_contexts(models)
    edits = tmp_path / "mine.jsonl"
    edits.write_text(
        "".join(json.dumps({"context": c, "text": "A\u2028b."}) + "\n" for c in observed)
    )
    (tmp_path / "my_agents.py").write_text(
        "from seal_agents import Agent\n"
        "class Mine(Agent):\n"
        "    def act(self, observations, seeds):\n"
        "        return ['A b.'] * len(observations)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    policies = ["none", "passage", "base", "base:rewrite", "edits:mine.jsonl", "my_agents:Mine"]
    arguments = [*TRAIN[:10], "--model", models["llama"], "--problems", "3", "--samples", "2"]
    arguments += ["--options.max-new-tokens", "8", "--out", "e"]
    main(["evaluate", *arguments, "--policies", *policies, str(trained)])
    found = summary(Path("e"))
    assert list(found["rows"]) == [*policies, str(trained)]
    assert len(found["differences"]) == 7 * 6
    assert all(row["problems"] == 3 and row["samples"] == 6 for row in found["rows"].values())
    written = {r["policy"]: r["text"] for r in lines(Path("e"))}
    assert written["edits:mine.jsonl"] == "A\u2028b." and written["none"] is None
    assert written["base"] != written["base:rewrite"]
    shown = capsys.readouterr().out
    assert "less base" in shown and "my_agents:Mine" in shown
    assert max(map(len, shown.splitlines())) <= 80 + len(str(trained))

    main(["evaluate", *arguments, "--policies", *policies, str(trained), "--resume"])
    assert "finished already" in capsys.readouterr().out


def restored_contexts(models):
    from seal_env.episodes import make_task

    task = make_task("helpers:Parity")
    return [task.reads(task.problem("test", i)) for i in range(3)]


def test_the_base_policy_is_prompted_as_the_trained_one(models, tmp_path):
    main(["train", *TRAIN, "--model", models["llama"], "--out", str(tmp_path), "--rounds", "1",
          "--options.prompt", "rewrite", "--options.temperature", "0"])  # fmt: skip
    base = [r["text"] for r in lines(tmp_path) if r["policy"] == "base"]
    main(["evaluate", *TRAIN[:10], "--model", models["llama"], "--problems", "3", "--out",
          str(tmp_path / "e"), "--policies", "base", "--options.prompt", "rewrite",
          "--options.temperature", "0", "--options.max-new-tokens", "16"])  # fmt: skip
    assert [r["text"] for r in lines(tmp_path / "e")] == base


def test_a_run_that_trained_nothing_is_no_policy(models, trained, tmp_path):
    config = EvaluateConfig(("none",), env(models["llama"]), problems=1, out=tmp_path / "e")
    evaluate(config, False, False, quiet())
    for folder, message in ((tmp_path / "e", "trained nothing"), (tmp_path, "no run here")):
        config = EvaluateConfig((str(folder),), env(models["llama"]), out=tmp_path / "f")
        with pytest.raises(UserError, match=message):
            evaluate(config, False, False, quiet())
    config = EvaluateConfig((str(trained),), env(models["gpt2"]), out=tmp_path / "f")
    with pytest.raises(UserError, match="was trained on --model"):
        evaluate(config, False, False, quiet())
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"agent": "nosuch"},
        {"agent": "json:loads"},
        {"problems": 0},
        {"seed": -1},
        {"env": {"split": "test"}},
        {"env": {"horizon": 2}},
        {"env": {"reward": "nosuch"}},
        {"env": {"edit": "nosuch"}},
        {"env": {"adapter": "a"}},
        {"env": {"split": "nosuch"}},
    ],
)
def test_bad_settings_leave_no_folder_behind(models, tmp_path, settings):
    out = tmp_path / "run"
    given = {**settings, "env": env(models["llama"], **settings.get("env", {}))}
    with pytest.raises(UserError):
        train(TrainConfig(**{"out": out, **given}), False, False, quiet())
    assert not out.exists()


def test_options_come_back_from_their_json():
    from seal_agents.rest_em import RestEMOptions

    options = restored(RestEMOptions, {"keep": 2, "finetune": {"epochs": 3}, "rank": 2})
    assert (options.keep, options.finetune.epochs, options.rank) == (2, 3, 2)
    with pytest.raises(UserError, match="do not fit"):
        restored(RestEMOptions, {"nosuch": 1})
