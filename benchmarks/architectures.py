"""Supported architectures, tested on small random models.

    python -m benchmarks.architectures

Claim: docs/supported-models.md, which this command writes. Hardware: a CPU.

Each of transformers' causal language models is constructed at a small size, loaded like any model,
trained and evaluated, and compared with transformers and PEFT. Each has its own process and time
limit, so that none can end the run.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from rich.console import Console
from transformers.utils import logging as hf_logging

from benchmarks.architecture_checks import LENGTHS, Result, line_of, measure
from benchmarks.command import command
from benchmarks.small_models import WINDOW, architectures
from seal_env.errors import UserError

PAGE = Path(__file__).parent.parent / "docs" / "supported-models.md"


@dataclass(frozen=True)
class Settings:
    """Architectures on small random models."""

    names: tuple[str, ...] = ()
    """Values of config.model_type; all if left out."""
    json: Path | None = None
    """File that the results are written to as JSON."""
    page: Path | None = None
    """Page that the table is written to; docs/supported-models.md if all are tried."""
    seconds: float = 120.0
    """Time limit of each architecture."""


def _work(name: str, sender: Connection) -> None:
    """Result of one architecture, in its own process."""
    warnings.simplefilter("ignore")
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    torch.set_num_threads(1)
    try:
        sender.send(measure(name))
    except Exception as error:
        sender.send(Result(name, f"fails: {type(error).__name__}: {line_of(error)}"))


def try_one(name: str, seconds: float) -> Result:
    """Result of one architecture, in a process with a time limit in seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([measure.__module__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(name, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            return Result(name, f"(not tried) takes more than {seconds:.0f} seconds")
        return receiver.recv()
    except EOFError:
        return Result(name, "(not tried) its process ended without a word")
    finally:
        process.kill()
        process.join()


def page(results: Sequence[Result]) -> str:
    """The table as a page of the docs."""
    used = [r for r in results if not r.refused]
    tried = [r for r in results if r.refused and not r.refused.startswith("(")]
    lines = [
        "# Supported models",
        "",
        "Made by `python -m benchmarks.architectures`: each of the causal language models that",
        "transformers can build, small and with random weights, against transformers and PEFT in",
        f"float32. A sliding window is {WINDOW} tokens there, and texts have {max(LENGTHS)}.",
        "",
        "* **trains**: adapters change and stay finite.",
        "* **bits**: scores, answers and adapters are equal to the bit, alone and beside others.",
        "* **PEFT**: adapters become what PEFT's become.",
        "* **scores**: scores are transformers', beyond the sliding window if there is one.",
        "* **cached**: what is written with a cache is what transformers writes without one.",
        "* **default targets**: the modules that an adapter changes if `lora.targets` names none.",
        "",
        f"{len(used)} can be used:",
        "",
        "| `model_type` | trains | bits | PEFT | scores | cached | default targets |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in used:
        scores = f"{_word(r.scores)}, window" if r.window else _word(r.scores)
        words = (_word(r.trains), _word(r.bits), _word(r.peft), scores, _word(r.cached))
        lines.append(f"| `{r.name}` | {' | '.join(words)} | {r.targets} |")
    lines += ["", f"{len(tried)} are refused when they are loaded:", ""]
    lines += ["| `model_type` | reason |", "|---|---|"]
    lines += [f"| `{r.name}` | {r.refused} |" for r in tried]
    return "\n".join(lines) + "\n"


def _word(true: bool) -> str:
    return "yes" if true else "**no**"


def work(settings: Settings, console: Console) -> int:
    """Tries architectures and tells of each."""
    known = architectures()
    if unknown := sorted(set(settings.names) - set(known)):
        raise UserError(f"no causal language model of transformers is called {unknown[0]!r}")
    results = []
    for name in settings.names or known:
        results.append(try_one(name, settings.seconds))
        console.print(json.dumps(asdict(results[-1])), soft_wrap=True, highlight=False)
    if settings.json is not None:
        settings.json.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")
    target = settings.page or (None if settings.names else PAGE)
    if target is not None:
        target.write_text(page(results))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return command(Settings, "architectures", __doc__, work, argv)


if __name__ == "__main__":
    sys.exit(main())
