"""`seal-env export`: rows for other libraries' trainers, cards, and a hub."""

import base64
import json
import re
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from agent_fixtures import quiet, snapshot
from datasets import load_dataset
from huggingface_hub import DatasetCard, ModelCard, constants

from seal_agents import cli
from seal_agents.reporting.report import summarize
from seal_agents.run_folder import RunFolder
from seal_agents.runner.configs import ExportConfig, TrainConfig
from seal_agents.runner.export import export
from seal_agents.runner.folders import write_folder
from seal_agents.runner.rounds import round_problems
from seal_env.config import EnvConfig, InnerLoopConfig, make_task
from seal_env.engine.config import FinetuneConfig, LoraConfig
from seal_env.errors import UserError

TOKEN = "hf_never_printed"


def record(problem, index, reward, phase="train", round_=1, policy="rest-em", **more):
    return {
        "phase": phase, "policy": policy, "round": round_, "index": index, "sample": index % 3,
        "text": f"text {index}", "style": None, "evaluations": 1, "reward": reward,
        "reward_before": 0.25, "problem": problem, "title": "Ada", "accuracy": reward,
        "accuracy_before": 0.25, "log_likelihood": -1.0, "log_likelihood_before": -1.0,
        "answers": ["a"], "verdicts": [True], "answers_before": ["b"], "verdicts_before": [False],
        "error": "", "steps": 3, "tokens": 7, "terms": {"accuracy": reward}, "parsed": "",
    } | more  # fmt: skip


def a_run(path, task="biographies", **more):
    """A run of two rounds of two people, three self-edits each, and its comparison."""
    inner = InnerLoopConfig(LoraConfig(4, 8.0), FinetuneConfig())
    env = EnvConfig(task=task, model="tiny", inner=inner)
    config = TrainConfig(env=env, rounds=2, problems=2, samples=3, test_problems=2)
    run = RunFolder.open(path, {"command": "train"} | asdict(config), False, False)
    made = make_task("biographies")
    for round_ in (1, 2):
        people = [problem.id for problem in round_problems(made, config, round_)]
        rewards = [0.5, 0.75, 0.25, 0.25, 0.125, 0.25]  # nothing beats 0.25 for the second one
        run.append(
            [record(people[i // 3], i, r, round_=round_, **more) for i, r in enumerate(rewards)]
        )
        run.save_checkpoint(round_, lambda folder: None)
    held = [made.problem("test", i).id for i in range(2)]
    rows = {
        name: [record(p, i, 1.0, "evaluate", 0, name) for i, p in enumerate(held)]
        for name in ("base", "trained")
    }
    for records in rows.values():
        run.append(records)
    run.write_json("summary.json", summarize(rows, 0, 1.5))
    return run


@pytest.fixture
def run(tmp_path):
    return a_run(tmp_path / "run")


def exported(run, tmp_path, **settings):
    """The columns of an export, by split."""
    out = export(ExportConfig(run.path, out=tmp_path / "out", **settings), True, quiet())
    splits = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    return {split: rows[:] for split, rows in splits.items()}


def test_sft_has_the_best_self_edits_with_their_prompts(run, tmp_path):
    (rows,) = exported(run, tmp_path).values()
    people = list(dict.fromkeys(r["problem"] for r in run.every_record() if r["phase"] == "train"))
    assert rows["completion"] == ["text 1"] * 2 and rows["reward"] == [0.75] * 2
    assert rows["problem"] == people[::2]
    task = make_task("biographies")
    assert {task.problem("train", int(p.rpartition("/")[2])).id for p in people} == set(people)
    first = task.problem("train", int(people[0].rpartition("/")[2]))
    assert rows["prompt"][0] == f"{task.reads(first)}\nNotes:\n"
    (rows,) = exported(run, tmp_path, keep=2, chat=True).values()
    assert [turn["content"] for (turn,) in rows["completion"]] == ["text 1", "text 0"] * 2
    roles = [rows[name][0][0]["role"] for name in ("prompt", "completion")]
    assert roles == ["user", "assistant"]


def test_a_problem_of_two_rounds_has_the_best_of_each_and_equal_texts_once(run, tmp_path):
    person = run.every_record()[0]["problem"]

    def texts():
        (rows,) = exported(run, tmp_path).values()
        pairs = zip(rows["problem"], rows["completion"], strict=True)
        return [text for problem, text in pairs if problem == person]

    assert texts() == ["text 1"]
    run.append([record(person, 9, 0.5, round_=2, text="later")])
    assert texts() == ["text 1", "later"]
    run.append([record(person, 10, 0.625, round_=2, text="text 1")])
    assert texts() == ["text 1"]


def test_a_turn_of_a_chat_lacks_the_cue_that_is_for_base_models(tmp_path):
    run = a_run(tmp_path / "run", policy="base:rewrite")
    (plain,) = exported(run, tmp_path).values()
    (chat,) = exported(run, tmp_path, chat=True).values()
    ((turn,), *_), (text, *_) = chat["prompt"], plain["prompt"]
    assert text.startswith(turn["content"]) and len(text) > len(turn["content"])


def test_dpo_has_the_best_with_the_worst_where_the_reward_tells_them_apart(run, tmp_path):
    (rows,) = exported(run, tmp_path, format="dpo", keep=2).values()
    pairs = list(zip(rows["chosen"], rows["rejected"], strict=True))
    assert pairs == [("text 1", "text 2"), ("text 3", "text 4")] * 2
    assert rows["chosen_reward"] == [0.75, 0.25] * 2
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    (file,) = (tmp_path / "out" / "data").iterdir()
    files = [{"split": "train", "path": f"data/{file.name}"}]
    assert card.data.configs[0]["data_files"] == files
    assert "`chosen`" in card.text and "DPOTrainer" in card.text


def test_episodes_have_everything(tmp_path):
    run = a_run(tmp_path / "run", title="é\ud800", accuracy=float("inf"), own=[1])
    splits = exported(run, tmp_path, format="episodes")
    for split, phase in (("train", "train"), ("test", "evaluate")):
        wanted = [r for r in run.every_record() if r["phase"] == phase]
        rows = splits[split]
        for name in ("text", "reward", "policy", "round", "answers", "verdicts", "terms"):
            assert rows[name] == [r[name] for r in wanted], name
    train, test = splits["train"], splits["test"]
    assert train["title"][0] == "é?" and train["accuracy"][0] is None
    assert json.loads(train["info"][0]) == {"evaluations": 1, "own": [1], "parsed": ""}
    task = make_task("biographies")
    assert test["context"][0] == task.problem("test", 0).context
    asked = [q.text for q in task.problem("test", 0).questions]
    assert [q["question"] for q in test["questions"][0]] == asked


def test_nothing_of_a_run_folder_is_executed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    run = a_run(tmp_path / "run", terms={"evil:Term": 1.0})
    assert len(exported(run, tmp_path)["train"]["prompt"]) == 2
    run = a_run(tmp_path / "other", task="evil:Task")
    with pytest.raises(UserError, match=r"evil:Task is not the package's own\); --task names"):
        exported(run, tmp_path)
    assert exported(run, tmp_path, format="episodes")["train"]["context"][0] is None
    with pytest.raises(SystemExit, match="ran"):
        exported(run, tmp_path, task="evil:Task")


def test_what_cannot_be_exported_is_one_line(run, tmp_path):
    for settings, said in [
        ({"format": "policy"}, "no adapter here"),
        ({"push_to_hub": "a/b/c"}, "--push-to-hub a/b/c: Repo id must be"),
    ]:
        with pytest.raises(UserError, match=said):
            exported(run, tmp_path, **settings)
    run = a_run(tmp_path / "poor", error="not carried out")
    with pytest.raises(UserError, match="no self-edit was better than none"):
        exported(run, tmp_path)
    with pytest.raises(UserError, match="two self-edits with different rewards"):
        exported(run, tmp_path, format="dpo")
    run = a_run(tmp_path / "damaged", steps="three")
    with pytest.raises(UserError, match=r"episodes\.jsonl: cannot be exported"):
        exported(run, tmp_path, format="episodes")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_only_an_export_is_replaced_and_only_if_asked(run, tmp_path, capsys):
    out = tmp_path / "run-sft"  # the folder's usual name
    command = ["export", str(run.path)]
    cli.main(command)
    before = snapshot(out)
    assert "README.md" in before and len(before) == 2
    with pytest.raises(SystemExit):
        cli.main(command)
    assert "holds an export" in capsys.readouterr().err
    cli.main([*command, "--format", "dpo", "--out", str(out), "--overwrite"])
    assert snapshot(out)["README.md"] != before["README.md"]
    (out / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit):
        cli.main([*command, "--overwrite"])
    assert "is no export" in capsys.readouterr().err and (out / "mine.txt").exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_folder_is_whole_or_the_earlier_one(stop, tmp_path):
    write_folder(tmp_path / "out", lambda folder: (folder / "old").write_text("old"))

    def save(folder):
        (folder / "new").write_text("new")
        raise stop

    with pytest.raises((KeyboardInterrupt, UserError)):
        write_folder(tmp_path / "out", save)
    assert snapshot(tmp_path) == {"out/old": b"old"}
    write_folder(tmp_path / "out", lambda folder: (folder / "new").write_text("new"))
    assert snapshot(tmp_path) == {"out/new": b"new"}


def with_adapter(run, base):
    (run.path / "adapter").mkdir()
    (run.path / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    run.write_json("adapter/adapter_config.json", {"base_model_name_or_path": base})
    return run


def test_a_policy_has_a_card(run, tmp_path):
    with_adapter(run, "/srv/models/mine.gguf")
    out = export(ExportConfig(run.path, format="policy", out=tmp_path / "out"), False, quiet())
    described = json.loads((out / "adapter_config.json").read_text())
    assert described == {"base_model_name_or_path": "mine.gguf"}
    assert (out / "adapter_model.safetensors").read_bytes() == b"weights"
    card = ModelCard.load(out / "README.md")
    (result,) = card.data.eval_results
    assert (card.data.library_name, result.metric_value, card.data.base_model) == (
        "peft",
        1.0,
        None,
    )
    assert "| `trained` | 2 | 1.000 [1.00, 1.00] | +0.000 [+0.00, +0.00] |" in card.text
    assert "{context}\nNotes:" in card.text and str(tmp_path) not in card.content
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    compile(code, "card", "exec")


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the hub: what was asked, and the files of the commit."""
    seen = {"files": {}, "deleted": [], "tokens": set(), "status": 200}

    class Hub(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            seen["tokens"].add(self.headers["authorization"])
            if self.path == "/api/repos/create":
                seen["created"] = json.loads(body)
                prefix = "datasets/" if seen["created"]["type"] == "dataset" else ""
                seen["url"] = f"{constants.ENDPOINT}/{prefix}me/edits"
                reply = {"url": seen["url"]}
            elif self.path == "/api/validate-yaml":
                reply = {"errors": [], "warnings": []}
            elif "/preupload/" in self.path:
                given = json.loads(body)["files"]
                modes = {"uploadMode": "regular", "shouldIgnore": False}
                reply = {"files": [{"path": file["path"]} | modes for file in given]}
            else:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "deletedFile":
                        seen["deleted"].append(line["value"]["path"])
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                        seen["files"][line["value"]["path"]] = content
                reply = {"commitUrl": f"{seen['url']}/commit/{'0' * 40}", "commitOid": "0" * 40}
            self.send_response(seen["status"])
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode())

        def do_GET(self):  # the files of an earlier export
            known = "/tree/" in self.path
            old = {"type": "file", "path": "data/train-00000000.parquet", "size": 1, "oid": "0"}
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps([old] if known else {}).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield seen
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_a_hub_gets_the_folder(kind, hub, run, tmp_path, capsys):
    options = ["--format", "sft" if kind == "dataset" else "policy", "--push-to-hub", "me/edits"]
    with_adapter(run, "tiny")
    cli.main(["export", str(run.path), "--out", str(tmp_path / "out"), *options])
    assert hub["files"] == snapshot(tmp_path / "out")
    assert hub["deleted"] == ["data/train-00000000.parquet"]
    created = hub["created"]
    assert (created["type"], created["organization"], created["name"]) == (kind, "me", "edits")
    assert created["visibility"] == "private" and hub["tokens"] == {f"Bearer {TOKEN}"}
    said = "".join(capsys.readouterr())
    assert "pushed to http://127.0.0.1" in said and TOKEN not in said


def test_a_hub_that_refuses_is_one_line_and_the_folder_stays(hub, run, tmp_path, monkeypatch):
    def refused():
        settings = ExportConfig(run.path, out=tmp_path / "out", push_to_hub="me/edits")
        with pytest.raises(UserError, match=r"^--push-to-hub me/edits: .*hf upload") as said:
            export(settings, True, quiet())
        assert TOKEN not in str(said.value) and (tmp_path / "out" / "README.md").is_file()
        return str(said.value)

    hub["status"] = 403
    assert "403" in refused()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "offline mode" in refused()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "refused" in refused()
