"""What an adaptation did: the summary, its tables, and ``report.md``."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seal_agents.adapt.configs import AdaptConfig
from seal_agents.adapt.questions import GENERAL
from seal_agents.policies.options import ADAPTER
from seal_agents.reporting.stats import bootstrap_mean
from seal_agents.run_folder import Record, RunFolder
from seal_env.engine.checkpoints import EMBEDDED
from seal_env.engine.divergence import Divergence
from seal_env.tasks.base import Problem

REPORT = "report.md"
SHOWN, LONGEST = 3, 1200
"""Self-edits in the report, and characters of the longest."""
MOST_QUESTIONS = 200
"""Questions of a set in the report."""

FEW_COPIED = 0.2
"""Share of copied answers below which a larger writer is advised."""

Answers = Mapping[str, Mapping[str, Any]]
"""Fields of `Score` by the name of a set of questions."""


def summarize(
    before: Answers,
    after: Answers,
    shift: Divergence,
    training: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """Content of ``summary.json``.

    ``rows`` are the first set of questions: those by people if there are any.
    """
    first = next(iter(before))
    return {
        "rows": {"before": _row(before[first]), "after": _row(after[first])},
        "questions": first,
        "sets": {
            name: {
                "before": _row(before[name]),
                "after": _row(after[name]),
                "gain": _gain(before[name], after[name]),
            }
            for name in before
        },
        "kept": _kept(before[GENERAL], after[GENERAL]),
        "shift": vars(shift),
        "tokens": training["tokens"],
        "training": dict(training),
        "seconds": round(seconds, 1),
    }


def _row(answers: Mapping[str, Any]) -> dict[str, Any]:
    verdicts = [bool(verdict) for verdict in answers["verdicts"]]
    return {
        "accuracy": fmean(verdicts),
        "log_likelihood": fmean(answers["log_likelihoods"]),
        "questions": len(verdicts),
        "right": sum(verdicts),
    }


def _gain(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Gain in accuracy, paired by question, with its 95% interval."""
    pairs = zip(after["verdicts"], before["verdicts"], strict=True)
    gain = bootstrap_mean([float(new) - float(old) for new, old in pairs])
    return {"mean": gain.mean, "ci": [gain.low, gain.high]}


def _kept(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, int]:
    """How many questions were answered right before, and of these how many still are."""
    pairs = list(zip(before["verdicts"], after["verdicts"], strict=True))
    return {"known": sum(old for old, _ in pairs), "kept": sum(old and new for old, new in pairs)}


def _table(summary: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Rows of the table of all sets of questions, the header first."""
    yield "questions", "right before", "right after", "gain [95%]", "log-lik. before", "after"
    for name, rows in summary["sets"].items():
        old, new, gain = rows["before"], rows["after"], rows["gain"]
        low, high = gain["ci"]
        yield (
            name,
            f"{old['right']} of {old['questions']}",
            f"{new['right']} of {new['questions']}",
            f"{gain['mean']:+.2f} [{low:+.2f}, {high:+.2f}]",
            f"{old['log_likelihood']:.2f}",
            f"{new['log_likelihood']:.2f}",
        )


def _forgotten(summary: Mapping[str, Any]) -> str:
    kept, shift = summary["kept"], summary["shift"]
    known = (
        f"Of {kept['known']} questions of general knowledge that the model answered right before, "
        f"it still answers {kept['kept']}."
        if kept["known"]
        else "The model answered no question of general knowledge right before."
    )
    return (
        f"{known} Its loss on texts about other things went from "
        f"{shift['old_loss']:.2f} to {shift['new_loss']:.2f} nats per token."
    )


def _copied(summary: Mapping[str, Any]) -> str:
    """How many of the written answers are the passages' words; empty if none was counted."""
    count, copied = (summary["training"].get(name, 0) for name in ("questions", "copied"))
    if not count:
        return ""
    advice = ""
    if copied < FEW_COPIED * count:
        advice = " That is few: read them in the report, or let a larger model write (--writer)."
    return (
        f"Of {count:,} answers to questions that were written, {copied:,} are words of their "
        f"passage.{advice}"
    )


def print_tables(summary: Mapping[str, Any], console: Console) -> None:
    """Prints the table of a summary, what was forgotten, and how many answers were copied."""
    header, *rows = _table(summary)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
    for line in filter(None, (_forgotten(summary), _copied(summary))):
        console.print(line, markup=False, highlight=False)


def write_report(
    run: RunFolder,
    config: AdaptConfig,
    problems: Sequence[Problem],
    asked: Sequence[Problem],
    notes: Sequence[str],
    summary: Mapping[str, Any],
    before: Answers,
    after: Answers,
) -> None:
    """Writes ``report.md``."""
    parts = [
        *_head(config, problems, notes, summary),
        "## What it can answer\n",
        _markdown(_table(summary)),
        "## What it forgot\n",
        _forgotten(summary) + "\n",
        *_questions(asked, before, after),
        *_written(run.every_record(), summary),
        *_use(run, config),
    ]
    run.write_bytes(REPORT, "\n".join(parts).encode())


def _head(
    config: AdaptConfig,
    problems: Sequence[Problem],
    notes: Sequence[str],
    summary: Mapping[str, Any],
) -> Iterator[str]:
    training, inner = summary["training"], config.inner
    lora, finetune = inner.lora, inner.finetune
    yield f"# {config.model}, adapted to {config.documents}\n"
    counts = Counter(problem.id.rpartition("#")[0] for problem in problems)
    yield _markdown([("document", "passages"), *((k, str(v)) for k, v in counts.items())])
    writer = f" (base and runs write with {config.writer})" if config.writer else ""
    yield (
        f"Self-edits by {', '.join(config.policy)}{writer}, {config.samples} per passage"
        f"{' and policy' if len(config.policy) > 1 else ''}; mode {config.mode}: "
        f"{training['sequences']:,} sequences, {training['tokens']:,} training tokens, "
        f"{training['steps']:,} steps. LoRA rank {lora.rank}, alpha {lora.alpha:g} on "
        f"{', '.join(lora.targets) or 'the usual layers'}; learning rate "
        f"{finetune.learning_rate:g}, {finetune.epochs} epochs, batches of {finetune.batch_size}. "
        f"It took {summary['seconds']:.0f} s.\n"
    )
    if notes:
        yield "\n".join(f"* {note}" for note in notes) + "\n"


def _questions(asked: Sequence[Problem], before: Answers, after: Answers) -> Iterator[str]:
    """Questions of each set and the answers to them; of general knowledge the forgotten ones."""
    for problem in asked:
        old, new = before[problem.id], after[problem.id]
        rows = [("question", "right answer", "before", "", "after", "")]
        for i, question in enumerate(problem.questions):
            was, now = old["verdicts"][i], new["verdicts"][i]
            if len(rows) <= MOST_QUESTIONS and (problem.id != GENERAL or (was and not now)):
                marks = ["✓" if right else "" for right in (was, now)]
                texts = (question.text, question.answer, old["answers"][i], marks[0])
                rows.append((*texts, new["answers"][i], marks[1]))
        if len(rows) > 1:
            what = "forgotten" if problem.id == GENERAL else "questions"
            yield f"## {what.capitalize()}: {problem.id}\n"
            yield _markdown(rows)


def _written(records: Sequence[Record], summary: Mapping[str, Any]) -> Iterator[str]:
    yield "## What was written\n"
    if copied := _copied(summary):
        yield copied + "\n"
    shown = [records[i * (len(records) - 1) // max(SHOWN - 1, 1)] for i in range(SHOWN)]
    for record in {r["problem"] + r["policy"]: r for r in shown}.values():
        text = record["text"] or ""
        cut = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
        yield f"By {record['policy']} for {record['problem']}:\n"
        yield "\n".join(f"    {line}" for line in cut.splitlines()) + "\n"


def _use(run: RunFolder, config: AdaptConfig) -> Iterator[str]:
    model = str(config.model)
    source = repr(str(EMBEDDED.get(model, model)))
    if model.endswith(".gguf"):
        folder, _, file = model.rpartition("/")
        source = f"{folder or '.'!r}, gguf_file={file!r}"
    yield "## How to use it\n"
    yield f"Ask it: `seal-env chat {shlex.quote(str(run.path))}`. In Python, with peft alone:\n"
    yield (
        "```python\n"
        "import torch\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"tokenizer = AutoTokenizer.from_pretrained({source})\n"
        f"model = AutoModelForCausalLM.from_pretrained({source}, dtype=torch.float32)\n"
        f"model = PeftModel.from_pretrained(model, {str(run.path / ADAPTER)!r})\n"
        "```\n"
    )


def _markdown(rows: Sequence[tuple[str, ...]] | Iterator[tuple[str, ...]]) -> str:
    """A table in Markdown, the first row as its header."""
    header, *others = rows
    lines = [header, ("---",) * len(header), *others]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
