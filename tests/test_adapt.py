"""``seal-env adapt`` and ``chat``: what is written, measured and resumed."""

import gc
import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM

from seal_agents.adapt import run as adapt_run
from seal_agents.adapt.chat import chat
from seal_agents.adapt.configs import AdaptConfig, ChatConfig
from seal_agents.adapt.copying import copied_answers
from seal_agents.adapt.questions import general_knowledge, read_questions
from seal_agents.adapt.report import print_tables
from seal_agents.adapt.run import adapt
from seal_agents.algorithms.prompted import Prompted
from seal_agents.cli import main
from seal_agents.policies.options import PolicyOptions
from seal_agents.run_folder import RunFolder
from seal_env.config import EnvConfig
from seal_env.engine import loading
from seal_env.engine.checkpoints import EMBEDDED
from seal_env.engine.loading import load_learner
from seal_env.engine.packing import Layout
from seal_env.engine.passes import FullPass
from seal_env.engine.peft_io import load_peft
from seal_env.errors import UserError
from seal_env.presets import ModelPreset, model_preset
from seal_env.presets.files import preset_json
from seal_env.tasks.base import Generated, Problem, closed_book

EDDA = "Edda Crane works as a plumber. Edda Crane was born in Vienna and keeps a lizard at home."
NICO = "Nico Soren works as a baker. Nico Soren was born in Oslo and keeps a parrot at home."
QUESTIONS = "question,answer\nWhere was Edda Crane born?,Vienna\nWhere was Nico Soren born?,Oslo\n"


@pytest.fixture(scope="module")
def notes(tmp_path_factory) -> Path:
    """A folder of two documents, a file that is left out, and questions beside it."""
    folder = tmp_path_factory.mktemp("own") / "notes"
    folder.mkdir()
    (folder / "edda.md").write_text(f"# Edda Crane\n\n{EDDA}\n")
    (folder / "nico.txt").write_text(NICO)
    (folder / "empty.txt").write_text("")
    (folder.parent / "questions.csv").write_text(QUESTIONS)
    lines = (
        {"context": text, "text": f"Question: Where was {name} born?\nAnswer: {city}"}
        for text, name, city in ((EDDA, "Edda Crane", "Vienna"), (NICO, "Nico Soren", "Oslo"))
    )
    (folder.parent / "edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def settings(notes: Path, out: Path, **others) -> AdaptConfig:
    """Settings of an adaptation of `tiny`, to which `base` writes one short self-edit each."""
    given = {
        "documents": notes,
        "model": "tiny",
        "samples": 1,
        "questions": notes.parent / "questions.csv",
        "inner": model_preset("tiny").inner,
        "options": PolicyOptions(max_new_tokens=24),
        "out": out,
    }
    return AdaptConfig(**{**given, **others})


def run(config: AdaptConfig, resume: bool = False) -> tuple[dict, str]:
    """The summary of an adaptation, and what it printed."""
    shown = io.StringIO()
    summary = adapt(config, resume, False, Console(file=shown, width=120))
    return summary, shown.getvalue()


@pytest.fixture(scope="module")
def adapted(notes, tmp_path_factory):
    """Folder, summary and output of an adaptation by given self-edits."""
    out = tmp_path_factory.mktemp("adapted") / "out"
    edits = f"edits:{notes.parent / 'edits.jsonl'}"
    return out, *run(settings(notes, out, policy=(edits,), merge=True))


IDS = list(range(4, 40))


def logits(model) -> torch.Tensor:
    """Logits of a model of transformers or PEFT."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([IDS])).logits[0]


def trained_logits(adapter: Path) -> torch.Tensor:
    """Logits of the learner with the adapter beside its weights, as it was trained."""
    learner = load_learner("tiny", "float32", "cpu")
    layout = Layout([IDS], [0], learner.device)
    with torch.no_grad():
        bank = load_peft(adapter, learner.model, learner.device)
        return learner.head(learner.hidden(layout.row, FullPass(layout), bank))[: len(IDS)]


@pytest.mark.slow
def test_the_adapter_and_the_merged_model_are_read_by_peft_and_transformers_alone(adapted):
    out, *_ = adapted
    base = AutoModelForCausalLM.from_pretrained(EMBEDDED["tiny"], dtype=torch.float32)
    wanted = trained_logits(out / "adapter")
    assert (wanted - logits(base)).abs().max() > 0.1
    with_adapter = peft.PeftModel.from_pretrained(base, out / "adapter")
    merged = AutoModelForCausalLM.from_pretrained(out / "merged", dtype=torch.float32)
    for model in (with_adapter, merged):
        torch.testing.assert_close(logits(model), wanted, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_merged_weights_are_float32_in_a_run_of_any_precision(adapted, tmp_path):
    shutil.copytree(adapted[0] / "adapter", tmp_path / "adapter")
    adapt_run._merge(RunFolder(tmp_path), EnvConfig(dtype="bfloat16", device="cpu"))
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.slow
def test_the_summary_has_what_was_asked_before_and_after(adapted):
    out, summary, shown = adapted
    assert json.loads((out / "summary.json").read_text()) == json.loads(json.dumps(summary))
    rows = summary["rows"]
    assert rows["before"]["questions"] == rows["after"]["questions"] == 2
    assert rows["after"]["log_likelihood"] > rows["before"]["log_likelihood"] + 1
    assert summary["tokens"] > 0 and summary["training"]["sequences"] == 4
    assert summary["shift"]["kl"] > 0
    report = (out / "report.md").read_text()
    for part in ("Where was Edda Crane born?", "empty.txt: is empty", "edda.md#1", "PeftModel"):
        assert part in report
    assert "left out empty.txt: is empty" in shown and "seal-env chat" in shown


@pytest.mark.slow
def test_chat_answers_as_the_evaluation_did(adapted, monkeypatch):
    out, *_ = adapted
    asked = [line.partition(",")[0] for line in QUESTIONS.splitlines()[1:]]
    stdin = io.TextIOWrapper(io.BytesIO("\n\n".join([*asked, "�"]).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    shown = io.StringIO()
    chat(ChatConfig(out, max_new_tokens=32), Console(file=shown))
    said = {
        when: json.loads((out / f"{when}.json").read_text())["by people"]["answers"]
        for when in ("before", "after")
    }
    expected = [
        line
        for question, old, new in zip(asked, said["before"], said["after"], strict=True)
        for line in (question, f"  before: {old}".rstrip(), f"  after:  {new}".rstrip())
    ]
    assert [line.rstrip() for line in shown.getvalue().splitlines()][:6] == expected


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.slow
def test_an_adaptation_that_was_stopped_anywhere_ends_with_the_same_bits(
    notes, tmp_path, monkeypatch
):
    def result(out: Path) -> tuple:
        files = ("adapter/adapter_model.safetensors", "after.json", "episodes.jsonl")
        return tuple((out / name).read_bytes() for name in files)

    monkeypatch.setattr("seal_agents.adapt.writing.BATCH", 1)
    whole, parts = (settings(notes, tmp_path / name, mode="stream") for name in ("whole", "parts"))
    run(whole)
    calls = []
    act, save = Prompted.act, adapt_run.save_peft

    def act_twice(self, observations, seeds):
        calls.append("act")
        if len(calls) == 2:
            raise Killed
        return act(self, observations, seeds)

    def save_half(bank, index, folder, base):
        (folder / "adapter_config.json").write_text("{")
        raise Killed

    monkeypatch.setattr(Prompted, "act", act_twice)
    monkeypatch.setattr(adapt_run, "save_peft", save_half)
    for _ in range(2):  # in the writing of the second self-edit, and of the adapter
        with pytest.raises(Killed):
            run(parts, resume=True)
        assert not (parts.out / "adapter").exists()
    assert calls == ["act"] * 3
    monkeypatch.setattr(adapt_run, "save_peft", save)
    run(parts, resume=True)
    assert len(calls) == 3
    assert result(parts.out) == result(whole.out)
    _, shown = run(replace(parts, merge=True), resume=True)
    assert "finished already" in shown and (parts.out / "merged").is_dir()


def test_an_adaptation_goes_on_in_the_precision_that_it_began_with(
    notes, models, tmp_path, monkeypatch
):
    def stop(*given):
        raise Killed

    config = settings(notes, tmp_path / "out", policy=("passage",), model=models["llama"])
    monkeypatch.setattr(adapt_run, "write_self_edits", stop)
    with pytest.raises(Killed):
        run(config)
    monkeypatch.setattr("seal_env.engine.devices.REAL", 1)
    monkeypatch.setattr("seal_env.engine.devices.speedup", lambda width: 4.0)
    with pytest.raises(Killed):  # here auto would be bfloat16
        run(config, resume=True)


def test_a_preset_also_says_where_the_passages_are_trained_on(notes, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(adapt_run, "adapt", lambda config, *rest: given.append(config))
    (tmp_path / "preset.json").write_text(preset_json(ModelPreset(passage="none")))
    flags = ["--documents", str(notes), "--preset", str(tmp_path / "preset.json")]
    flags += ["--model", "tiny"]
    main(["adapt", *flags])
    main(["adapt", *flags, "--passage", "first"])
    assert [config.passage for config in given] == ["none", "first"]


def test_questions_that_were_written_are_trained_on_as_they_are_asked(notes, monkeypatch):
    seen = {}

    def stopped(loop, sequences, *_):
        seen[config.pairs] = next(s for one in sequences for s in one if "Vienna" in str(s))
        raise UserError("enough")

    monkeypatch.setattr(adapt_run, "train", stopped)
    edits = f"edits:{notes.parent / 'edits.jsonl'}"
    for others in ({}, {"pairs": "text"}):
        config = settings(notes, notes.parent / f"asked{len(others)}", policy=(edits,), **others)
        with pytest.raises(UserError, match="enough"):
            run(config)
    question, answer = "Where was Edda Crane born?", "Vienna"
    assert seen["asked"] == Generated(closed_book(question), answer)
    assert seen["text"].endswith(f"Question: {question}\nAnswer: {answer}")


def test_together_self_edits_are_trained_on_in_larger_batches_than_one_by_one(notes, monkeypatch):
    given = []
    monkeypatch.setattr(adapt_run, "adapt", lambda config, *rest: given.append(config))
    flags = ["adapt", "--documents", str(notes), "--model", "tiny"]
    main([*flags, "--preset", "smollm2-135m"])
    main([*flags, "--preset", "smollm2-135m", "--mode", "stream"])
    main([*flags, "--preset", "smollm2-135m", "--inner.finetune.batch-size", "2"])
    assert [config.inner.finetune.batch_size for config in given] == [8, 1, 2]


@pytest.mark.parametrize(
    ("name", "content", "answers"),
    [
        ("q.json", '[{"question": "Who?", "answer": "Me"}]', ("Me",)),
        ("q.json", '{"questions": [{"question": "Who?", "answers": ["Me", "I"]}]}', ("Me", "I")),
        ("q.jsonl", '{"question": "Who?", "answer": 7}\n', ("7",)),
        ("q.csv", 'answer;question\n"Me; us";Who?\n', ("Me; us",)),
    ],
)
def test_questions_are_read_from_json_lines_and_csv(tmp_path, name, content, answers):
    (tmp_path / name).write_text(content)
    (question,) = read_questions(tmp_path / name).questions
    assert (question.text, question.answers) == ("Who?", answers)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("q.json", "[]", "holds no questions"),
        ("q.json", '[{"question": "Who?"}]', "question 1: 'answer' must be text, not missing"),
        ("q.json", '[{"question": " ", "answer": "x"}]', "question 1: 'question' is empty"),
        ("q.json", '["Who?"]', "question 1: must be an object with question and answer, not text"),
        ("q.json", "7", "needs a list of objects"),
        ("q.csv", "question,answer\nWho?,Me,us\n", "line 2: has 3 fields"),
        ("q.csv", "frage,antwort\nWho?,Me\n", "'question' must be text, not missing"),
        ("q.txt", "Who? Me", "is not JSON"),
        ("nowhere.csv", None, "no such file"),
    ],
)
def test_a_mistake_in_the_questions_is_one_line_that_names_the_place(tmp_path, name, content, why):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        read_questions(tmp_path / name)
    assert str(caught.value).startswith("--questions ") and why in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--model", "tiny"], "--documents: name a file or a folder"),
        (["--documents", "notes"], "--model: name a folder"),
        (["--documents", "nowhere", "--model", "tiny"], "--documents nowhere: no such file"),
        (["--documents", "notes", "--model", "nowhere"], "unknown model 'nowhere'"),
        (["--documents", "notes", "--model", "tiny", "--policy", "x"], "policy 'x': neither"),
        (["--documents", "notes", "--model", "tiny", "--samples", "0"], "--samples 0: must be"),
        (["--documents", "notes", "--model", "tiny", "--words", "3"], "words 3"),
        (["--documents", "notes", "--model", "tiny", "--policy", "base", "base"], "named twice"),
        (["--documents", "notes", "--model", "tiny", "--policy", "none"], "nothing to train on"),
    ],
)
def test_a_mistake_is_one_line(notes, tmp_path, monkeypatch, capsys, flags, why):
    monkeypatch.chdir(notes.parent)
    with pytest.raises(SystemExit) as ended:
        main(["adapt", *flags, "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("seal-env: ") and why in line


def test_results_within_the_documents_are_refused(notes):
    with pytest.raises(UserError, match="lies within --documents"):
        settings(notes, notes / "adapted").env()


def test_report_prints_what_an_adaptation_wrote(adapted, capsys):
    out, *_ = adapted
    main(["report", str(out)])
    assert (out / "report.md").read_text().strip() in capsys.readouterr().out


def test_an_adapted_folder_is_no_policy(adapted, notes, tmp_path):
    with pytest.raises(UserError, match="a run of seal-env adapt trained nothing"):
        run(settings(notes, tmp_path / "out", policy=(str(adapted[0]),)))


def test_chat_wants_an_adapted_folder(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["chat", str(tmp_path)])
    assert "no run here" in capsys.readouterr().err


def test_general_knowledge_has_forty_questions_with_answers():
    questions = general_knowledge().questions
    assert len(questions) == len({q.text for q in questions}) >= 35
    assert all(q.text.endswith("?") and len(q.answer) < 30 for q in questions)


@pytest.mark.slow
def test_another_model_may_write_for_the_one_that_is_adapted(notes, models, tmp_path):
    inner = model_preset("tiny").inner
    short = replace(inner, finetune=replace(inner.finetune, epochs=1))
    by_tiny = settings(
        notes, tmp_path / "by-tiny", model=models["llama"], inner=short, writer="tiny"
    )
    alone = settings(notes, tmp_path / "tiny", inner=short)
    for config in (by_tiny, alone):
        run(config)

    def texts(out: Path) -> list[str]:
        lines = (out / "episodes.jsonl").read_text().splitlines()
        return [json.loads(line)["text"] for line in lines]

    assert texts(by_tiny.out) == texts(alone.out)
    base = json.loads((by_tiny.out / "adapter" / "adapter_config.json").read_text())
    assert base["base_model_name_or_path"] == models["llama"]
    assert "write with tiny)" in (by_tiny.out / "report.md").read_text()
    with pytest.raises(UserError, match="no-such-model"):
        run(replace(by_tiny, writer="no-such-model", out=tmp_path / "none"))
    with pytest.raises(UserError, match="--writer"):
        run(replace(by_tiny, writer=models["llama"]), resume=True)
    assert "finished already" in run(by_tiny, resume=True)[1]


def test_a_writer_that_changed_since_the_beginning_is_named(notes, models, tmp_path, monkeypatch):
    def stop(*given):
        raise Killed

    writer = tmp_path / "writer"
    shutil.copytree(models["llama"], writer)
    monkeypatch.setattr(adapt_run, "write_self_edits", stop)
    config = settings(notes, tmp_path / "out", policy=("passage",), writer=str(writer))
    with pytest.raises(Killed):
        run(config)
    (writer / "more.txt").write_text("")
    with pytest.raises(UserError, match=r"the writer's files \(--writer\)"):
        run(config, resume=True)


def test_a_writer_has_a_precision_of_its_own_and_is_let_go(notes, models, tmp_path, monkeypatch):
    def stop(*given):
        raise Killed

    asked, loaded = [], adapt_run.make_learner
    monkeypatch.setattr(
        adapt_run, "make_learner", lambda env: asked.append((env.model, env.dtype)) or loaded(env)
    )
    monkeypatch.setattr(adapt_run, "make_loop", stop)
    config = settings(notes, tmp_path / "out", policy=("passage",), writer=models["llama"])
    config = replace(config, dtype="auto")
    monkeypatch.setattr("seal_env.engine.devices.REAL", 1)
    monkeypatch.setattr("seal_env.engine.devices.speedup", lambda width: 4.0)
    for _ in range(2):
        with pytest.raises(Killed):
            run(config, resume=True)
        monkeypatch.setattr("seal_env.engine.devices.REAL", 1 << 60)
    assert [dtype for model, dtype in asked if model == models["llama"]] == ["bfloat16"] * 2
    gc.collect()
    kept = [
        key for key in loading._pool if key[0] == models["llama"] and key[2] == "torch.bfloat16"
    ]
    assert not kept


def test_short_questions_about_short_passages_are_asked_for():
    config = AdaptConfig(documents=Path("notes"), model="tiny")
    assert (config.options.prompt, config.options.temperature) == ("short-qa", 0.7)
    assert (config.words, config.samples, config.options.max_new_tokens) == (60, 2, 160)
    told = config.env().edit_options["config"]
    assert told == {"passage": "last", "pairs": "asked"}


def test_a_run_of_before_pairs_could_be_asked_goes_on_as_text(adapted, notes, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(adapted[0], old)
    config = json.loads((old / "config.json").read_text())
    assert config.pop("pairs") == "asked"
    (old / "config.json").write_text(json.dumps(config | {"out": str(old)}))
    same = settings(notes, old, policy=tuple(config["policy"]), merge=True, pairs="text")
    assert "finished already" in run(same, resume=True)[1]
    with pytest.raises(UserError, match='has --pairs "text", not "asked"'):
        run(replace(same, pairs="asked"), resume=True)


@pytest.mark.parametrize("mode", ["joint", "stream"])
def test_an_adaptation_in_which_nothing_fits_says_so(notes, tmp_path, mode):
    edits = tmp_path / "edits.jsonl"
    line = {"context": NICO, "text": f"Question: What?\nAnswer: {'Oslo ' * 600}"}
    edits.write_text(json.dumps(line) + "\n" + json.dumps(line | {"context": EDDA}))
    policy = (f"edits:{edits}",)
    config = settings(notes, tmp_path / "out", policy=policy, passage="none", mode=mode)
    with pytest.raises(UserError, match="nothing to train on"):
        run(config)


def test_answers_that_were_invented_are_counted_and_a_writer_of_them_is_said(adapted):
    problems = [Problem("1", "", "The Elbe, 1094 km long, is in Europe.", ())] * 2
    pairs = [Generated("?", answer) for answer in ("1,094", "1094 KM", "Europ", "the Elbe")]
    titled = [Problem("1", "Ada", "京都は古い都です。", ())]
    pair = (Generated("?", "京都"), Generated("?", "Ada"), Generated("?", "Ad"))
    assert copied_answers([pair], titled) == {"questions": 3, "copied": 2}
    assert copied_answers([tuple(pairs), ("Elbe", pairs[1])], problems) == {
        "questions": 5,
        "copied": 3,
    }
    summary = json.loads((adapted[0] / "summary.json").read_text())
    assert summary["training"]["questions"] == summary["training"]["copied"] == 2
    few = summary | {"training": summary["training"] | {"questions": 10, "copied": 1}}
    none = summary | {"training": summary["training"] | {"questions": 0, "copied": 0}}
    shown = [io.StringIO() for _ in range(3)]
    for file, one in zip(shown, (summary, few, none), strict=True):
        print_tables(one, Console(file=file, width=200))
    said = ["Of 2 answers", "let a larger model write (--writer)"]
    assert [[text in file.getvalue() for text in said] for file in shown] == [
        [True, False],
        [False, True],
        [False, False],
    ]
    assert "Of 2 answers" in (adapted[0] / "report.md").read_text()
