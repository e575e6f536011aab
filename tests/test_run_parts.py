"""Running parts of a job on threads of their own."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from time import sleep

import pytest
import torch

from seal_env.engine.threads import run_parts, split_evenly


def test_parts_run_at_the_same_time_with_their_share_of_the_threads_and_in_order():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        barrier = Barrier(2, timeout=60)  # passed only if both are under way

        def job(name):
            def work(stop):
                barrier.wait()
                return name, torch.get_num_threads()

            return work

        assert run_parts([job("a"), job("b")]) == [("a", 2), ("b", 2)]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_meanwhile_a_new_thread_has_all_of_torchs_threads():
    def seen():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    def other(stop):
        # Once all parts have begun; that others have is not told.
        return any(seen() == 4 or sleep(0.01) for _ in range(1000))

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        assert run_parts([other, lambda stop: torch.get_num_threads()]) == [True, 2]
        assert seen() == torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_a_failure_stops_the_others_and_is_raised():
    stopped = Event()

    def fails(stop):
        raise MemoryError

    def waits(stop):
        if stop.wait(60):
            stopped.set()

    with pytest.raises(MemoryError):
        run_parts([waits, fails])
    assert stopped.is_set()


@pytest.mark.parametrize(
    ("sizes", "parts", "expected"),
    [
        ([], 2, []),
        ([5], 2, [range(0, 1)]),
        ([1, 1, 1, 1], 2, [range(0, 2), range(2, 4)]),
        ([100, 1, 1], 2, [range(0, 1), range(1, 3)]),
        ([0, 0, 0], 2, [range(0, 3)]),
    ],
)
def test_items_are_cut_into_runs_of_equal_size(sizes, parts, expected):
    assert split_evenly(sizes, parts) == expected


def test_every_item_is_in_exactly_one_run():
    for sizes in ([3, 1, 4, 1, 5, 9, 2, 6], [50, 1, 1, 1, 1, 1], [1, 1, 1, 60]):
        for parts in range(1, 10):
            found = split_evenly(sizes, parts)
            assert len(found) <= parts
            assert [i for part in found for i in part] == list(range(len(sizes)))
