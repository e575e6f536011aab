"""A run folder: what a run was told, every self-edit it tried, and where it stood.

Layout::

    config.json       what the run was told
    episodes.jsonl    one line a self-edit, appended as soon as it is known
    rounds.json       the numbers of each round
    events.out.*      the same for TensorBoard
    clock.json        seconds that were worked on the run, in all sittings
    checkpoints/      what the agent had learned after each round
    adapter/          the trained policy, in PEFT's format
    samples.md        some self-edits of each round
    summary.json      the table
    *.png             the pictures

What a resumed run relies on is written beside its place and then renamed, so a run that is
killed at any moment leaves nothing half-written but perhaps a last line of the append-only
file, which is cut off when the run is resumed. ``summary.json`` comes last: where it is,
everything is.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from seal_agents.renamed import updated
from seal_env.errors import UserError, reason

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing keeps two processes from writing one run
    fcntl = None  # type: ignore[assignment]

Record = dict[str, Any]
"""One line of ``episodes.jsonl``."""


class RunFolder:
    """A run's files.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = time.monotonic()
        """When this sitting began; may be set to an earlier time."""
        self.notes: tuple[str, ...] = ()
        """What the user should know of how the run goes on."""
        self._earlier = 0.0
        self._records: dict[tuple[str, str, int], dict[int, Record]] = {}

    @classmethod
    def open(
        cls, path: Path, config: Mapping[str, Any], resume: bool, overwrite: bool
    ) -> RunFolder:
        """Begins a run, or goes on with one that was begun with the same config.

        Raises:
            UserError: The folder holds a run and neither flag is given, or another run, or
                something else; or what the run is about has changed since it began.
        """
        run = cls(path)
        known = cls.check(path, resume, overwrite)
        with _writing(path):
            path.mkdir(parents=True, exist_ok=True)
            run._take()
            if known and not overwrite:
                run._check_same(config)
                run._read_records()
                run._earlier = float((run.read_json("clock.json") or {}).get("seconds", 0.0))
            else:
                run._clear()
                run.write_json("config.json", config)
        return run

    @classmethod
    def check(cls, path: Path, resume: bool, overwrite: bool) -> bool:
        """Whether a folder holds a run, without touching it.

        Raises:
            UserError: As `open`, but for a run with another config.
        """
        if path.exists() and not path.is_dir():
            raise UserError(f"--out {path}: is a file; give a folder")
        if resume and overwrite:
            raise UserError("--resume and --overwrite: give one of them")
        known = cls(path)._is_run()
        try:
            others = [] if known or not path.is_dir() else [p.name for p in path.iterdir()]
        except OSError as error:
            raise UserError(f"--out {path}: cannot be read ({reason(error)})") from error
        if _CLEARED not in others and any(name not in _BEGUN for name in others):
            raise UserError(f"--out {path}: is not empty and holds no run; give another folder")
        if known and not resume and not overwrite:
            raise UserError(
                f"--out {path}: already holds a run; give --resume to go on with it, or "
                f"--overwrite to begin anew"
            )
        return known

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """A run that is there, for reading.

        Raises:
            UserError: It is not.
        """
        run = cls(path)
        if not run._is_run():
            raise UserError(f"{path}: no run here; give a folder that train or evaluate wrote")
        run._read_records(repair=False)
        return run

    def read_json(self, name: str) -> Any:
        """A JSON file of the folder; None if it is not there.

        Raises:
            UserError: It cannot be read.
        """
        place = self.path / name
        if not place.is_file():
            return None
        try:
            return json.loads(place.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{place}: cannot be read ({error})") from error

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file in one go."""
        text = json.dumps(value, indent=2, default=str) + "\n"
        self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Writes a file in one go.

        Raises:
            UserError: It could not be written, for example since the disk is full.
        """
        place = self.path / name
        beside = place.with_name(f".{place.name}.new")
        with _writing(place):
            place.parent.mkdir(exist_ok=True)
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, place)

    @property
    def seconds(self) -> float:
        """Time worked on this run, over all sittings; of one that was killed, as far as known."""
        return self._earlier + time.monotonic() - self.started

    def _tick(self) -> None:
        self.write_json("clock.json", {"seconds": round(self.seconds, 3)})

    def records(self, phase: str, policy: str, round_: int) -> dict[int, Record]:
        """What is known of a phase's self-edits, by their index in it."""
        return self._records.setdefault((phase, policy, round_), {})

    def every_record(self) -> list[Record]:
        """All records, in the order of phases, rounds and indices as they were begun."""
        return [group[i] for group in self._records.values() for i in sorted(group)]

    def append(self, records: Sequence[Record]) -> None:
        """Adds lines, and makes sure that they are on the disk.

        Raises:
            UserError: They could not be written, for example since the disk is full.
        """
        text = "".join(json.dumps(record) + "\n" for record in records)
        place = self.path / "episodes.jsonl"
        with _writing(place), place.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        for record in records:
            self._keep(record)
        self._tick()

    def save_checkpoint(self, round_: int, save: Callable[[Path], None]) -> Path:
        """Lets an agent write its checkpoint after a round; it is there whole or not at all."""
        place = self.checkpoint(round_)
        beside = place.with_name(f".{place.name}.new")
        with _writing(place):
            for old in (beside, place):
                shutil.rmtree(old, ignore_errors=True)
            beside.mkdir(parents=True)
            save(beside)
            for file in beside.rglob("*"):
                if file.is_file():
                    with file.open("rb+") as written:
                        os.fsync(written.fileno())
            os.replace(beside, place)
        self._tick()
        return place

    def checkpoint(self, round_: int) -> Path:
        """Where the checkpoint after a round (counted from 1) is; 0 is the untrained agent."""
        return self.path / "checkpoints" / f"round-{round_}"

    def rounds_done(self) -> int:
        """Rounds that have a checkpoint."""
        done = 0
        while self.checkpoint(done + 1).is_dir():
            done += 1
        return done

    def _is_run(self) -> bool:
        """Whether this is a run's folder: other programs, too, call a file ``config.json``."""
        try:
            config = self.read_json("config.json")
        except UserError:
            return False
        return isinstance(config, dict) and config.get("command") in ("train", "evaluate")

    def _take(self) -> None:
        """Makes sure that no other process writes this run, until this one ends."""
        if fcntl is None:
            return
        lock = os.open(self.path / ".lock", os.O_WRONLY | os.O_CREAT, 0o644)
        weakref.finalize(self, os.close, lock)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"--out {self.path}: another process is writing this run; let it end or stop it"
            ) from None

    def _clear(self) -> None:
        """Removes what a run wrote, and nothing else.

        The config goes first, under a name that says that the rest is on its way out.
        """
        if (self.path / "config.json").is_file():
            os.replace(self.path / "config.json", self.path / _CLEARED)
        for pattern in _WRITTEN:
            for place in self.path.glob(pattern):
                if place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place)
                else:
                    place.unlink()

    def _check_same(self, config: Mapping[str, Any]) -> None:
        before = _flat(updated(self.read_json("config.json"), config))
        now = _flat(json.loads(json.dumps(config, default=str)))
        hashes = {name for name in now if name.startswith(f"{CONTENTS}.")}
        if hashes and not any(name.startswith(f"{CONTENTS}.") for name in before):
            now = {name: value for name, value in now.items() if name not in hashes}
            self.notes = (
                "this run was begun by an older version, which did not note what the data held; "
                "whether they have changed since is not checked",
            )
        for name in {**before, **now}:
            old, new = before.get(name), now.get(name)
            kind, _, what = name.partition(".")
            if kind == CONTENTS and old != new:
                raise UserError(
                    f"--out {self.path}: {_WHAT.get(what, what)} changed since the run there "
                    f"began; bring back what it began with, or give another folder or --overwrite"
                )
            if name not in _MAY_CHANGE and old != new:
                raise UserError(
                    f"--out {self.path}: the run there has {_flag(name)} {_short(old)}, not "
                    f"{_short(new)}; resume it with the same settings, or give another folder "
                    f"or --overwrite"
                )

    def _read_records(self, repair: bool = True) -> None:
        place = self.path / "episodes.jsonl"
        if not place.is_file():
            return
        content = place.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content) and repair:
            os.truncate(place, whole)
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                self._keep(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{place}, line {number}: is damaged ({error})") from error

    def _keep(self, record: Record) -> None:
        key = (str(record["phase"]), str(record["policy"]), int(record["round"]))
        self._records.setdefault(key, {})[int(record["index"])] = record


_WRITTEN = (
    "summary.json",
    "episodes.jsonl",
    "rounds.json",
    "clock.json",
    "samples.md",
    "events.out.*",
    "checkpoints",
    "adapter",
    "learning_curve.png",
    "comparison.png",
    "styles.png",
    ".*.new",
    ".config.json.old",
)
"""What a run writes, in the order in which it is removed."""
_CLEARED = _WRITTEN[-1]
"""The config of a run that is being removed."""
_BEGUN = {".lock", ".config.json.new"}
"""All that a run may leave that was killed before its config was written."""
CONTENTS = "contents"
"""Where ``config.json`` has hashes of what the settings name (`seal_agents.runner.contents`)."""
_WHAT = {
    "problems": "the problems that the run uses (--task, --data)",
    "model": "the model's files (--model)",
    "adapter": "the adapter's files (--adapter)",
}
_MAY_CHANGE = {"out", "num_envs", "run_time.threads"}
"""Settings that are no reason not to go on with a run."""


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    """Turns a failure to write into one line."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{place}: cannot be written ({reason(error)}); make room or give another folder, and "
            f"go on with --resume"
        ) from error


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _flag(name: str) -> str:
    """How a setting is called on the command line."""
    if name == "command" or name.startswith("run_time."):
        return name.removeprefix("run_time.")
    return "--" + name.removeprefix("env.").replace("_", "-")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
