"""Agreement of the offline grader with a judge's verdicts.

    python -m benchmarks.grader --verdicts FILE.jsonl --json OUT

Claim: 91.5% agreement (kappa 0.82) with 2,420 of GPT-4.1's published verdicts. Hardware: one CPU
core, seconds.

Each line of the file is one graded answer: ``{"question", "gold", "answer", "correct"}``, where
`correct` is the judge's verdict. The table has other common graders for comparison.
"""

from __future__ import annotations

import json
import re
import string
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from seal_env.errors import UserError
from seal_env.grading import grade_answer


@dataclass(frozen=True)
class Args:
    """Measures how far the offline grader agrees with a judge's verdicts."""

    verdicts: Path
    """JSONL file of graded answers: question, gold, answer and correct on each line."""
    json: Path | None = None
    """File for the figures as JSON; they are always printed."""


@dataclass(frozen=True)
class Verdict:
    """One answer that a judge has graded."""

    question: str
    gold: str
    answer: str
    correct: bool


@dataclass(frozen=True)
class Confusion:
    """A grader's verdicts against the judge's: *positive* is "right" by the grader."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def n(self) -> int:
        """Number of graded answers."""
        return sum(asdict(self).values())

    @property
    def agreement(self) -> float:
        """Share of the answers on which both give the same verdict."""
        return (self.true_positive + self.true_negative) / self.n

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa: agreement beyond chance. None where chance alone agrees always."""
        by_grader = self.true_positive + self.false_positive
        by_judge = self.true_positive + self.false_negative
        both_wrong = (self.n - by_grader) * (self.n - by_judge)
        chance = (by_grader * by_judge + both_wrong) / self.n**2
        return None if chance == 1 else (self.agreement - chance) / (1 - chance)


# ---- the graders to compare with ----------------------------------------------------------


def _squad_words(text: str) -> list[str]:
    """SQuAD's own normalization: lower case, no punctuation, no articles."""
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def _exact_match(verdict: Verdict) -> bool:
    return _squad_words(verdict.gold) == _squad_words(verdict.answer)


def _containment(verdict: Verdict) -> bool:
    gold, answer = (" ".join(_squad_words(text)) for text in (verdict.gold, verdict.answer))
    return bool(gold) and f" {gold} " in f" {answer} "


def _f1(verdict: Verdict) -> bool:
    gold, answer = Counter(_squad_words(verdict.gold)), Counter(_squad_words(verdict.answer))
    shared = (gold & answer).total()
    return bool(shared) and 2 * shared / (gold.total() + answer.total()) > 0.5


def _token_recall(verdict: Verdict) -> bool:
    gold, answer = _squad_words(verdict.gold), set(_squad_words(verdict.answer))
    return bool(gold) and sum(word in answer for word in gold) / len(gold) >= 0.8


def _offline_grader(verdict: Verdict) -> bool:
    return grade_answer(verdict.gold, verdict.answer, verdict.question)


Grader = Callable[[Verdict], bool]
BASELINES: dict[str, Grader] = {
    "exact match": _exact_match,
    "F1 > 0.5": _f1,
    "containment": _containment,
    "token recall >= 0.8": _token_recall,
}


# ---- reading, measuring, showing ----------------------------------------------------------


def read_verdicts(path: Path) -> list[Verdict]:
    """Reads a JSONL file of graded answers.

    Raises:
        UserError: The file or one of its lines cannot be used; says which line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"--verdicts {path}: is not UTF-8 text; give a JSONL file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--verdicts {path}: cannot be read ({reason}); check the path") from error
    verdicts = [
        _read_line(f"--verdicts {path}: line {number}", line)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not verdicts:
        raise UserError(f"--verdicts {path}: is empty; give one graded answer a line")
    return verdicts


def _read_line(place: str, line: str) -> Verdict:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON ({error}); give one object a line") from None
    if not isinstance(item, dict):
        raise UserError(f"{place} must be an object with question, gold, answer and correct")
    values: dict[str, Any] = {field: item.get(field) for field in Verdict.__dataclass_fields__}
    for field, value in values.items():
        kind, wanted = (bool, "true or false") if field == "correct" else (str, "text")
        if not isinstance(value, kind):
            raise UserError(f"{place}: {field!r} must be {wanted}, not {json.dumps(value)[:40]}")
    if not values["gold"].strip():
        raise UserError(f"{place}: 'gold' is empty; without a gold answer nothing can be graded")
    return Verdict(**values)


def compare(grader: Grader, verdicts: Sequence[Verdict]) -> Confusion:
    """Counts where a grader and the judge agree."""
    counts = Counter((grader(verdict), verdict.correct) for verdict in verdicts)
    return Confusion(
        true_positive=counts[True, True],
        false_positive=counts[True, False],
        false_negative=counts[False, True],
        true_negative=counts[False, False],
    )


def figures(confusion: Confusion) -> dict[str, Any]:
    """The figures of one grader, as they are written to JSON."""
    return {
        "agreement": confusion.agreement,
        "kappa": confusion.kappa,
        "n": confusion.n,
        "confusion": asdict(confusion),
    }


def _table(rows: dict[str, Confusion], path: Path) -> Table:
    n = next(iter(rows.values())).n
    table = Table(title=f"Agreement with {n:,} verdicts of {path.name}")
    table.add_column("grader", no_wrap=True)
    for heading in ("agree", "kappa", "both right", "only grader", "only judge", "both wrong"):
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        kappa = "–" if row.kappa is None else f"{row.kappa:.3f}"
        counts = [str(count) for count in asdict(row).values()]
        table.add_row(name, f"{row.agreement:.3f}", kappa, *counts)
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    args = tyro.cli(Args, args=argv, prog="python -m benchmarks.grader")
    try:
        verdicts = read_verdicts(args.verdicts)
        rows = {name: compare(grader, verdicts) for name, grader in BASELINES.items()}
        start = time.perf_counter()
        offline = compare(_offline_grader, verdicts)
        speed = len(verdicts) / (time.perf_counter() - start)
        rows["offline grader"] = offline

        console = Console()
        console.print(_table(rows, args.verdicts))
        console.print(f"The offline grader gave {speed:,.0f} verdicts a second.")
        if args.json is not None:
            others = {name: figures(rows[name]) for name in BASELINES}
            _write(args.json, {**figures(offline), "baselines": others})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _write(path: Path, result: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--json {path}: cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    sys.exit(main())
