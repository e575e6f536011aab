"""A run folder: the settings of a run, all of its self-edits, and its checkpoints.

Layout::

    config.json       the settings
    episodes.jsonl    one line per self-edit, appended as soon as it is evaluated
    rounds.json       metrics per round
    events.out.*      the same for TensorBoard
    clock.json        wall-clock seconds over all sessions
    checkpoints/      the agent's state after each round
    adapter/          the trained policy, in PEFT's format
    samples.md        some self-edits per round
    summary.json      the table
    *.png             the plots
    *.html            the pages of `seal-env report --html`

Files are written under a temporary name and then renamed, so a run that is killed at any moment
leaves no partial file but perhaps a partial last line of the append-only file, which is cut off on
resume. ``summary.json`` is written last: where it exists, the run is complete.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from seal_agents.renamed import ADDED, updated
from seal_env.errors import UserError, reason

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing keeps two processes from writing one run
    fcntl = None  # type: ignore[assignment]

Record = dict[str, Any]
"""One line of ``episodes.jsonl``."""
MEASURES = ("accuracy", "accuracy_before", "log_likelihood", "log_likelihood_before")
"""Fields of a record that are NaN in memory, and null in the file, where nothing was asked."""
COMMANDS = ("train", "evaluate", "adapt", "tune")
"""Commands that write run folders."""


class RunFolder:
    """Files of a run.

    Args:
        path: Path of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = time.monotonic()
        """Start of this session on the monotonic clock, seconds; may be set to an earlier time."""
        self.notes: tuple[str, ...] = ()
        """Notes for the user on how the run is resumed."""
        self._earlier = 0.0
        self._records: dict[tuple[str, str, int], dict[int, Record]] = {}

    @classmethod
    def open(
        cls, path: Path, config: Mapping[str, Any], resume: bool, overwrite: bool
    ) -> RunFolder:
        """Starts a run, or resumes one that was started with the same config.

        Raises:
            UserError: The folder holds a run and neither flag is given, or a run with another
                config, or other files; or the data or model changed since the run started.
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
        """Whether a folder holds a run; changes nothing.

        Raises:
            UserError: As `open`, except for a run with another config.
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
        """Opens an existing run for reading.

        Raises:
            UserError: The folder holds no run.
        """
        run = cls(path)
        if not run._is_run():
            raise UserError(f"{path}: no run here; give a folder that seal-env wrote")
        run._read_records(repair=False)
        return run

    def read_json(self, name: str) -> Any:
        """Content of a JSON file; None if it does not exist.

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

    def read_results(self, name: str) -> Any:
        """Content of a JSON file of numbers, NaN where it has null; None if there is no file."""
        content = self.read_json(name)
        return None if content is None else _with_nan(content)

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file atomically; what is no finite number is null in it."""
        text = json.dumps(finite_or_none(value), indent=2, default=str) + "\n"
        self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Writes a file atomically.

        Raises:
            UserError: It cannot be written, for example because the disk is full.
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
        """Wall-clock seconds over all sessions; a killed session counts up to its last write."""
        return self._earlier + time.monotonic() - self.started

    def _tick(self) -> None:
        self.write_json("clock.json", {"seconds": round(self.seconds, 3)})

    def records(self, phase: str, policy: str, round_: int) -> dict[int, Record]:
        """Records of a phase by index."""
        return self._records.setdefault((phase, policy, round_), {})

    def every_record(self) -> list[Record]:
        """All records: phases and rounds in the order in which they started, then by index."""
        return [group[i] for group in self._records.values() for i in sorted(group)]

    def append(self, records: Sequence[Record]) -> None:
        """Appends records to ``episodes.jsonl`` and syncs it to disk.

        Raises:
            UserError: They cannot be written, for example because the disk is full.
        """
        text = "".join(json.dumps(finite_or_none(record)) + "\n" for record in records)
        place = self.path / "episodes.jsonl"
        with _writing(place), place.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        for record in records:
            self._keep(record)
        self._tick()

    def save_checkpoint(
        self, round_: int, save: Callable[[Path], None], agent: str = "the agent"
    ) -> Path:
        """Writes a checkpoint after a round, atomically.

        Args:
            round_: Number of the round, from 1; 0 for the untrained agent.
            save: Writes into an empty folder. Its exceptions are not changed, since it may be a
                user's own, except for that of a full disk.
            agent: Name of the agent that saves, for messages.

        Raises:
            UserError: The files cannot be written, for example because the disk is full.
        """
        place = self.checkpoint(round_)
        beside = place.with_name(f".{place.name}.new")
        with _writing(place):
            for old in (beside, place):
                shutil.rmtree(old, ignore_errors=True)
            beside.mkdir(parents=True)
        try:
            save(beside)
        except (OSError, SafetensorError) as error:
            if not _is_full(error):
                raise
            raise _unwritten(place, error, f" while {agent} saved") from error
        with _writing(place):
            for file in beside.rglob("*"):
                if file.is_file():
                    with file.open("rb+") as written:
                        os.fsync(written.fileno())
            os.replace(beside, place)
        self._tick()
        return place

    def checkpoint(self, round_: int) -> Path:
        """Path of the checkpoint after a round, counted from 1; 0 is the untrained agent."""
        return self.path / "checkpoints" / f"round-{round_}"

    def rounds_done(self) -> int:
        """Number of consecutive rounds from 1 that have a checkpoint."""
        done = 0
        while self.checkpoint(done + 1).is_dir():
            done += 1
        return done

    def _is_run(self) -> bool:
        """Whether this is a run folder: other programs write a ``config.json``, too."""
        try:
            config = self.read_json("config.json")
        except UserError:
            return False
        return isinstance(config, dict) and config.get("command") in COMMANDS

    def _take(self) -> None:
        """Locks the run against other processes until this one ends."""
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
        """Removes the files of a run and no others.

        The config is renamed first, which marks the run as being removed.
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
        now = _flat(json.loads(json.dumps(finite_or_none(config), default=str)))
        before = {name: value for name, value in ADDED.items() if name in now} | before
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
            if name == "env.dtype" and old == "auto":
                continue  # what it meant then is in run_time
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
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise TypeError("not a JSON object")
                self._keep(record | {k: math.nan for k in MEASURES if record.get(k, 0) is None})
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
    "merged",
    "before.json",
    "after.json",
    "training.json",
    "report.md",
    "report.html",
    "side-by-side.html",
    "preset.json",
    "table.md",
    "trials.png",
    "learning_curve.png",
    "comparison.png",
    "styles.png",
    ".*.new",
    ".config.json.old",
)
"""Files of a run, in the order of removal."""
_CLEARED = _WRITTEN[-1]
"""The config of a run that is being removed."""
_BEGUN = {".lock", ".config.json.new"}
"""Files of a run that was killed before its config was written."""
CONTENTS = "contents"
"""Key of ``config.json`` with hashes of data and models (`seal_agents.runner.contents`)."""
_WHAT = {
    "problems": "the problems that the run uses (--task, --data, --documents, --questions)",
    "model": "the model's files (--model)",
    "adapter": "the adapter's files (--adapter)",
    "critic": "the critic's files (--critic)",
    "writer": "the writer's files (--writer)",
}
_WORKERS = {"env.workers", "env.ray_address", "env.worker_timeout"}
_MAY_CHANGE = {"out", "num_envs", "merge", "run_time.threads", *_WORKERS}
"""Settings that may differ on resume."""


_FULL = (errno.ENOSPC, errno.EDQUOT)
"""System errors of a full disk."""


def finite_or_none(value: Any) -> Any:
    """Plain data with None in place of NaN and infinities, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: finite_or_none(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(value: Any) -> Any:
    """Plain data with NaN in place of None."""
    if isinstance(value, Mapping):
        return {key: _with_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_nan(inner) for inner in value]
    return math.nan if value is None else value


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    """Turns a failure to write into a `UserError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise _unwritten(place, error) from error


def _unwritten(place: Path, error: Exception, when: str = "") -> UserError:
    """The error of a file or folder that cannot be written."""
    room = "make room or " if _is_full(error) else ""
    return UserError(
        f"{place}: cannot be written{when} ({reason(error)}); {room}give another folder, and "
        f"go on with --resume"
    )


def _is_full(error: Exception) -> bool:
    """Whether the disk, or the user's share of it, is full."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return any(f"(os error {code})" in str(error) for code in _FULL)  # safetensors' wording


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
    """The command-line flag of a setting."""
    if name == "command" or name.startswith("run_time."):
        return name.removeprefix("run_time.")
    return "--" + name.removeprefix("env.").replace("_", "-")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
