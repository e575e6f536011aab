"""``seal-env adapt``: documents and a model in, an adapter that knows the documents out."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from seal_agents.adapt.configs import AdaptConfig
from seal_agents.adapt.copying import copied_answers
from seal_agents.adapt.questions import general_knowledge, named, read_questions, sentence_questions
from seal_agents.adapt.report import REPORT, print_tables, summarize, write_report
from seal_agents.adapt.training import make_loop, pooled, train
from seal_agents.adapt.writing import write_self_edits
from seal_agents.base import Agent
from seal_agents.policies.options import ADAPTER
from seal_agents.run_folder import CONTENTS, Record, RunFolder
from seal_agents.runner.build import build
from seal_agents.runner.contents import (
    contents,
    described,
    dtype_note,
    of_model,
    with_dtype,
)
from seal_agents.runner.progress import Bars
from seal_env.assembly import make_learner
from seal_env.config import EnvConfig, make_language, make_task
from seal_env.engine.banks import LearnerState
from seal_env.engine.divergence import Divergence, divergences
from seal_env.engine.loading import load_learner, release
from seal_env.engine.lora import AdapterBank
from seal_env.engine.mixed_bank import bank_of
from seal_env.engine.peft_io import load_peft, save_peft
from seal_env.inner_loop import InnerLoop
from seal_env.probes.texts import suited_texts
from seal_env.tasks.base import Problem

MERGED = "merged"
"""Folder of the model with the adapter in its weights."""
SUMMARY = "summary.json"
"""File with the results; where it is, the run is finished."""
WRITER_DTYPE = "writer_dtype"
"""Name of the writer's precision among the settings ``run_time`` of the run."""
TRAINED = "training.json"
"""File with the numbers of the training; written after the adapter."""


def adapt(config: AdaptConfig, resume: bool, overwrite: bool, console: Console) -> dict[str, Any]:
    """Runs `seal-env adapt`; returns the summary."""
    started = time.monotonic()
    env = config.env()
    RunFolder.check(config.out, resume, overwrite)
    with named("--documents"):
        task = make_task(env.task, env.data, env.task_options)
    problems = [task.problem("all", i) for i in range(task.size("all") or 0)]
    asked = [] if config.questions is None else [read_questions(config.questions)]
    asked += [sentence_questions(problems), general_knowledge()]
    env = with_dtype(env, config.out, resume)
    writing = env
    if config.writer is not None:
        writing = replace(env, model=config.writer, dtype=config.dtype)
        writing = with_dtype(writing, config.out, resume, WRITER_DTYPE)
    learner = make_learner(env)
    bars = Bars(console)
    finished = resume and (config.out / SUMMARY).is_file()
    agents = {} if finished else _agents(config, writing, bars)
    used = contents(env, [*problems, *asked], config.policy)
    settings = described("adapt", config, env, used)
    if config.writer is not None:
        settings[CONTENTS] |= of_model("writer", config.writer)
        settings["run_time"][WRITER_DTYPE] = writing.dtype
    run = RunFolder.open(config.out, settings, resume, overwrite)
    run.started = started
    documents = len({problem.id.rpartition("#")[0] for problem in problems})
    console.print(
        f"adapting {env.model} to {len(problems)} passages of {_count(documents, 'document')}, in "
        f"{config.out}",
        markup=False,
    )
    chosen = dtype_note(env) if config.dtype == "auto" else ()
    for note in (*task.notes, *run.notes, *chosen):
        console.print(f"note: {note}", markup=False, highlight=False)
    summary = run.read_json(SUMMARY)
    if summary is not None:
        console.print(f"the adaptation in {run.path} is finished already", markup=False)
    else:
        with bars.counting(4):
            bars.advance("writing self-edits")
            writer = make_learner(writing)
            records = write_self_edits(
                run, agents, problems, task, writer, config.samples, config.seed, bars.stage
            )
            agents.clear()
            if writer is not learner:  # a larger one would be in the way of the training
                release(writer)
            del writer
            loop = make_loop(learner, task, config.inner)
            bars.advance("asking before")
            before = _answers(run, "before", loop, asked, None, bars)
            bars.advance("training")
            state = _train(run, config, loop, problems, records, bars)
            bars.advance("asking after")
            after = _answers(run, "after", loop, asked, state, bars)
        shift = _shift(loop, state)
        training = run.read_json(TRAINED)
        summary = summarize(before, after, shift, training, run.seconds)
        write_report(run, config, problems, asked, task.notes, summary, before, after)
        run.write_json(SUMMARY, summary)
    if config.merge and not (run.path / MERGED).is_dir():
        _merge(run, env)
    print_tables(summary, console)
    _point(run, config, console)
    return dict(summary)


def _agents(config: AdaptConfig, env: EnvConfig, bars: Bars) -> dict[str, Agent]:
    return {
        name: build(name, env, config.seed, bars.stage, config.options).agent
        for name in config.policy
    }


def _answers(
    run: RunFolder,
    when: str,
    loop: InnerLoop,
    asked: Sequence[Problem],
    state: LearnerState | None,
    bars: Bars,
) -> dict[str, Any]:
    """Answers to all sets of questions, by the name of the set; kept in the run folder."""
    known: dict[str, Any] | None = run.read_json(f"{when}.json")
    if known is None:
        bank = bank_of([state], loop.learner.model)
        scores = loop.evaluator.evaluate(asked, [0] * len(asked), bank, bars.stage)
        known = {p.id: asdict(score) for p, score in zip(asked, scores, strict=True)}
        run.write_json(f"{when}.json", known)
    return known


def _train(
    run: RunFolder,
    config: AdaptConfig,
    loop: InnerLoop,
    problems: Sequence[Problem],
    records: Sequence[Record],
    bars: Bars,
) -> LearnerState:
    """The trained adapter, which is written in PEFT's format; that of the run if it has one."""
    learner = loop.learner
    if run.read_json(TRAINED) is None:
        texts: dict[str, list[str | None]] = {problem.id: [] for problem in problems}
        for record in records:
            texts[record["problem"]].append(record["text"])
        language = make_language(config.env())
        language.bind(learner, loop.task)
        sequences = pooled(language, problems, texts)
        adapted = train(loop, sequences, problems, config.mode, config.seed, bars.stage)
        bank = bank_of([adapted.state], learner.model)
        assert isinstance(bank, AdapterBank)

        def save(folder: Path) -> None:
            save_peft(bank, 0, folder, learner.name)

        _write_folder(run, ADAPTER, save)
        numbers = {k: v for k, v in vars(adapted).items() if k != "state"}
        numbers |= {"passages": sum(map(bool, sequences))}
        run.write_json(TRAINED, numbers | copied_answers(sequences, problems))
    # What is measured is what was written.
    return load_peft(run.path / ADAPTER, learner.model, learner.device).state_of(0)


def _write_folder(run: RunFolder, name: str, save: Any) -> None:
    """Writes a folder under another name first, so that it is there as a whole or not at all."""
    place = run.path / name
    beside = run.path / f".{name}.new"
    for old in (beside, place):
        shutil.rmtree(old, ignore_errors=True)
    beside.mkdir()
    save(beside)
    os.replace(beside, place)


def _shift(loop: InnerLoop, state: LearnerState) -> Divergence:
    """Divergence on texts that have nothing to do with the documents."""
    learner = loop.learner
    texts = [learner.renderer.reading(text) for text in suited_texts(learner.name)]
    bank = bank_of([state], learner.model)
    return divergences(learner, texts, 1, bank, None, loop.evaluator.tokens)[0]


def _merge(run: RunFolder, env: EnvConfig) -> None:
    """Writes the model with the adapter in its weights.

    In float32 whatever the run's precision: rounding the sum to bfloat16 loses a part of what was
    learned (docs/lab-log.md).
    """
    adapter = str(run.path / ADAPTER)
    merged = load_learner(env.model, "float32", "cpu", adapter, env.trust_remote_code)

    def save(folder: Path) -> None:
        merged.model.save_pretrained(folder)
        merged.tokenizer.save_pretrained(folder)

    _write_folder(run, MERGED, save)


def _point(run: RunFolder, config: AdaptConfig, console: Console) -> None:
    """Prints where the results are, and how to use them."""
    merged = f", {MERGED}/ (the model with it)" if (run.path / MERGED).is_dir() else ""
    for line in (
        f"wrote {run.path}: {ADAPTER}/ (PEFT), {REPORT}, summary.json{merged}",
        f"to ask it: seal-env chat {shlex.quote(str(run.path))}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
