"""`seal-env train` and `evaluate`, from beginning to end, on a small random model."""

import json
import sys
from pathlib import Path

import pytest
import torch
from agent_fixtures import QUICK, TRAIN, env, lines, quiet, snapshot, summary
from peft import PeftModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from seal_agents import Agent
from seal_agents.cli import main
from seal_agents.runner import rounds
from seal_agents.runner.rounds import resets
from seal_agents.runner.train import EvaluateConfig, TrainConfig, evaluate, restored, train
from seal_env.edits import EditLanguage, SelfEdit
from seal_env.errors import UserError
from seal_env.updates import Finetuning
from seal_env.wrappers.curriculum import Curriculum

pytestmark = pytest.mark.slow

ROWS = ["none", "passage", "base", "trained"]


@pytest.fixture(scope="module")
def trained(models, tmp_path_factory) -> Path:
    """A run of train."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    main(["train", *TRAIN, "--model", models["llama"], "--out", str(out)])
    return out


def test_the_folder_holds_everything(trained):
    there = set(snapshot(trained))
    names = {"config.json", "summary.json", "episodes.jsonl", "rounds.json", "clock.json"}
    names |= {"learning_curve.png", "comparison.png", "styles.png", "samples.md"}
    names.add("adapter/README.md")
    for folder in ("adapter", "checkpoints/round-1/adapter", "checkpoints/round-2/adapter"):
        names |= {f"{folder}/adapter_config.json", f"{folder}/adapter_model.safetensors"}
    names |= {f"events.out.tfevents.round-00000{n}" for n in (1, 2)}
    assert there - {".lock"} == names
    for name in ("learning_curve.png", "comparison.png", "styles.png"):
        assert (trained / name).read_bytes().startswith(b"\x89PNG")


def test_the_summary_has_its_rows(trained):
    found = summary(trained)
    assert list(found["rows"]) == ROWS
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
    whole = snapshot(trained / "adapter")
    assert whole.pop("README.md")
    assert whole == last
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
    assert likelihoods["base"] == likelihoods["none"]


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
    assert list(found["rows"]) == [*policies, str(trained), f"{trained} (base learner)"]
    assert len(found["differences"]) == 8 * 7
    assert all(row["problems"] == 3 and row["samples"] == 6 for row in found["rows"].values())
    written = {r["policy"]: r["text"] for r in lines(Path("e"))}
    assert written["edits:mine.jsonl"] == "A\u2028b." and written["none"] is None
    assert written["base"] != written["base:rewrite"]
    shown = capsys.readouterr().out
    assert "− base" in shown and "my_agents:Mine" in shown
    last = shown.splitlines()[-1]
    assert last.startswith("wrote e: summary.json, samples.md, comparison.png")
    assert last.endswith("seal-env report e")
    assert max(map(len, shown.splitlines()[:-1])) <= 80 + len(str(trained))

    main(["evaluate", *arguments, "--policies", *policies, str(trained), "--resume"])
    shown = capsys.readouterr().out
    assert "finished already" in shown and shown.splitlines()[-1] == last


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
        {"env": {"horizon": 2}, "problems": 1},
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
    from seal_agents.algorithms.rest_em import RestEMOptions

    options = restored(RestEMOptions, {"keep": 2, "finetune": {"epochs": 3}, "rank": 2})
    assert (options.keep, options.finetune.epochs, options.rank) == (2, 3, 2)
    with pytest.raises(UserError, match="do not fit"):
        restored(RestEMOptions, {"nosuch": 1})


class Scripted(Agent):
    """Writes well as long as it has learned nothing."""

    def __init__(self, context):
        super().__init__(context)
        self.learned, self.evaluations = 0, 0

    def act(self, observations, seeds):
        return ["right away" if self.learned == 0 else f"wrong {self.learned}"] * len(observations)

    def learn(self, experiences):
        self.learned += 1
        self.evaluations += 5
        return {"learned": self.learned}

    def save(self, folder):
        (folder / "learned").write_text(str(self.learned))

    def load(self, folder):
        self.learned = int((folder / "learned").read_text())


class Right(EditLanguage):
    """A self-edit has to be right."""

    def parse(self, text, problem):
        return (
            SelfEdit(Finetuning((text,))) if text.startswith("right") else SelfEdit(error="wrong")
        )


def scripted(models, out, **settings):
    given = {"rounds": 7, "problems": 2, "samples": 2, "test_problems": 2, "references": ()}
    environment = env(
        models["llama"],
        edit="test_train:Right",
        reward="seal_env.testing:CarriedOut",
        invalid_penalty=0.0,
    )
    config = TrainConfig(env=environment, agent="test_train:Scripted", out=out, **given | settings)
    return train(config, True, False, quiet())


def states(run):
    return [
        (run / "checkpoints" / f"round-{n}" / "learned").read_text()
        for n in range(1, 1 + len(list((run / "checkpoints").glob("round-[1-9]*"))))
    ]


@pytest.mark.parametrize(
    ("rewards", "patience", "wanted"),
    [
        ([1, 2, 3], 1, [None, None, None]),
        ([3, 2, 3], 1, [None, 0, None]),
        ([1, 3, 2, 2, 2, 2, 2], 2, [None, None, None, 1, None, 1, None]),
        ([1, 3, 2, 4, 2, 2], 2, [None, None, None, None, None, 3]),
        ([2, 2, 1], 1, [None, None, 1]),
    ],
)
def test_an_agent_goes_back_after_so_many_bad_rounds(rewards, patience, wanted):
    assert resets(rewards, patience) == wanted


def test_reset_to_best_loads_the_checkpoint_that_wrote_the_best_round(models, tmp_path):
    scripted(models, tmp_path / "off")
    assert states(tmp_path / "off") == list("1234567")
    scripted(models, tmp_path / "on", reset_to_best=2)
    # Round 1 was written untrained and is the best; 2 and 3 are worse, so after 3 it goes back.
    assert states(tmp_path / "on") == list("1201201")
    known = json.loads((tmp_path / "on" / "rounds.json").read_text())
    assert [n.get("went_back_to") for n in known] == [None, None, 0, None, None, 3, None]


@pytest.mark.parametrize("at", [2, 3, 4])
def test_reset_to_best_counts_on_after_a_stop(models, tmp_path, monkeypatch, at):
    def stop(run, round_, numbers):
        if round_ == at:
            raise KeyboardInterrupt

    scripted(models, tmp_path / "whole", reset_to_best=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rounds, "write_scalars", stop)
        scripted(models, tmp_path / "cut", reset_to_best=2)
    scripted(models, tmp_path / "cut", reset_to_best=2)
    assert states(tmp_path / "cut") == states(tmp_path / "whole")
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_evaluations_are_counted_by_round(models, tmp_path):
    found = scripted(models, tmp_path, rounds=2, checks=2)
    known = json.loads((tmp_path / "rounds.json").read_text())
    # 4 self-edits a round, and 5 inner loops that the agent says it ran itself.
    assert [n["evaluations"] for n in known] == [9, 18] and found["evaluations"] == 18
    assert [(c["round"], c["evaluations"]) for c in found["checks"]] == [(0, 0), (1, 9), (2, 18)]
    assert found["rows"]["trained"]["evaluations"] == 2


def test_checks_are_made_as_the_final_comparison_is(models, tmp_path):
    """Same problems, same seeds: an agent that writes the same comes out the same."""
    config = TrainConfig(
        env=env(models["llama"]), agent="passage", rounds=4, problems=1, samples=1,
        test_problems=3, checks=2, references=("none",), learner="fixed", out=tmp_path,
    )  # fmt: skip
    found = train(config, False, False, quiet())
    assert [check["round"] for check in found["checks"]] == [0, 2, 4]
    assert len({check["log_likelihood"] for check in found["checks"]}) == 1
    assert found["checks"][0]["accuracy"] == found["rows"]["trained"]["accuracy"]
    assert list(found["rows"]) == ["none", "trained"]


def test_fresh_test_seeds_are_the_same_for_all_policies(models, tmp_path):
    def held_out(name, **settings):
        config = EvaluateConfig(
            ("passage", "test_train:Empty"), env(models["llama"], split="test"), problems=3,
            out=tmp_path / name, **settings,
        )  # fmt: skip
        evaluate(config, False, False, quiet())
        found = lines(tmp_path / name)
        return [r["log_likelihood"] for r in found[:3]], [r["log_likelihood"] for r in found[3:]]

    fresh, others = held_out("fresh", fresh_test_seeds=True)
    assert fresh == others
    common, _ = held_out("common")
    assert all(a != b for a, b in zip(fresh, common, strict=True))


class Empty(Agent):
    """Writes what `passage` writes."""

    def act(self, observations, seeds):
        return [""] * len(observations)


def test_the_noise_of_training_leaves_the_held_out_problems_alone(models, tmp_path):
    for name, common in (("a", True), ("b", False)):
        scripted(models, tmp_path / name, rounds=1, checks=1, common_random_numbers=common)
    one, other = (
        {phase: [r for r in lines(tmp_path / name) if r["phase"] == phase]
         for phase in ("train", "evaluate")}
        for name in "ab"
    )  # fmt: skip
    assert one["evaluate"] == other["evaluate"]
    assert any(r["steps"] for r in one["evaluate"])  # the random numbers counted for something
    twins = [[r["log_likelihood"] for r in run["train"][:2]] for run in (one, other)]
    assert twins[0][0] == twins[0][1] and twins[1][0] != twins[1][1]


def test_a_curriculum_grows_with_the_rounds_and_ends_with_training(models, tmp_path):
    lengths = Curriculum(first=5, last=7, unit="characters", until=0.5)
    scripted(models, tmp_path, rounds=4, curriculum=True, lengths=lengths)
    texts = {r["round"]: r["text"] for r in lines(tmp_path)}
    assert texts == {1: "right", 2: "wrong ", 3: "wrong 2", 4: "wrong 3", 0: "wrong 4"}


def test_seconds_are_those_of_all_sittings(models, tmp_path):
    first = scripted(models, tmp_path, rounds=1)
    assert 0 <= first["seconds"] < 1000
    (tmp_path / "summary.json").unlink()
    (tmp_path / "clock.json").write_text('{"seconds": 5000.0}')
    assert 5000 <= scripted(models, tmp_path, rounds=1)["seconds"] < 6000


def test_a_trained_run_is_evaluated_on_both_learners(trained, models, tmp_path):
    arguments = [*QUICK, "--model", models["llama"], "--problems", "3", "--policies", str(trained)]
    main(["evaluate", *arguments, "--out", str(tmp_path / "e")])
    found, own = summary(tmp_path / "e")["rows"], summary(trained)["rows"]
    assert found[str(trained)] == own["trained"]
    assert found[f"{trained} (base learner)"] != own["trained"]
    texts = {r["policy"]: r["text"] for r in lines(tmp_path / "e") if r["index"] == 0}
    assert len(set(texts.values())) == 1  # the same self-edits
    adapter = str(trained / "adapter")
    main(["evaluate", *arguments, "--adapter", adapter, "--out", str(tmp_path / "f")])
    assert summary(tmp_path / "f")["rows"] == {str(trained): own["trained"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checks": 4}, "--checks 4: at most one per round"),
        ({"checks": -1}, "--checks -1: must be at least 0"),
        ({"reset_to_best": -1}, "--reset-to-best -1"),
    ],
)
def test_new_settings_are_checked(settings, message):
    with pytest.raises(UserError, match=message):
        TrainConfig(**settings)


def test_a_task_without_questions_is_trained_on_and_has_no_accuracy(models, tmp_path, capsys):
    out = tmp_path / "run"
    settings = [*TRAIN, "--task", "helpers:NoQuestions", "--reward", "cloze"]
    main(["train", *settings, "--model", models["llama"], "--out", str(out)])
    rows = summary(out)["rows"]
    assert all(row["accuracy"] is None and row["ci"] == [None] * 2 for row in rows.values())
    written = [out / name for name in ("summary.json", "rounds.json", "episodes.jsonl")]
    assert not any("NaN" in file.read_text() for file in written)
    assert len({row["reward"] for row in rows.values()}) == len(ROWS)
    shown = capsys.readouterr().out
    assert "reward" in shown and "nan" in shown
    table = shown[shown.index("policy ") : shown.index("took ")]
    for _ in range(2):  # the table as it is in the file, and then from the records anew
        main(["train", *settings, "--model", models["llama"], "--out", str(out), "--resume"])
        assert table in capsys.readouterr().out
        (out / "summary.json").unlink()
    assert (out / "learning_curve.png").is_file()
