"""A run's folder: what it refuses, what it survives."""

import json
import math
import os
import re

import pytest
from agent_fixtures import lines, snapshot

from seal_agents import run_folder as module
from seal_agents.run_folder import RunFolder
from seal_env.errors import UserError

CONFIG = {
    "command": "train",
    "env": {"model": "m", "inner": {"lora": {"rank": 8}}},
    "out": "a",
    "num_envs": 4,
    "test_problems": 3,
    "run_time": {"device": "cpu", "threads": 2},
}


def begin(path, config=CONFIG):
    return RunFolder.open(path, config, resume=False, overwrite=False)


def resume(path, config=CONFIG):
    return RunFolder.open(path, config, resume=True, overwrite=False)


def record(index, round_=1, policy="p", phase="train"):
    return {"phase": phase, "policy": policy, "round": round_, "index": index, "text": "é\ud800"}


def test_records_come_back(tmp_path):
    run = begin(tmp_path / "run")
    run.append([record(0), record(1)])
    run.append([record(0, 2), record(0, 0, "q", "evaluate")])
    for again in (resume(run.path), RunFolder.existing(run.path)):
        assert again.records("train", "p", 1) == {0: record(0), 1: record(1)}
        assert again.records("evaluate", "q", 0) == {0: record(0, 0, "q", "evaluate")}
        assert again.records("train", "q", 1) == {}
        assert len(again.every_record()) == 4


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_half_written_last_line_is_cut_off(tmp_path, cut):
    run = begin(tmp_path)
    run.append([record(0), record(1)])
    place = tmp_path / "episodes.jsonl"
    os.truncate(place, place.stat().st_size - cut)
    assert list(RunFolder.existing(tmp_path).records("train", "p", 1)) == [0]
    run = resume(tmp_path)
    assert list(run.records("train", "p", 1)) == [0]
    run.append([record(1)])
    assert lines(tmp_path) == [record(0), record(1)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_null_in_every_file(value, tmp_path):
    config = CONFIG | {"options": {"rate": value}}
    run = begin(tmp_path, config)
    run.append([record(0) | {"terms": {"own": value}}])
    run.write_json("rounds.json", [{"loss": value}])
    for file in tmp_path.glob("*.json*"):
        text = file.read_text()
        assert not {"NaN", "Infinity"} & set(re.findall(r"\w+", text)), file
    assert math.isnan(run.read_results("rounds.json")[0]["loss"])
    assert resume(tmp_path, config).records("train", "p", 1)[0]["terms"] == {"own": None}


def test_reading_a_run_does_not_repair_it(tmp_path):
    begin(tmp_path).append([record(0)])
    with (tmp_path / "episodes.jsonl").open("a") as file:
        file.write('{"phase"')
    before = snapshot(tmp_path)
    RunFolder.existing(tmp_path)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("line", ["{", "[]", "{}", "null"])
def test_a_damaged_line_is_named(tmp_path, line):
    begin(tmp_path).append([record(0)])
    with (tmp_path / "episodes.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match="line 2: is damaged"):
        resume(tmp_path)


def test_a_run_is_not_begun_twice(tmp_path):
    begin(tmp_path)
    with pytest.raises(UserError, match=r"already holds a run; give --resume .* or --overwrite"):
        begin(tmp_path)


def test_resume_begins_a_run_where_there_is_none(tmp_path):
    resume(tmp_path / "deep" / "run")
    assert (tmp_path / "deep" / "run" / "config.json").is_file()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"test_problems": 4}, "--test-problems 3, not 4"),
        ({"env": {"model": "m", "inner": {"lora": {"rank": 4}}}}, "--inner.lora.rank 8, not 4"),
        ({"env": {"model": "n", "inner": {"lora": {"rank": 8}}}}, '--model "m", not "n"'),
        ({"command": "evaluate"}, 'command "train", not "evaluate"'),
        ({"run_time": {"device": "cuda", "threads": 2}}, 'device "cpu", not "cuda"'),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, change, named):
    begin(tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(UserError) as caught:
        resume(tmp_path, CONFIG | change)
    assert named in str(caught.value)
    assert snapshot(tmp_path) == before


def test_settings_that_change_no_result_may_change(tmp_path):
    begin(tmp_path)
    run_time = {"device": "cpu", "threads": 1}
    resume(tmp_path, CONFIG | {"out": "b", "num_envs": 9, "run_time": run_time})


@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("name", ["notes.txt", "config.json", ".hidden", "sub/file"])
def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path, flags, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"model_type": "llama"}')
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="is not empty and holds no run"):
        RunFolder.open(tmp_path, CONFIG, *flags)
    assert snapshot(tmp_path) == before


def test_a_file_is_refused(tmp_path):
    (tmp_path / "f").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        begin(tmp_path / "f")


def test_overwriting_removes_the_run_and_nothing_else(tmp_path):
    run = begin(tmp_path)
    run.append([record(0)])
    run.save_checkpoint(1, lambda folder: (folder / "a").write_text("x") and None)
    for name in ("summary.json", "comparison.png", "adapter/w", "events.out.tfevents.1"):
        run.write_bytes(name, b"{}")
    (tmp_path / "my notes.txt").write_text("keep")
    run = RunFolder.open(tmp_path, CONFIG | {"test_problems": 9}, resume=False, overwrite=True)
    assert run.every_record() == [] and run.rounds_done() == 0
    assert set(snapshot(tmp_path)) == {"config.json", "my notes.txt", ".lock"}


def test_overwriting_that_was_stopped_half_way_is_finished_by_the_next_run(tmp_path, monkeypatch):
    run = begin(tmp_path)
    run.append([record(0)])
    run.save_checkpoint(1, lambda folder: (folder / "a").write_text("x") and None)

    def stop(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module.shutil, "rmtree", stop)
        RunFolder.open(tmp_path, CONFIG, resume=False, overwrite=True)
    run = resume(tmp_path)
    assert run.every_record() == [] and run.rounds_done() == 0
    assert set(snapshot(tmp_path)) == {"config.json", ".lock"}


def test_a_run_that_was_stopped_before_its_config_was_written_can_begin(tmp_path):
    (tmp_path / ".config.json.new").write_text('{"comm')
    (tmp_path / ".lock").touch()
    begin(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG


def test_a_checkpoint_is_there_whole_or_not_at_all(tmp_path):
    run = begin(tmp_path)

    def stop(folder):
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.save_checkpoint(1, stop)
    assert run.rounds_done() == 0
    run.save_checkpoint(1, lambda folder: (folder / "whole").write_text("x") and None)
    assert run.rounds_done() == 1
    assert [p.name for p in run.checkpoint(1).iterdir()] == ["whole"]


def test_no_run_is_said(tmp_path):
    with pytest.raises(UserError, match="no run here"):
        RunFolder.existing(tmp_path)


needs_dev_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")


@needs_dev_full
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("episodes.jsonl", lambda run: run.append([record(0)])),
        (".summary.json.new", lambda run: run.write_json("summary.json", {})),
    ],
)
def test_a_full_disk_is_one_line(tmp_path, name, write):
    run = begin(tmp_path)
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"No space left on device.*--resume"):
        write(run)


def test_a_full_disk_while_weights_are_saved_is_one_line(tmp_path):
    from safetensors import SafetensorError

    def save(folder):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    said = r"round-1: cannot be written while agent Mine saved .*No space left.*make room"
    with pytest.raises(UserError, match=said):
        begin(tmp_path).save_checkpoint(1, save, "agent Mine")


def test_a_mistake_while_an_agent_saves_is_no_full_disk(tmp_path):
    run = begin(tmp_path)
    with pytest.raises(FileNotFoundError, match="no/such"):
        run.save_checkpoint(1, lambda folder: (folder / "no" / "such").write_text("x") and None)
    assert run.rounds_done() == 0


def test_room_is_made_on_a_full_disk_alone(tmp_path):
    run = begin(tmp_path)
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(UserError, match=r"summary.json: cannot be written .*directory") as caught:
        run.write_json("summary.json", {})
    assert "make room" not in str(caught.value)
