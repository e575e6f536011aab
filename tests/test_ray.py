"""Workers by Ray: the same bits, whatever happens to them. One Ray for the whole file."""

import io
import os
import signal
import sys
import time
from pathlib import Path
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import ray
from echo_spec import Echo
from helpers import scrambled_bank
from rich.console import Console

from seal_agents.runner.configs import EvaluateConfig
from seal_agents.runner.train import evaluate
from seal_env.config import EnvConfig
from seal_env.engine.loading import load_learner
from seal_env.engine.peft_io import save_peft
from seal_env.errors import UserError
from seal_env.workers.dispatch import Dispatch
from seal_env.workers.ray_pool import RayPass, ray_group

pytestmark = pytest.mark.slow

COUNT = 12


@pytest.fixture(scope="module")
def group():
    """Two workers on this machine; the environments of the file use them, too."""
    yield ray_group(2, None, True, 1, 60.0)
    ray.shutdown()


def test_a_ray_that_is_started_here_listens_on_loopback_alone(group):
    assert ray.util.get_node_ip_address() == "127.0.0.1"
    inodes = set()
    family = [p for p in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_rays(p)]
    for process in family:
        for link in Path(f"/proc/{process}/fd").iterdir():
            try:
                inodes.add(os.readlink(link))
            except OSError:
                continue  # closed meanwhile
    listening = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                listening.append(fields[1].partition(":")[0])
    assert listening and {address[-8:] for address in listening} == {"0100007F"}


def _is_rays(process):
    try:
        told = Path(f"/proc/{process}/cmdline").read_bytes()
        here = Path(ray._private.worker._global_node.get_session_dir_path()).name.encode()
        return here in told or int(process) == os.getpid()
    except OSError:
        return False


def test_killed_workers_lose_nothing(group, tmp_path):
    first, last = 0, COUNT - 1

    class Killing(RayPass):
        """Kills the workers that wait at the first and at the last item, twice each."""

        left: ClassVar = {first: 2, last: 2}

        def wait(self, seconds):
            for item, kills in self.left.items():
                if not kills:
                    (tmp_path / f"gate-{item}").touch()
                    continue
                for path in tmp_path.glob(f"at-{item}-*"):
                    path.unlink()
                    os.kill(int(path.name.rpartition("-")[2]), signal.SIGKILL)
                    self.left[item] = kills - 1
            return super().wait(0.05)

    notes = []
    pool = Killing(group, Echo(tmp_path, frozenset({first, last})), bytes, list)
    found = Dispatch(list(range(COUNT)), pool, 100.0, note=notes.append).run()
    assert found == list(range(COUNT))
    assert notes and all("was lost" in note for note in notes)
    assert not any(Killing.left.values())


def test_a_worker_that_hangs_is_replaced(group, tmp_path):
    class Stopping(RayPass):
        """Stops the worker that waits at item 3, once."""

        stopped: ClassVar[list[int]] = []

        def wait(self, seconds):
            for path in tmp_path.glob("at-3-*"):
                if not self.stopped:
                    self.stopped.append(int(path.name.rpartition("-")[2]))
                    os.kill(self.stopped[0], signal.SIGSTOP)
                    (tmp_path / "gate-3").touch()
            return super().wait(0.05)

    notes = []
    pool = Stopping(group, Echo(tmp_path, frozenset({3})), bytes, list)
    found = Dispatch(list(range(COUNT)), pool, 5.0, note=notes.append).run()
    assert found == list(range(COUNT)) and "hangs and is replaced" in notes[0]
    with pytest.raises(ProcessLookupError):
        while True:
            os.kill(Stopping.stopped[0], 0)
            time.sleep(0.05)


def test_an_exception_of_a_worker_is_the_users_line(group, tmp_path):
    pool = RayPass(group, Echo(tmp_path), bytes, list)
    with pytest.raises(UserError, match=r"^item 99 is refused$"):
        Dispatch([1, 99, 2], pool, 60.0).run()
    pool.drop()
    assert Dispatch([1, 2], RayPass(group, Echo(tmp_path), bytes, list), 60.0).run() == [1, 2]


def test_more_workers_than_there_is_room_for_are_refused(group):
    with pytest.raises(UserError, match=r"workers 3: each takes 1 CPU, and Ray has room for 2"):
        ray_group(3, None, True, 1, 60.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        with pytest.raises(UserError, match=r"need the package ray .*seal-env\[ray\]"):
            ray_group(2, None, True, 1, 60.0)


def outcome(adapter=None, **settings):
    """Observations, rewards and infos of some steps in a vector environment."""
    envs = gym.make_vec("SelfEdit-v0", num_envs=4, **settings)
    if adapter is not None:
        envs.unwrapped.use_adapter(adapter)
    problems = [[7, 8], [7, 9], [8, 7], [9, 7]]
    if settings.get("horizon", 1) == 1:
        problems = [first for first, _ in problems]
    observation, _ = envs.reset(seed=3, options={"problems": problems})
    told = [plain(observation)]
    text = observation["context"][0]
    for _ in range(settings.get("horizon", 1)):
        actions = [text, text.replace(". ", ".\n"), None, ""]
        told.append(plain(envs.step(actions)))
    return told


def plain(value):
    """Batched observations, rewards and infos as lists, which can be compared."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [plain(inner) for inner in value]
    return plain(value.tolist()) if isinstance(value, np.ndarray) else repr(value)


@pytest.mark.parametrize(
    "settings",
    [
        {"reward": "accuracy + cloze", "autoreset_mode": "DISABLED", "observe_final": False},
        {"reward": "log_likelihood"},
        {"horizon": 2, "stream": "merge", "reward": "log_likelihood + cloze"},
    ],
    ids=["light", "final observations", "stream"],
)
def test_rewards_infos_and_observations_are_those_of_one_process(group, settings):
    assert outcome(workers=2, **settings) == outcome(**settings)


def test_adapters_travel(group, tmp_path):
    learner = load_learner("tiny")
    bank = scrambled_bank(learner, 1)
    save_peft(bank, 0, tmp_path, "tiny")
    settings = {"autoreset_mode": "DISABLED", "observe_final": False, "reward": "log_likelihood"}
    adapted = outcome(str(tmp_path), **settings)
    assert adapted != outcome(**settings)
    assert outcome(str(tmp_path), workers=2, **settings) == adapted


def test_a_run_with_workers_writes_the_same_records_and_can_be_resumed_without(group, tmp_path):
    def run(folder, workers):
        config = EvaluateConfig(
            policies=("none", "passage"),
            env=EnvConfig(workers=workers, split="test"),
            problems=3,
            out=tmp_path / folder,
        )
        evaluate(config, True, False, Console(file=io.StringIO()))
        return (tmp_path / folder / "episodes.jsonl").read_text()

    alone = run("alone", 0)
    assert run("together", 2) == alone
    (tmp_path / "together" / "summary.json").unlink()
    assert run("together", 0) == alone
