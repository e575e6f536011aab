"""The command line: its help, its flags, and one line for whatever is wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from agent_fixtures import TRAIN, finish

import seal_agents.runner.train
import seal_env
from seal_agents import run_folder as run
from seal_agents.cli import main
from seal_agents.runner.settings import read_pairs, read_part_pairs
from seal_env.edits import EDITS
from seal_env.errors import UserError
from seal_env.grading.judge import Judge
from seal_env.rewards import REWARDS
from seal_env.tasks import TASKS


def refused(capsys, *arguments) -> str:
    """The one line with which a command is refused."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("seal-env: ") and said.count("\n") == 1, said
    assert not set(said) & set("─│╭╰"), said
    return said


@pytest.fixture
def captured(monkeypatch):
    """What train and evaluate are called with, instead of calling them."""
    calls = []
    for name in ("train", "evaluate"):
        monkeypatch.setattr(
            seal_agents.runner.train, name, lambda *arguments: calls.append(arguments)
        )
    return calls


FLAGS = {
    "": ["train", "evaluate", "distill", "train-critic", "serve", "report", "--help", "--version"],
    "train": "--agent --rounds --problems --samples --learner --test-problems --seed --num-envs "
    "--out --resume --overwrite --options.keep --options.finetune.learning-rate",
    "evaluate": "--policies --problems --samples --seed --num-envs --out --resume --overwrite "
    "--options.prompt",
    "distill": "--run --keep --last-rounds --imitation.n-epochs --options.width --seed --out "
    "--resume --overwrite",
    "train-critic": "PATH --pairs --classifier --model --folds --out --overwrite",
    "serve": "--host --port --layout --requirement --batching.max-batch --batching.max-wait "
    "--batching.timeout --limits.max-body --limits.max-sessions --limits.idle-seconds",
    "report": "PATH --samples",
}
ENVIRONMENT = (
    "--task --model --edit --reward --horizon --split --data --task-options --edit-options "
    "--reward-options "
    "--inner.lora.rank --inner.lora.alpha --inner.lora.targets --inner.finetune.epochs "
    "--inner.finetune.learning-rate --inner.max-tokens --adapter --invalid-penalty --dtype --device"
)


@pytest.mark.parametrize("command", FLAGS)
def test_help_names_every_flag(command, capsys):
    if command:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
    else:
        main(["--help"])
    shown = capsys.readouterr().out
    wanted = FLAGS[command].split() if command else FLAGS[command]
    if command in ("train", "evaluate", "serve"):
        wanted = [*wanted, *ENVIRONMENT.split()]
    assert [flag for flag in wanted if flag.upper() not in shown.upper()] == []


def test_the_version_is_the_packages(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"seal-env {seal_env.__version__}\n"


def test_the_help_of_train_is_that_of_its_agent(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--agent", "none", "--help"])
    assert "--options.keep" not in capsys.readouterr().out


def test_flags_reach_the_settings(captured):
    main(
        "train --learner fixed --options.finetune.learning-rate 0.5 --inner.lora.rank 3 "
        "--inner.lora.targets q_proj v_proj --options.prompt rewrite --reward accuracy-shift "
        "--reward-options shift.margin=0.5 shift.texts=7 --stream merge+gate "
        "--stream-options gate.epsilon=0.05 gate.known=3 "
        "--task-options split_seed=4 --edit-options config.passage=none --task squad --resume "
        "--out o --seed 7".split()
    )
    config, resume, overwrite, _ = captured[0]
    assert (config.learner, config.seed, str(config.out)) == ("fixed", 7, "o")
    assert config.options.finetune.learning_rate == 0.5 and config.options.prompt == "rewrite"
    assert config.env.inner.lora.rank == 3
    assert config.env.inner.lora.targets == ("q_proj", "v_proj")
    assert config.env.inner.finetune.epochs == 5  # the recipe of the embedded model
    assert config.env.task_options == {"split_seed": 4}
    assert config.env.edit_options["config"].passage == "none"
    assert config.env.reward_options == {"shift": {"margin": 0.5, "texts": "7"}}
    assert config.env.stream_options == {"gate": {"epsilon": 0.05, "known": 3}}
    assert (resume, overwrite) == (True, False)


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        ("margin=1", "--reward-options margin=1: write PART.KEY=VALUE"),
        ("shift.margin", "--reward-options shift.margin: write PART.KEY=VALUE"),
        ("shfit.margin=1", "did you mean 'shift'"),
        ("shift.margin=wide", "--reward-options margin=wide: margin: must be"),
    ],
)
def test_options_of_terms_that_cannot_be_read_are_one_line(pair, says):
    with pytest.raises(UserError) as error:
        read_part_pairs("--reward-options", [pair], REWARDS.load)
    assert says in str(error.value)


def test_a_term_of_ones_own_has_a_dot_in_its_name():
    found = read_part_pairs(
        "--reward-options", ["seal_env.rewards.length:Length.scale=5"], REWARDS.load
    )
    assert found == {"seal_env.rewards.length:Length": {"scale": 5}}


def test_a_model_brings_its_recipe(captured):
    main(["evaluate", "--model", "other/model", "--policies", "none", "base"])
    config = captured[0][0]
    assert config.policies == ("none", "base")
    assert config.env.inner.finetune.epochs == 10 and config.env.inner.lora.rank == 32


def test_options_of_tasks_and_edits_are_read_as_they_are_annotated():
    task = TASKS.load("squad")
    pairs = [
        "grader=judge",
        "judge.base_url=http://localhost:1/v1",
        "judge.model=4",
        "split_seed=3",
    ]
    found = read_pairs("--task-options", pairs, task)
    judge = Judge("http://localhost:1/v1", "4")
    assert found == {"grader": "judge", "judge": judge, "split_seed": 3}
    for wrong in ("grader", "=1", "a..b=1"):
        with pytest.raises(UserError, match="write KEY=VALUE"):
            read_pairs("--task-options", [wrong], task)
    with pytest.raises(UserError, match="has a value of its own"):
        read_pairs("--task-options", ["judge=a", "judge.model=b"], task)
    for wrong in ("config.nosuch=1", "config.max_sequences=many"):
        with pytest.raises(UserError, match="--edit-options config"):
            read_pairs("--edit-options", [wrong], EDITS.load("training-data"))


PASSAGES = [
    {
        "title": f"T{i}",
        "context": f"Number {i} was born in Oslo.",
        "questions": [{"question": "Where?", "answer": "Oslo"}],
        "edits": {"me": "Oslo.", "gpt4_1": "Born in Oslo."},
    }
    for i in range(12)
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nosuch", "unknown command 'nosuch'"),
        ("trian", "unknown command 'trian': did you mean train?"),
        ("--versoin", "unknown option '--versoin': did you mean --version?"),
        ("train --nosuch 1", "unknown option --nosuch; "),
        ("train --sampels 1", "unknown option --sampels: did you mean --samples?"),
        ("train --sampels=1", "unknown option --sampels: did you mean --samples?"),
        ("train --rank 3", "did you mean --inner.lora.rank or --options.rank?"),
        ("train --inner.lora.rnak 3", "did you mean --inner.lora.rank?"),
        ("train 3", "unexpected argument '3'"),
        ("train --samples 3 4", "unexpected argument '4'"),
        ("evaluate --policy none", "did you mean --policies?"),
        ("distill --imitation.epoch 3", "did you mean --imitation.n-epochs?"),
        ("report --sample 3 x", "did you mean --samples?"),
        ("train --samples nan", "--samples must be an integer, not 'nan'"),
        ("train --samples", "--samples needs a value"),
        ("train --inner.tokens-per-pass x", "--inner.tokens-per-pass must be {None}|INT, not 'x'"),
        ("train --options.temperature x", "--options.temperature must be a number, not 'x'"),
        ("train --lengths.unit " + "w" * 300, "must be one of 'lines', 'tokens', 'characters'"),
        ("train --samples 0", "--samples 0: must be at least 1"),
        ("train --seed -1", "--seed -1"),
        ("train --learner sideways", "sideways"),
        ("train --options.temperature nan", "temperature nan"),
        ("train --options.keep 0", "keep 0"),
        ("train --inner.finetune.learning-rate nan", "learning rate"),
        ("train --inner.lora.rank 0", "LoRA rank 0"),
        ("train --horizon 3 --problems 2", "--horizon 3"),
        ("train --split test", "--split test"),
        ("train --adapter a", "--adapter"),
        ("train --agent nosuch", "unknown agent 'nosuch'"),
        ("train --agent no.such:Agent", "cannot import 'no.such'"),
        ("train --agent :Agent", "agent ':Agent'"),
        ("train --agent json:loads", "not a subclass"),
        ("train --agent edits:nobody --task squad --data data.json", "by: gpt4_1, me"),
        ("train --agent edit:nobody", "did you mean 'edits'"),
        ("train --agent rest-em:notes2", "unknown prompt 'notes2'"),
        ("train --agent none:4", "none takes nothing behind a colon"),
        ("train --agent edits:nobody", "comes without self-edits"),
        ("evaluate --policies none base none", "policy 'none': is named twice"),
        ("evaluate --policies always:none.txt", "cannot read the file (No such file"),
        ("train --resume --overwrite", "give one of them"),
        ("train --rounds 99999999999999999999", "must be at most 1000000"),
        ("train --problems 10000000000", "must be at most 1000000"),
        ("distill --keep 0", "--keep 0: must be at least 1"),
        ("train --screen 1.5", "--screen 1.5: must be above 0 and below 1"),
        ("train --screen 0.5 --samples 1", "give --samples 2 or more"),
        ("train --screen 0.5 --horizon 2", "--screen with --horizon 2"),
        ("train --screen 0.5 --critic nosuch", "critic nosuch: no critic here"),
        ("train --screen 0.5 --agent best-of-n", "give --options.screen and --options.critic"),
        ("train --critic nosuch", "as in --screen 0.5"),
        ("train-critic", "name the folders of training runs, or give --pairs"),
        ("train-critic nosuch", "nosuch: no run here"),
        ("train-critic --pairs nosuch", "--pairs nosuch: cannot be read"),
        ("train --inner.lora.rank 1000000", "--inner.lora: LoRA rank 1000000"),
        ("train --inner.finetune.epochs 1000000000", "--inner.finetune: epochs 1000000000"),
        ("train --data data.json", "task 'biographies' has no setting 'data'"),
        ("train --task squad --data data.json --task-options split_seed=x", "split_seed: must be"),
        ("train --task squad --data data.json --task-options spilt_seed=1", "mean 'split_seed'?"),
        ("train --task nosuch", "unknown task 'nosuch'"),
        ("train --edit nosuch", "unknown self-edit language 'nosuch'"),
        ("train --reward nosuch", "unknown reward term 'nosuch'"),
        ("train --reward accuracy+", "reward 'accuracy+'"),
        ("train --options.prompt nosuch", "unknown prompt 'nosuch'"),
        ("train --model nosuch", "unknown model 'nosuch': embedded"),
        ("train --model tinny", "unknown model 'tinny': did you mean 'tiny'? embedded"),
        ("evaluate --policies pasage", "did you mean 'passage'? known: "),
        ("train --model ./nosuch", "no such folder or file"),
        ("train --model empty", "unknown model|no config.json"),
        ("train --model weightless", "no weights"),
        ("train --dtype int3", "unknown precision 'int3'"),
        ("train --task squad", "give --data FILE"),
        ("train --task squad --data none.json", "no such file"),
        ("train --task squad --data bad.json", "is not JSON"),
        ("train --task-options nosuch=1", "task 'biographies' has no setting 'nosuch'"),
        ("train --out file", "is a file"),
        ("train --out empty/..", "holds no run"),
        ("evaluate --policies nosuch", "policy 'nosuch': neither"),
        ("evaluate --policies empty", "no run here"),
        ("evaluate --policies edits", "say whose"),
        ("evaluate --policies edits:none.jsonl", "cannot read the file"),
        ("evaluate --policies base:nosuch", "unknown prompt 'nosuch'"),
        ("evaluate --problems 0", "--problems 0"),
        ("evaluate --policies", "--policies"),
        ("report", "at least one run"),
        ("report none", "no run here"),
        ("report empty", "no run here"),
    ],
)
def test_what_cannot_be_done_is_one_line(models, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "bad.json").write_text('{"data": [')
    (tmp_path / "data.json").write_text(json.dumps(PASSAGES))
    shutil.copytree(models["llama"], tmp_path / "weightless")
    (tmp_path / "weightless" / "model.safetensors").unlink()
    command, *rest = arguments.split()
    if command in ("train", "evaluate") and "--model" not in rest:
        rest = [*rest, "--model", models["llama"]]
    if command in ("train", "evaluate") and "--out" not in rest:
        rest = [*rest, "--out", "run"]
    said = refused(capsys, command, *rest)
    assert any(part in said for part in message.split("|")), said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_real_command_refuses_in_one_line(tmp_path):
    command = [str(Path(sys.executable).with_name("seal-env")), "train", "--model", "./nosuch"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("seal-env: model './nosuch'")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --rounds 1e9", "--rounds must be an integer, not '1e9'"),
        ("train --learner sideways", "--learner must be one of 'follow', 'fixed', not 'sideways'"),
        (
            "evaluate --options.generation-batch-size 0",
            "--options: max_new_tokens, generation_batch_size and rank must be",
        ),
    ],
)
def test_a_wrong_value_is_one_line_on_every_terminal(tmp_path, encoding, arguments, message):
    done = subprocess.run(
        [sys.executable, "-m", "seal_agents", *arguments.split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"seal-env: {message}") and done.stderr.count("\n") == 1
    assert "For full helptext" not in done.stderr


def begun(tmp_path, models):
    arguments = ["train", *TRAIN, "--model", models["llama"], "--out", str(tmp_path / "run")]
    config = {"command": "train"}
    run.RunFolder.open(tmp_path / "run", config, resume=False, overwrite=False)
    return arguments


def test_a_folder_in_use_is_refused(models, tmp_path, capsys):
    arguments = begun(tmp_path, models)
    assert "already holds a run" in refused(capsys, *arguments)
    assert "the run there has" in refused(capsys, *arguments, "--resume")
    assert "give one of them" in refused(capsys, *arguments, "--resume", "--overwrite")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize(
    "name",
    ["episodes.jsonl", ".events.out.tfevents.round-000001.new", ".summary.json.new"],
)
def test_a_full_disk_ends_a_run_in_one_line(models, tmp_path, monkeypatch, capsys, name):
    arguments = ["train", *TRAIN, "--model", models["llama"], "--out", str(tmp_path / "run")]
    real = run.RunFolder.open

    def full(*rest):
        folder = real(*rest)
        (folder.path / name).symlink_to("/dev/full")
        return folder

    monkeypatch.setattr(run.RunFolder, "open", full)
    said = refused(capsys, *arguments)
    assert "No space left on device" in said and "--resume" in said


AGENT = """
from seal_agents import Agent
class Broken(Agent):
    def act(self, observations, seeds):
        raise KeyError("my own mistake")
"""


@pytest.mark.slow
def test_an_agents_own_exception_keeps_its_traceback(models, tmp_path):
    (tmp_path / "mine.py").write_text(AGENT)
    arguments = ["train", "--agent", "mine:Broken", *TRAIN[:8], "--model", models["llama"]]
    code, _, errors = finish([*arguments, "--out", "run"], tmp_path)
    assert code == 1 and "my own mistake" in errors and "mine.py" in errors
    assert json.loads((tmp_path / "run" / "config.json").read_text())["agent"] == "mine:Broken"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_a_reader_that_has_enough_is_no_error(arguments):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "seal_agents", *arguments]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_value_that_cannot_be_read_is_quoted_in_every_encoding(encoding):
    command = [sys.executable, "-m", "seal_agents", "train", "--rounds", "x"]
    given = os.environ | {"PYTHONIOENCODING": encoding}
    ended = subprocess.run(command, capture_output=True, env=given, text=True, check=False)
    assert ended.stderr.startswith("seal-env: --rounds must be an integer, not 'x'; ")


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(seal_agents.runner.train, "train", stop)
    with pytest.raises(SystemExit) as ended:
        main(["train"])
    assert ended.value.code == 130
    assert "--resume" in capsys.readouterr().err


def test_a_device_out_of_memory_is_told_in_one_line(monkeypatch, capsys):
    def fill(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 38.00 MiB. GPU 0 has")

    monkeypatch.setattr(seal_agents.runner.train, "train", fill)
    with pytest.raises(SystemExit) as ended:
        main(["train"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "seal-env: CUDA out of memory: lower --num-envs, or free memory; go on with --resume\n"
    )


def test_ctrl_c_in_a_report_is_told_without_resume(monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("seal_agents.reporting.report.report", stop)
    with pytest.raises(SystemExit) as ended:
        main(["report", "somewhere"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "seal-env: stopped\n"


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_fault(tmp_path):
    script = "from seal_agents import cli; cli._run = lambda a: print('x' * 10**6); cli.main([])"
    done = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -c \"{script}\" | true; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "")
