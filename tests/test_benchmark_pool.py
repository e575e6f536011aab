"""Jobs in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pool_jobs
import pytest

from benchmarks.pool import THREADS, in_processes


def test_every_job_is_done_and_each_process_has_its_share_of_the_cores(tmp_path):
    before = {name: os.environ.get(name) for name in THREADS}
    jobs = [("write", str(tmp_path / f"{i}")) for i in range(5)]
    ended = list(in_processes(pool_jobs.work, jobs, 2))
    assert sorted(job for job, _ in ended) == jobs and {failed for _, failed in ended} == {None}
    said = [(tmp_path / f"{i}").read_text().split() for i in range(5)]
    assert 1 <= len({pid for pid, _ in said}) <= 2 and str(os.getpid()) not in dict(said)
    assert {int(threads) for _, threads in said} == {max(1, os.cpu_count() // 2)}
    assert {name: os.environ.get(name) for name in THREADS} == before


@pytest.mark.slow
def test_a_failed_job_is_told_and_the_others_are_done(tmp_path):
    kinds = ["user error", "write", "die", "write", "die", "write"]
    jobs = [(kind, str(tmp_path / f"{i}")) for i, kind in enumerate(kinds)]
    found = dict(in_processes(pool_jobs.work, jobs, 1))
    assert [found[job] for job in jobs] == [
        "UserError: nothing there",
        None,
        "its process was killed (status 3)",
        None,
        "its process was killed (status 3)",
        None,
    ]
    assert [(tmp_path / f"{i}").exists() for i in (1, 3, 5)] == [True] * 3


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_one_that_started_it(tmp_path, how):
    os.mkfifo(tmp_path / "fifo")
    code = (
        "import pool_jobs, signal, sys\n"
        "from benchmarks.pool import in_processes\n"
        # What runs in the background of a shell is started deaf to it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "if __name__ == '__main__':\n"
        "    list(in_processes(pool_jobs.work, [('wait', sys.argv[1])] * 2, 2))\n"
    )
    (tmp_path / "main.py").write_text(code)
    tests = Path(__file__).resolve().parent
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "main.py", tmp_path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])},
        stderr=subprocess.DEVNULL,
    )
    pids = until(lambda: [int(p.stem) for p in tmp_path.glob("*.pid")], 2)
    os.kill(parent.pid, how)
    parent.wait(60)
    assert until(lambda: [pid for pid in pids if running(pid)], 0) == []


def until(found, count):
    """Waits until so many are found."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        some = found()
        if len(some) == count:
            return some
        os.sched_yield()
    raise AssertionError(f"{some}, not {count}")


def running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"
