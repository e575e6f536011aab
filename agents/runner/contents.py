"""Content hashes of the problems, models and files that a run's settings name.

Their content may change between a stop and ``--resume``: a data file gets another line, a model is
saved anew. The run's ``config.json`` has their hashes. Code is not hashed, since a user's own agent
or task that failed is mended and its run resumed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from seal_agents.run_folder import CONTENTS, RunFolder
from seal_agents.runner.configs import TrainConfig
from seal_agents.runner.rounds import round_problems
from seal_env.assembly import make_learner
from seal_env.config import EnvConfig
from seal_env.engine.checkpoints import EMBEDDED
from seal_env.engine.devices import resolve_device, speedup
from seal_env.engine.shapes import REAL, shape_of
from seal_env.tasks.base import Problem, Task

DTYPE = "dtype"
"""Name of the precision among the settings ``run_time`` of a run."""
MODEL_FILES = ("*.safetensors", "*.gguf", "*.json", "*.model", "*.txt", "*.jinja")
"""Patterns of the files of a model or an adapter."""
PIECE, PIECES = 1 << 12, 1 << 12
"""Bytes per piece and pieces per file that are hashed: all of a file up to 16 MiB; of 16 GiB one
piece per 4 MiB, which is less than a matrix of a model of that size."""


def described(command: str, config: Any, env: EnvConfig, used: Mapping[str, str]) -> dict[str, Any]:
    """Content of ``config.json``: settings, content hashes, and device, dtype and threads.

    Args:
        command: Subcommand of ``seal-env``.
        config: Its settings, a dataclass.
        env: Settings of the environment.
        used: Content hashes, as of `contents`.
    """
    model = make_learner(env).model
    chosen = {
        "device": str(model.device),
        DTYPE: str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    return {"command": command} | asdict(config) | {"run_time": chosen, CONTENTS: dict(used)}


def with_dtype(env: EnvConfig, out: Path, resume: bool, recorded_as: str = DTYPE) -> EnvConfig:
    """Settings with the precision that ``auto`` means.

    It is measured on this processor, and a run that is resumed keeps the one that it began with.

    Args:
        env: The environment's settings.
        out: Folder of the run.
        resume: Whether the run there is resumed.
        recorded_as: Name of the precision among the settings ``run_time`` of the run.
    """
    if env.dtype != "auto":
        return env
    known = RunFolder(out).read_json("config.json") if resume else None
    recorded = (known or {}).get("run_time", {}).get(recorded_as)
    chosen = recorded or str(make_learner(env).model.dtype).removeprefix("torch.")
    return replace(env, dtype=chosen)


def dtype_note(env: EnvConfig) -> Iterator[str]:
    """Note on the precision that ``auto`` chose, if it was measured."""
    shape = shape_of(make_learner(env).model.config)
    if resolve_device(env.device).type == "cpu" and shape and shape.parameters >= REAL:
        ratio = speedup(shape.width)
        yield (
            f"dtype auto: {env.dtype}; products of this model's shapes in bfloat16 are "
            f"{ratio:.2g} times as fast as in float32 on this processor"
        )


def contents(
    env: EnvConfig,
    problems: Iterable[Problem],
    policies: Sequence[str] = (),
    critic: Path | None = None,
) -> dict[str, str]:
    """Content hashes by kind (problems, model, adapter, critic) or by a policy's name.

    Args:
        env: The environment's settings.
        problems: All problems of the run, in its order.
        policies: Names of policies; some may be files or run folders.
        critic: Folder of the critic of a screening.
    """
    found = {"problems": of_problems(problems)}
    found |= of_model("model", env.model)
    if env.adapter is not None:
        found["adapter"] = of_files(Path(env.adapter))
    if critic is not None:
        found["critic"] = of_files(critic)
    for name in policies:
        path = _file_of(name)
        if path is not None:
            found[name] = of_files(path, "**/*")
    return found


def training_problems(task: Task, config: TrainConfig) -> Iterable[Problem]:
    """Problems of all rounds, in their order.

    For an endless split, whose problems are made by code, those of the first round.
    """
    size = task.size(config.env.split)
    if size is not None and size <= config.rounds * config.problems:
        yield from (task.problem(config.env.split, i) for i in range(size))
        return
    for round_ in range(1, 1 + (1 if size is None else config.rounds)):
        yield from round_problems(task, config, round_)


def of_model(kind: str, model: str) -> dict[str, str]:
    """Hash of a model's files under a name of its kind; nothing if they are not on this machine."""
    place = _place_of(model)
    return {} if place is None else {kind: of_files(place)}


def of_problems(problems: Iterable[Problem]) -> str:
    """Hash of the contexts, questions and answers of problems, and of their order.

    Empty fields are left out, so that a later version with more fields has the same hash.
    """
    digest = hashlib.blake2b(digest_size=16)
    for problem in problems:
        fields: dict[str, Any] = {
            "id": problem.id,
            "title": problem.title,
            "context": problem.context,
            "questions": [{k: v for k, v in asdict(q).items() if v} for q in problem.questions],
            "edits": dict(problem.edits),
        }
        digest.update(json.dumps(fields, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def of_records(records: Iterable[Mapping[str, Any]]) -> str:
    """Hash of records of self-edits."""
    lines = "".join(json.dumps(record, sort_keys=True) + "\n" for record in records)
    return hashlib.blake2b(lines.encode(), digest_size=16).hexdigest()


def of_files(place: Path, *patterns: str) -> str:
    """Hash of a file, or of the files in a folder: names, sizes, and evenly spread pieces."""
    digest = hashlib.blake2b(digest_size=16)
    files = {place}
    if place.is_dir():
        files = {p for pattern in patterns or MODEL_FILES for p in place.glob(pattern)}
    for path in sorted(file for file in files if file.is_file()):
        size = path.stat().st_size
        name = path.relative_to(place).as_posix() if path != place else ""
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
        with path.open("rb") as file:
            if size <= PIECE * PIECES:
                digest.update(file.read())
                continue
            for piece in range(PIECES):
                file.seek((size - PIECE) * piece // (PIECES - 1))
                digest.update(file.read(PIECE))
    return digest.hexdigest()


def _place_of(model: str) -> Path | None:
    """Folder of a model's files; None if it is not on this machine."""
    if model in EMBEDDED:
        return EMBEDDED[model]
    if Path(model).exists():
        return Path(model)
    from huggingface_hub import try_to_load_from_cache

    known = try_to_load_from_cache(model, "config.json")
    return Path(known).parent if isinstance(known, str) else None


def _file_of(policy: str) -> Path | None:
    """File or last checkpoint that a policy's name refers to; None if it refers to none."""
    if Path(policy).is_dir():
        run = RunFolder(Path(policy))
        return run.checkpoint(run.rounds_done())
    path = Path(policy.partition(":")[2])
    return path if path.is_file() else None
