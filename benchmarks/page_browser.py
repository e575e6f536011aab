"""The HTML report in a browser: how fast a large run opens, and that it works when clicked through.

    python -m benchmarks.page_browser --out looked-at

Needs the extra `browser` and a Chromium: one on the path, or `playwright install chromium`. The
page is opened 1280 and 390 pixels wide, light and dark; every filter and sorting is chosen, a
search typed, a problem and a self-edit opened. A check that fails ends it with status 1; pictures
to look at are in --out.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.command import command
from seal_agents.reporting.report import summarize
from seal_agents.run_folder import RunFolder
from seal_agents.runner.html import write_page
from seal_env.errors import UserError

HOSTILE = "</script><script>document.title='ran'</script><img src=x onerror=document.title='ran'>"
"""A self-edit that must stay a text."""
LIMIT = 2.0
"""Seconds in which a page must have opened."""
VIEWS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
"""Widths in pixels, and color schemes."""


@dataclass(frozen=True)
class Args:
    """Opens the page of a run in Chromium and clicks through it."""

    run: Path | None = None
    """Run folder; None for a made-up run."""
    episodes: int = 10_000
    """Self-edits of the made-up run."""
    out: Path = Path("runs/page")
    """Folder of the pictures."""


def made_up(path: Path, episodes: int) -> None:
    """Writes a run of eight self-edits per problem, half of them in rounds of training."""
    run = RunFolder.open(path, {"command": "train", "env": {"task": "own"}}, False, False)
    records = []
    for index in range(episodes):
        trained = index < episodes // 2
        value = (index * 7919 % 101) / 100
        records.append(
            {
                "phase": "train" if trained else "evaluate",
                "policy": "grpo" if trained else ("base", "trained")[index % 2],
                "round": 1 + index % 5 if trained else 0,
                "index": index,
                "sample": index % 8,
                "text": HOSTILE if index % 500 == 0 else f"Line {index}.\n" * 12,
                "title": f"Person {index // 8}",
                "problem": f"p{index // 8}",
                "style": ("few", "many", "questions")[index % 3],
                "error": "" if index % 50 else "cannot be read",
                "reward": value,
                "accuracy": value,
                "accuracy_before": 0.1,
                "log_likelihood": -1.0,
                "terms": {"accuracy": value, "f1": value / 2},
                "steps": 3,
                "tokens": 70,
                "answers": ["right", "wrong"],
                "verdicts": [True, False],
                "answers_before": ["wrong", "wrong"],
                "verdicts_before": [False, False],
            }
        )
    run.append(records)
    rows = {name: [r for r in records if r["policy"] == name] for name in ("base", "trained")}
    run.write_json("summary.json", summarize(rows, 0, 1.0))


def click_through(page: Any) -> None:
    """Chooses every filter and sorting, searches, opens a problem and a self-edit.

    Raises:
        AssertionError: The page does something else than it should.
    """
    rows = page.locator("#list > details")
    whole = page.locator("#count").inner_text()
    for name in ("policy", "round", "style", "kind"):
        values = page.locator(f"#{name} option").evaluate_all("all => all.map(one => one.value)")
        for value in [*values[1:], ""]:
            page.select_option(f"#{name}", value)
            assert (page.locator("#count").inner_text() == whole) is (value == ""), (name, value)
            assert rows.count() > 0, (name, value)
    first = {}
    for value in page.locator("#sort option").evaluate_all("all => all.map(one => one.value)"):
        page.select_option("#sort", value)
        first[value] = rows.first.locator("summary").first.inner_text()
    assert first["best"] != first["worst"], first
    page.select_option("#sort", "order")
    title = rows.nth(1).locator("summary").first.evaluate("one => one.firstChild.textContent")
    page.fill("#search", title)
    page.wait_for_function("before => document.getElementById('count').textContent != before",
                           arg=whole)  # fmt: skip
    assert title in rows.first.inner_text()
    rows.first.locator("summary").first.click()
    edits = rows.first.locator("details.edit")
    edits.first.wait_for()  # its content is made when it is opened
    edits.first.locator("summary").first.click()
    edits.first.locator("pre.text").wait_for()
    page.fill("#search", "")
    page.wait_for_function("before => document.getElementById('count').textContent == before",
                           arg=whole)  # fmt: skip
    wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    assert not wide, "the page is wider than the window"
    assert page.title() != "ran", "a self-edit's script ran"


def look(args: Args, console: Console) -> int:
    """Opens the page in every view; returns the exit status."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise UserError(
            f"this needs playwright ({error}): pip install 'seal-env[browser]'"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        run = args.run or Path(folder) / "made-up"
        if args.run is None:
            made_up(run, args.episodes)
        file = write_page([run], console).resolve()
        args.out.mkdir(parents=True, exist_ok=True)
        with sync_playwright() as playwright:
            known = shutil.which("chromium") or shutil.which("google-chrome")
            try:
                browser: Any = playwright.chromium.launch(executable_path=known)
            except Error as error:
                raise UserError(
                    f"no Chromium ({error.message.splitlines()[0]}): playwright install chromium"
                ) from None
            slow = []
            for width, scheme in VIEWS:
                view = {"width": width, "height": 900}
                page: Any = browser.new_page(viewport=view, color_scheme=scheme)
                errors: list[str] = []
                page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
                start = time.perf_counter()
                page.goto(file.as_uri())
                page.wait_for_selector("#list > details")
                seconds = time.perf_counter() - start
                page.screenshot(path=args.out / f"{width}-{scheme}.png")
                click_through(page)
                assert not errors, errors
                page.locator("#list > details summary").first.click()
                page.locator("details.edit summary").first.click()
                page.locator("#browser").scroll_into_view_if_needed()
                page.screenshot(path=args.out / f"{width}-{scheme}-open.png")
                page.close()
                console.print(f"{width} pixels, {scheme}: opened in {seconds:.2f} s, all clicked")
                slow += [seconds] if seconds > LIMIT else []
            browser.close()
    return 1 if slow else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    return command(Args, "page_browser", __doc__, look, argv)


if __name__ == "__main__":
    raise SystemExit(main())
