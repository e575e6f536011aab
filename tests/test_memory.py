"""How much memory there is: in bytes, whatever units the system writes."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seal_env.engine import memory

MIB = 1 << 20
CPU = torch.device("cpu")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A function that writes the system's files, which are then read instead of the real ones."""
    monkeypatch.setattr(memory, "Path", lambda path: tmp_path / str(path).lstrip("/"))

    def write(**files):
        places = {"meminfo": "proc"} | dict.fromkeys(("max", "current", "stat"), "sys/fs/cgroup")
        for name, text in files.items():
            place = tmp_path / places[name] / (name if name == "meminfo" else f"memory.{name}")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)

    return write


MEMINFO = "MemTotal:       16000 kB\nMemFree:          100 kB\nMemAvailable:    3072 kB\n"


def test_what_the_kernel_says_is_in_units_of_1024_bytes(system):
    system(meminfo=MEMINFO)
    assert memory.available_memory(CPU) == 3 * MIB


@pytest.mark.parametrize(
    ("limit", "current", "stat", "room"),
    [
        (str(5 * MIB), str(4 * MIB), "anon 1\ninactive_file 524288\n", MIB + MIB // 2),
        (str(5 * MIB), str(4 * MIB), "inactive_anon 524288\n", MIB),
        (str(5 * MIB), str(6 * MIB), "inactive_file 0\n", 0),
        ("max", str(4 * MIB), "inactive_file 0\n", None),
    ],
)
def test_what_a_container_leaves_is_in_bytes_and_counts_cached_files_as_free(
    system, limit, current, stat, room
):
    system(max=f"{limit}\n", current=f"{current}\n", stat=stat)
    assert memory._cgroup_room() == room
    assert memory.available_memory(CPU) == room
    system(meminfo=MEMINFO)
    assert memory.available_memory(CPU) == min(3 * MIB, 3 * MIB if room is None else room)


def test_where_nothing_is_said_nothing_is_known(system):
    system()
    assert memory.available_memory(CPU) is None


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
def test_this_machine_has_some_memory_and_not_more_than_it_has():
    words = Path("/proc/meminfo").read_text().split()
    total = int(words[words.index("MemTotal:") + 1]) * 1024
    assert MIB < memory.available_memory(CPU) <= total


ALLOCATING = """
import resource, sys, torch
from seal_env.engine.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults(1)
faults(40)  # until there is room for a tensor and what lies between
print(first, faults(10))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again_without_page_faults():
    def faults(how):
        command = [sys.executable, "-c", ALLOCATING, how]
        return map(int, subprocess.run(command, capture_output=True, check=True).stdout.split())

    first, later = faults("keep")
    assert first > 10 and later < first
    first, later = faults("as usual")
    assert later > 5 * first
