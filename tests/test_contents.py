"""What the names in a run's settings stand for: a change between a stop and --resume is seen."""

import json
import shutil
from dataclasses import replace

import pytest
from agent_fixtures import env, lines, quiet
from safetensors.torch import load_file, save_file

from seal_agents.runner.configs import EvaluateConfig, TrainConfig
from seal_agents.runner.contents import (
    PIECE,
    PIECES,
    contents,
    of_files,
    of_problems,
)
from seal_agents.runner.train import evaluate, train
from seal_env.config import make_task
from seal_env.engine import devices
from seal_env.errors import UserError
from seal_env.tasks.base import Problem, Question


def passage(title, context, *questions):
    asked = [{"question": q, "answer": a} for q, a in questions]
    return {"title": title, "context": context, "questions": asked}


DATA = [
    passage("One", "Ada was born in Oslo.", ("Where was Ada born?", "Oslo")),
    passage("Two", "Bo plays the flute.", ("What does Bo play?", "flute")),
]
NEW = passage("Zero", "Cy has a goat.", ("What has Cy?", "goat"), ("Who has a goat?", "Cy"))


@pytest.fixture
def begun(models, tmp_path, monkeypatch):
    """The settings of a run of evaluate that was stopped after it had written its lines."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models["llama"], "model")
    (tmp_path / "data.json").write_text(json.dumps(DATA))
    (tmp_path / "always.txt").write_text("Ada sings.")
    settings = env("model", task="squad", data="data.json", split="all")
    policies = ("none", "always:always.txt")
    config = EvaluateConfig(policies, settings, problems=2, out=tmp_path / "run")
    evaluate(config, False, False, quiet())
    (tmp_path / "run" / "summary.json").unlink()
    return config


def rewrite(place, change):
    place.write_text(json.dumps(change(json.loads(place.read_text()))))


def other_weights(folder):
    tensors = load_file(folder / "model.safetensors")
    name = sorted(tensors)[0]
    tensors[name] = tensors[name] * 1.01
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


CHANGES = {
    "a problem before the others": lambda at: rewrite(at / "data.json", lambda d: [NEW, *d]),
    "problems in another order": lambda at: rewrite(at / "data.json", lambda d: d[::-1]),
    "another answer": lambda at: rewrite(
        at / "data.json",
        lambda d: [passage("One", DATA[0]["context"], ("Where was Ada born?", "Bergen")), d[1]],
    ),
    "a question more": lambda at: rewrite(
        at / "data.json",
        lambda d: [d[0], d[1] | {"questions": d[1]["questions"] + NEW["questions"]}],
    ),
    "a word of a context": lambda at: rewrite(
        at / "data.json", lambda d: [d[0] | {"context": "Ada was born in Rome."}, d[1]]
    ),
    "a problem less": lambda at: rewrite(at / "data.json", lambda d: d[:1]),
    "weights": lambda at: other_weights(at / "model"),
    "the tokenizer": lambda at: rewrite(
        at / "model" / "tokenizer_config.json", lambda c: c | {"model_max_length": 100}
    ),
    "a policy's file": lambda at: (at / "always.txt").write_text("Bo sings."),
}
NAMED = {"weights": "--model", "the tokenizer": "--model", "a policy's file": "always:always.txt"}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_run_does_not_go_on_with_something_else(begun, tmp_path, change):
    before = (tmp_path / "run" / "episodes.jsonl").read_bytes()
    CHANGES[change](tmp_path)
    with pytest.raises(UserError, match="changed since the run there began") as error:
        evaluate(begun, True, False, quiet())
    assert NAMED.get(change, "--task, --data") in str(error.value)
    assert "\n" not in str(error.value)
    assert (tmp_path / "run" / "episodes.jsonl").read_bytes() == before
    evaluate(begun, False, True, quiet())  # --overwrite


@pytest.mark.slow
def test_what_does_not_matter_does_not_matter(begun, tmp_path):
    (tmp_path / "data.json").write_text(json.dumps([*DATA, NEW], indent=3))  # beyond --problems
    (tmp_path / "model" / "notes.md").write_text("mine")
    shutil.copytree(tmp_path / "model", tmp_path / "copy")
    known = lines(tmp_path / "run")
    evaluate(begun, True, False, quiet())
    assert lines(tmp_path / "run") == known
    assert of_files(tmp_path / "model") == of_files(tmp_path / "copy")


def test_a_run_of_an_older_version_goes_on_and_says_so(begun, tmp_path):
    rewrite(
        tmp_path / "run" / "config.json",
        lambda c: {name: value for name, value in c.items() if name != "contents"},
    )
    said = quiet()
    evaluate(begun, True, False, said)
    assert "begun by an older version" in " ".join(said.file.getvalue().split())
    assert (tmp_path / "run" / "summary.json").is_file()


@pytest.mark.slow
def test_training_problems_count(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = [passage(f"T{i}", f"Person {i} sings.", ("Who?", f"{i}")) for i in range(12)]
    (tmp_path / "data.json").write_text(json.dumps(data))
    config = TrainConfig(
        env(models["llama"], task="squad", data="data.json"),
        "none",
        rounds=2,
        problems=2,
        samples=1,
        test_problems=1,
        references=("none",),
        out=tmp_path / "run",
    )
    train(config, False, False, quiet())
    tried = {r["title"] for r in lines(tmp_path / "run") if r["phase"] == "train"}
    (tmp_path / "run" / "summary.json").unlink()
    place = {row["title"]: row for row in data}
    place[min(tried)]["questions"][0]["answer"] = "nobody"
    (tmp_path / "data.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match="changed since the run there began"):
        train(config, True, False, quiet())


@pytest.mark.slow
def test_a_large_file_is_known_by_its_size_and_by_bytes_all_over_it(tmp_path):
    place = tmp_path / "model.safetensors"
    content = bytes(PIECE * PIECES * 3)
    place.write_bytes(content)
    first, matrix = of_files(tmp_path), b"x" * (4 * PIECE)
    for start in (0, len(content) // 2 + 5, len(content) - len(matrix)):
        place.write_bytes(content[:start] + matrix + content[start + len(matrix) :])
        assert of_files(tmp_path) != first
    place.write_bytes(content + b"\0")
    assert of_files(tmp_path) != first


def test_a_hash_of_problems_is_the_same_everywhere():
    problem = Problem("a", "A", "c", (Question("q", "é\ud800"),), {"x": "y"})
    assert of_problems([problem]) == "148fee32bc59f119ceb4a7a1d1f55fe6"
    assert of_problems([replace(problem, edits={})]) != of_problems([problem])
    assert of_problems([problem, problem]) != of_problems([problem])


def test_every_model_is_found():
    task = make_task("biographies")
    for model in ("tiny", "tiny-grids"):
        assert {"problems", "model"} == set(contents(env(model), [task.problem("test", 0)]))
    assert set(contents(env("no/such"), [])) == {"problems"}


@pytest.mark.slow
def test_a_run_goes_on_in_the_precision_that_it_began_with(begun, monkeypatch):
    monkeypatch.setattr(devices, "REAL", 1)
    monkeypatch.setattr("seal_agents.runner.contents.REAL", 1)
    monkeypatch.setattr(devices, "speedup", lambda width: 4.0)
    monkeypatch.setattr("seal_agents.runner.contents.speedup", lambda width: 4.0)
    config = json.loads((begun.out / "config.json").read_text())
    assert config["env"]["dtype"] == config["run_time"]["dtype"] == "float32"
    evaluate(begun, True, False, quiet())  # here auto would be bfloat16
    other = replace(begun, out=begun.out.parent / "other")
    console = quiet()
    evaluate(other, False, False, console)
    assert json.loads((other.out / "config.json").read_text())["env"]["dtype"] == "bfloat16"
    assert "note: dtype auto: bfloat16; products" in " ".join(console.file.getvalue().split())
    with pytest.raises(UserError, match="--dtype"):
        settings = replace(begun.env, dtype="bfloat16")
        evaluate(replace(begun, env=settings), True, False, quiet())


def test_a_run_of_an_earlier_version_goes_on_although_auto_was_written_down(begun):
    config = json.loads((begun.out / "config.json").read_text())
    config["env"]["dtype"] = "auto"
    (begun.out / "config.json").write_text(json.dumps(config))
    evaluate(begun, True, False, quiet())
