"""The inner loop on workers: requests in, the results of `InnerLoop` out, to the bit.

What travels: once per config and adapter a `LoopSpec`; per request its problem, its parsed
self-edit and, in a stream, the learner so far; per result its scores and, where the environment
needs it, the learner. What the untouched learner scored travels both ways, so that each problem's
baseline is computed by one worker.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import cloudpickle
import torch
from transformers import PreTrainedModel

from seal_env.assembly import make_learner, make_loop, make_reward
from seal_env.config import EnvConfig, make_task
from seal_env.engine.banks import Bank, LearnerState
from seal_env.engine.learner import Learner
from seal_env.engine.loading import load_learner
from seal_env.engine.peft_io import CONFIG, WEIGHTS
from seal_env.errors import UserError
from seal_env.evaluation import Progress
from seal_env.hashing import stable_hash
from seal_env.inner_loop import EditResult, InnerLoop, Request
from seal_env.streams import parse_stream
from seal_env.workers.dispatch import DeadlyItemError, Dispatch
from seal_env.workers.ray_pool import RayPass, ray_group

SAMPLED = 16
"""Numbers per parameter of a model that its fingerprint is made of."""
STAGE = "inner loops"
"""Name of the stage that progress is told of."""
_log = logging.getLogger(__name__)


class RemoteLoop:
    """Inner loop that sends its requests to Ray actors; an `Executor`.

    Args:
        config: Settings of the environment, its `workers` above 0.
        loop: The same inner loop in this process.
        states: Whether the results' states are needed: for a next step, or for an observation. If
            not, only their norms travel.
    """

    def __init__(self, config: EnvConfig, loop: InnerLoop, states: bool) -> None:
        self.config, self.loop, self.states = config, loop, states
        gpus = config.device == "auto" or loop.learner.device.type == "cuda"
        self.group = ray_group(
            config.workers,
            config.ray_address,
            gpus,
            torch.get_num_threads(),
            config.worker_timeout,
        )
        self.spec = LoopSpec(
            config=replace(
                config,
                workers=0,
                ray_address=None,
                adapter=None,
                dtype=str(loop.learner.model.dtype).removeprefix("torch."),
                device="cuda" if self.group.gpus else "cpu",
                inner=loop.config,
            ),
            adapter=None if config.adapter is None else read_adapter(config.adapter),
            states=states,
            fingerprint=fingerprint(make_learner(replace(config, adapter=None))),
        )

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), (self.config, self.loop, self.states)

    def run(
        self, requests: Sequence[Request], progress: Progress | None = None
    ) -> list[EditResult]:
        """See `InnerLoop.run`."""
        return self._carry_out("run", requests, progress)

    def no_op(
        self, requests: Sequence[Request], progress: Progress | None = None
    ) -> list[EditResult]:
        """See `InnerLoop.no_op`."""
        return self._carry_out("no_op", requests, progress)

    def _carry_out(
        self, method: str, requests: Sequence[Request], progress: Progress | None
    ) -> list[EditResult]:
        """Results of a method of the workers' loops."""
        workers = RayPass(
            self.group, self.spec, lambda some: self._packed(method, some), self._unpacked
        )
        told = None if progress is None else lambda done, of: progress(STAGE, done, of)
        items = list(enumerate(requests))
        speeds = self.group.speeds.setdefault(self.spec.config.model, {})
        dispatch = Dispatch(items, workers, self.config.worker_timeout, told, _log.warning, speeds)
        with self.group.lock:
            try:
                results: list[EditResult] = dispatch.run()
            except DeadlyItemError as error:
                problem = requests[error.item].problem.id
                raise UserError(
                    f"problem {problem}: its self-edit ended every worker that it was sent to "
                    f"({error.reason}); see Ray's logs, or give workers more memory"
                ) from error
            finally:
                workers.drop()
        return results

    def _packed(self, method: str, some: Sequence[tuple[int, Request]]) -> bytes:
        """A batch as bytes."""
        requests = [request for _, request in some]
        return packed((method, requests, [self.loop.known_baselines(_asked(r)) for r in requests]))

    def _unpacked(self, content: bytes) -> list[EditResult]:
        """Results of a batch, whose baselines are added to the cache."""
        results, known = unpacked(content, self.loop.learner.device)
        for problems, scores in known:
            self.loop.add_baselines(problems, scores)
        probes = self.loop.probes
        return [
            replace(result, probed=dict(zip(probes, result.probed, strict=True)))
            for result in results
        ]


@dataclass(frozen=True)
class LoopSpec:
    """Plain data from which a worker builds its inner loop; a `seal_env.workers.ray_pool.Spec`."""

    config: EnvConfig
    """Settings of the environment, without workers and adapter; precision and device are named."""
    adapter: Mapping[str, bytes] | None
    """Files of the adapter that the learner starts from, by name; None for the base."""
    states: bool
    """Whether results have their states."""
    fingerprint: int
    """Fingerprint of the base's weights in the process that asks."""

    @cached_property
    def digest(self) -> str:
        """Hash of the content."""
        files = [(n, blake2b(c).hexdigest()) for n, c in sorted((self.adapter or {}).items())]
        return str(stable_hash(self.config, files, self.states, self.fingerprint))

    def build(self, threads: int, tick: Callable[[], None]) -> Callable[[bytes], bytes]:
        """See `Spec`.

        Raises:
            UserError: The loop cannot be made on this machine.
        """
        torch.set_num_threads(threads)
        base = make_learner(self.config)
        tick()
        if fingerprint(base) != self.fingerprint:
            raise UserError(
                f"model {self.config.model!r}: a worker has other weights under this name; give "
                f"all machines the same files"
            )
        learner = base if self.adapter is None else self._adapted(self.adapter)
        task = make_task(self.config.task, self.config.data, self.config.task_options)
        reward = make_reward(self.config, task)
        stream = parse_stream(self.config.stream, self.config.stream_options)
        loop = make_loop(self.config, task, reward, stream, learner)

        def run(batch: bytes) -> bytes:
            torch.set_num_threads(threads)  # torch has a number of its own for each thread
            method, requests, known = unpacked(batch, learner.device)
            for request, scores in zip(requests, known, strict=True):
                loop.add_baselines(_asked(request), scores)
            results = getattr(loop, method)(requests, lambda *_: tick())
            asked = [problem for request in requests for problem in _asked(request)]
            sent = [self._sent(result, loop) for result in results]
            return packed((sent, [(asked, loop.known_baselines(asked))]))

        return run

    def _adapted(self, files: Mapping[str, bytes]) -> Learner:
        """The learner with the adapter merged in."""
        with TemporaryDirectory(prefix="seal-env-adapter-") as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            c = self.config
            return load_learner(c.model, c.dtype, c.device, folder, c.trust_remote_code)

    def _sent(self, result: EditResult, loop: InnerLoop) -> Any:
        """A result as it travels: measurements in the order of the loop's probes."""
        state = result.state
        if state is not None and not self.states:
            state = RemoteState(state.norm())
        probed: Any = [result.probed[probe] for probe in loop.probes]
        return replace(result, state=state, probed=probed)


@dataclass(frozen=True)
class RemoteState(LearnerState):
    """State of a learner that stayed with its worker, and whose norm alone is known."""

    value: float
    """The norm."""

    def norm(self) -> float:
        """See `LearnerState`."""
        return self.value

    @classmethod
    def bank(cls, states: Sequence[Self | None], model: PreTrainedModel) -> Bank:
        """Raises since there are no weights."""
        raise RuntimeError("the state of this learner stayed with its worker")


def packed(value: Any) -> bytes:
    """Data with tensors as bytes, which are read by trusted workers of the same cluster only."""
    buffer = io.BytesIO()
    torch.save(value, buffer, pickle_module=cloudpickle)
    return buffer.getvalue()


def unpacked(content: bytes, device: torch.device) -> Any:
    """Data that was packed on a machine with perhaps another device; tensors are put on `device`.

    The bytes come over Ray's own connections, whose other end may run any code here anyway.
    """
    buffer = io.BytesIO(content)
    return torch.load(buffer, map_location=device, weights_only=False)


def read_adapter(folder: str) -> dict[str, bytes]:
    """Files of an adapter in PEFT's format by name; they were read before to make a learner."""
    return {name: (Path(folder) / name).read_bytes() for name in (CONFIG, WEIGHTS)}


def fingerprint(learner: Learner) -> int:
    """Hash of a sample of a model's weights."""
    known = learner.cache.setdefault("fingerprint", {})
    if not known:
        numbers = []
        for name, parameter in learner.model.named_parameters():
            flat = parameter.detach().reshape(-1)
            sample = flat[:: max(1, flat.numel() // SAMPLED)][:SAMPLED].float().cpu()
            numbers.append((name, tuple(parameter.shape), sample.numpy().tobytes()))
        known[None] = stable_hash(*map(repr, numbers))
    return int(known[None])


def _asked(request: Request) -> list[Any]:
    """Problems of a request whose baselines are of use."""
    return [request.problem, *request.earlier]
