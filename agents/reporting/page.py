"""A run, or several side by side, as one HTML page that needs no network.

Everything in it is escaped: a self-edit is a model's text, and a data file anybody's. The template
escapes by itself, the data are in a script element as JSON without ``<``, ``>`` and ``&``, and the
page's content security policy allows its own script alone, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from statistics import fmean
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from seal_agents.reporting.costs import judge_cost
from seal_agents.reporting.halves import best_accuracies
from seal_agents.reporting.invalid import note, percent, share
from seal_agents.reporting.report import by_problem, differs, mean_terms, problems_of_split
from seal_agents.reporting.samples import split_of, styles_by_round
from seal_agents.reporting.stats import bootstrap_mean
from seal_agents.reporting.svg import (
    Series,
    bar_chart,
    heat_map,
    line_chart,
    stacked_chart,
)
from seal_agents.run_folder import Record, RunFolder, finite_or_none
from seal_env.tasks.base import Problem

FIELDS = (
    "phase", "policy", "round", "step", "problem", "title", "text", "style", "reward", "accuracy",
    "accuracy_before", "terms", "error", "tokens", "answers", "verdicts",
)  # fmt: skip
"""Fields of a record that the page shows."""
STRINGS = ("phase", "policy", "problem", "title", "error")
"""Those of them that are strings always."""
COLORS = 6
"""Number of terms that the page plots."""


@dataclass(frozen=True)
class Reported:
    """A run to be shown."""

    name: str
    """Name of the run, unique on the page."""
    run: RunFolder
    """Its folder."""
    problems: Mapping[str, Problem] = field(default_factory=dict)
    """Its problems by id, as far as they are known."""
    notes: Sequence[str] = ()
    """Notes shown above it."""


@dataclass(frozen=True)
class _Chart:
    title: str
    svg: Markup
    text: str = ""


def render(reported: Sequence[Reported]) -> str:
    """The page of runs, at least one."""
    source = files("seal_agents.reporting") / "layout"
    script = (source / "page.js").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    page = environment.from_string((source / "page.html").read_text("utf-8")).render(
        runs=[_shown(one) for one in reported],
        between=_between(reported) if len(reported) == 2 else [],
        data={"runs": [_data(one) for one in reported]},
        style=Markup((source / "page.css").read_text("utf-8")),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return page + "\n"


def _shown(one: Reported) -> dict[str, Any]:
    """What the template has of a run."""
    records = one.run.every_record()
    summary = one.run.read_results("summary.json") or {}
    config = one.run.read_json("config.json")
    rows = summary.get("rows") or {}
    notes = [*one.notes, *filter(None, (note(name, row) for name, row in rows.items()))]
    if not summary:
        notes.append("The run is not finished: no summary yet.")
    bars = {name: (_number(row["accuracy"]), _ends(row)) for name, row in rows.items()}
    most = max((row["problems"] for row in rows.values()), default=0)
    # Where a run was written concerns nobody whom the page is given to.
    settings = {name: value for name, value in config.items() if name != "out"}
    return {
        "name": one.name,
        "notes": notes,
        "table": _table(summary) if rows else [],
        "compared": problems_of_split(most, split_of(one.run)),
        "comparison": bar_chart(bars, "accuracy (95% interval)") if bars else "",
        "charts": _charts(records, summary),
        "costs": _costs(one.run, records, summary, config),
        "settings": json.dumps(settings, indent=2),
    }


def _table(summary: Mapping[str, Any]) -> list[list[str]]:
    """The comparison as lines of cells, the first with the names of the columns."""
    rows = summary.get("rows") or {}
    others = [name for name in ("none", "passage", "base") if name in rows]
    known = dict.fromkeys(term for row in rows.values() for term in row.get("terms") or {})
    terms = [term for term in known if term not in ("accuracy", "log_likelihood")]
    rewards = ["reward"] if any("reward" in row for row in rows.values()) else []
    head = ["policy", "accuracy", *rewards, "log-lik.", *terms, "invalid"]
    table = [head + [f"− {other}" for other in others]]
    for name, row in rows.items():
        cells = [name, _interval(row["accuracy"], row["ci"])]
        cells += [_three(row.get(key)) for key in (*rewards, "log_likelihood")]
        cells += [_three((row.get("terms") or {}).get(term)) for term in terms]
        cells.append(percent(share(row)))
        for other in others:
            gap = summary["differences"].get(f"{name} - {other}")
            cells.append(_interval(gap["mean"], gap["ci"], "+") if gap else "")
        table.append(cells)
    return table


def _charts(records: Sequence[Record], summary: Mapping[str, Any]) -> list[_Chart]:
    """The charts of a run, without those that it has no numbers for."""
    rounds: dict[int, list[Record]] = {}
    for record in records:
        if record["phase"] == "train":
            rounds.setdefault(record["round"], []).append(record)
    rounds = dict(sorted(rounds.items()))
    charts = []
    if rounds:
        series = _learning(rounds, summary)
        charts.append(
            _Chart(
                "Learning curve",
                line_chart(series, "round", "accuracy after the update", (0.0, 1.0)),
                "What the policy's self-edits teach the learner on training problems.",
            )
        )
        if any(differs(record) for some in rounds.values() for record in some):
            series = [_by_round(rounds, "reward", "a sampled self-edit, 95% interval")]
            charts.append(_Chart("Reward", line_chart(series, "round", "reward")))
    terms = {number: mean_terms(some) for number, some in rounds.items()}
    names = list(dict.fromkeys(name for own in terms.values() for name in own))[:COLORS]
    if len(names) > 1:
        series = [
            Series(name, [(n, own[name]) for n, own in terms.items() if name in own], f"c{i}")
            for i, name in enumerate(names)
        ]
        chart = line_chart(series, "round", "mean, unweighted")
        charts.append(_Chart("Terms of the reward", chart, "Means over the round's self-edits."))
    if styles := _styles(records):
        charts.append(_Chart("Kinds of self-edits", styles))
    for policy in dict.fromkeys(r["policy"] for r in records if r["phase"] == "evaluate"):
        matrix = accuracy_matrix([r for r in records if r["policy"] == policy])
        if matrix:
            svg = heat_map(matrix, "problem of the stream", "after so many self-edits")
            text = "Accuracy on each problem of a stream after each self-edit; mean over streams."
            charts.append(_Chart(f"Streams of {policy}", svg, text))
    return charts


def _learning(rounds: Mapping[int, Sequence[Record]], summary: Mapping[str, Any]) -> list[Series]:
    series = [_by_round(rounds, "accuracy", "a sampled self-edit, 95% interval")]
    bests = {number: best_accuracies(some) for number, some in rounds.items()}
    if points := [(n, fmean(values)) for n, values in bests.items() if values]:
        name = "best of a problem's samples by half of its questions, on the other half"
        series.append(Series(name, points, "c1", dashed=True))
    checks = summary.get("checks") or []
    if len(checks) > 1:
        points = [(check["round"] + 0.5, check["accuracy"]) for check in checks]
        series.append(Series("held out, between rounds", points, "c2"))
    for name in ("passage", "none"):
        if row := (summary.get("rows") or {}).get(name):
            ends = [(number, row["accuracy"]) for number in (min(rounds), max(rounds))]
            color = "rest" if name == "none" else "c7"
            series.append(Series(f"{name} (held out)", ends, color, dashed=True))
    return series


def _by_round(rounds: Mapping[int, Sequence[Record]], key: str, name: str) -> Series:
    means = {number: bootstrap_mean(by_problem(some, key)) for number, some in rounds.items()}
    points = [(number, mean.mean) for number, mean in means.items()]
    return Series(name, points, "c0", [(mean.low, mean.high) for mean in means.values()])


def _styles(records: Sequence[Record]) -> Markup | None:
    rounds = styles_by_round(records)
    if not rounds:
        return None
    total: Counter[str] = sum(rounds.values(), Counter())
    names = [name for name, _ in total.most_common(8)]
    colors = {name: f"c{i}" for i, name in enumerate(names)}
    shares = {
        number: {name: counts[name] / counts.total() for name in names}
        for number, counts in rounds.items()
    }
    if len(total) > len(names):
        colors["all others"] = "rest"
        for number, counts in rounds.items():
            shares[number]["all others"] = 1 - sum(counts[n] for n in names) / counts.total()
    return stacked_chart(shares, colors, "round", "share of the self-edits")


def accuracy_matrix(records: Sequence[Record]) -> list[list[float | None]]:
    """Accuracy on the j-th problem of a stream after t self-edits, mean over streams.

    Args:
        records: A policy's; those of episodes of several steps say what earlier problems are worth
            in ``stream`` (`seal_env.rewards.retention`).

    Returns:
        A row per t; None where nothing was asked. Empty if no record is of a stream.
    """
    cells: dict[tuple[int, int], list[float]] = {}
    for record in records:
        stream = record.get("stream")
        if not isinstance(stream, Mapping) or "step" not in record:
            continue
        now = [(record["step"], record["accuracy"])]
        now += zip(stream.get("earlier") or (), stream.get("accuracy") or (), strict=False)
        for problem, value in now:
            if math.isfinite(_number(value)):
                cells.setdefault((record["step"], int(problem)), []).append(value)
    size = 1 + max((max(place) for place in cells), default=-1)
    return [
        [fmean(cells[t, j]) if (t, j) in cells else None for j in range(size)] for t in range(size)
    ]


def _costs(
    run: RunFolder,
    records: Sequence[Record],
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
) -> dict[str, str]:
    """What a run took, by the name of the quantity."""
    seconds = (run.read_json("clock.json") or {}).get("seconds", summary.get("seconds", 0))
    machine = config.get("run_time") or {}
    judges = judge_cost(records)
    costs = {
        "wall-clock time": f"{seconds:,.0f} s",
        "self-edits": f"{sum(r['text'] is not None for r in records):,}",
        "inner loops": f"{sum(r.get('evaluations', 1) for r in records):,g}",
        "of them in training": f"{summary['evaluations']:,g}" if "evaluations" in summary else "",
        "spared by screening": f"{summary['saved']:,}" if summary.get("saved") else "",
        "gradient steps": f"{sum(r.get('steps') or 0 for r in records):,}",
        "training tokens": f"{sum(r.get('tokens') or 0 for r in records):,}",
        "requests to judges": f"{judges['judge_calls']:,}" if judges else "",
        "tokens of judges": f"{judges['judge_tokens']:,}" if judges else "",
        "device": " ".join(str(machine[k]) for k in ("device", "dtype") if k in machine),
        "threads": str(machine.get("threads", "")),
    }
    return {name: value for name, value in costs.items() if value}


def _between(reported: Sequence[Reported]) -> list[dict[str, Any]]:
    """Paired differences of policies that two runs evaluated on the same problems."""
    first, second = (_compared(one.run) for one in reported)
    rows = []
    for policy in first.keys() & second.keys():
        same = sorted(first[policy].keys() & second[policy].keys())
        gaps = [second[policy][problem] - first[policy][problem] for problem in same]
        if gaps:
            gap = bootstrap_mean(gaps)
            said = _interval(gap.mean, (gap.low, gap.high), "+")
            rows.append({"policy": policy, "problems": len(same), "gap": said})
    return sorted(rows, key=lambda row: str(row["policy"]))


def _compared(run: RunFolder) -> dict[str, dict[str, float]]:
    """Mean accuracy by policy and problem."""
    groups: dict[str, dict[str, list[float]]] = {}
    for record in run.every_record():
        if record["phase"] == "evaluate":
            own = groups.setdefault(record["policy"], {})
            own.setdefault(record["problem"], []).append(record["accuracy"])
    return {
        policy: {problem: fmean(values) for problem, values in own.items()}
        for policy, own in groups.items()
    }


def _data(one: Reported) -> dict[str, Any]:
    """What the page's script has of a run; equal answers before the update are there once."""
    untouched: dict[str, int] = {}
    episodes = []
    for record in one.run.every_record():
        own = {key: record[key] for key in FIELDS if key in record}
        own |= {key: str(record.get(key) or "") for key in STRINGS}
        if record.get("answers_before"):
            both = {"answers": record["answers_before"], "verdicts": record.get("verdicts_before")}
            own["before"] = untouched.setdefault(json.dumps(both), len(untouched))
        episodes.append(finite_or_none(own))
    wanted = {episode["problem"] for episode in episodes}
    problems = {
        name: {
            "context": problem.context,
            "questions": [
                {"text": _beyond(problem.context, q.text), "answer": q.answer}
                for q in problem.questions
            ],
        }
        for name, problem in one.problems.items()
        if name in wanted
    }
    known = [finite_or_none(json.loads(both)) for both in untouched]
    return {"name": one.name, "episodes": episodes, "untouched": known, "problems": problems}


def _beyond(context: str, question: str) -> str:
    """A question without the context that it repeats, as the grids of few-shot do."""
    return question.removeprefix(context).strip() or question


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _ends(row: Mapping[str, Any]) -> tuple[float, float]:
    low, high = row["ci"]
    return _number(low), _number(high)


def _three(value: Any) -> str:
    """A number with three digits after the point; a dash where there is none."""
    return f"{value:.3f}" if math.isfinite(_number(value)) else "–"


def _interval(mean: float, ends: Sequence[float], sign: str = "-") -> str:
    low, high = ends
    return f"{mean:{sign}.3f}\n[{low:{sign}.2f}, {high:{sign}.2f}]"
