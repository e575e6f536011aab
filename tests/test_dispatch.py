"""Dispatch to simulated workers: nothing is lost, slow ones get less, hanging ones are replaced."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.cluster_model import Costs, SimulatedPool
from seal_env.errors import UserError
from seal_env.workers.dispatch import (
    MAX_DEATHS,
    DeadlyItemError,
    Dispatch,
    Event,
    Kind,
    _Batch,
)
from seal_env.workers.placement import bundle, places

COSTS = Costs(per_edit=1.0, per_batch=0.5, latency=0.01, loading=2.0)


def square(item):
    return item * item


class Recording(SimulatedPool):
    """Remembers the batches and how many a worker has at a time."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.batches, self.most = [], 0

    def send(self, worker, batch, items):
        super().send(worker, batch, items)
        self.batches.append(list(items))
        self.most = max(self.most, len(self._workers[worker].batches))


@given(
    count=st.integers(0, 70),
    speeds=st.lists(st.sampled_from([0.2, 1.0, 3.0]), min_size=1, max_size=5),
    deaths=st.sets(st.integers(0, 12), max_size=9),
    hangs=st.sets(st.integers(0, 12), max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_results_are_complete_and_in_order_whatever_dies_or_hangs(count, speeds, deaths, hangs):
    pool = Recording(speeds, COSTS, square, deaths, hangs)
    found = Dispatch(list(range(count)), pool, timeout=400).run()
    assert found == [square(i) for i in range(count)]
    assert pool.most <= 2
    if not deaths and not hangs:
        assert sorted(itertools.chain(*pool.batches)) == list(range(count))  # nothing is done twice


def test_a_slow_worker_gets_less_and_hardly_delays_the_others():
    pool = SimulatedPool([1.0, 1.0, 1.0, 0.25], COSTS)
    Dispatch(list(range(256)), pool, 1e4).run()
    slow, fast = pool.carried[3], min(pool.carried[:3])
    assert 0 < slow < fast / 2
    assert pool.clock < 1.25 * 256 / 3.25 + COSTS.loading


def test_a_worker_that_comes_late_takes_part():
    class Late(SimulatedPool):
        def load(self, worker):
            self._push(worker, 30.0 * worker, Event(Kind.READY, worker))

    pool = Late([1.0, 1.0], COSTS)
    Dispatch(list(range(100)), pool, 1e4).run()
    assert pool.carried[1] > 20


def test_a_hanging_worker_is_replaced_after_its_timeout_and_not_before():
    notes, told = [], []
    pool = SimulatedPool([1.0, 1.0], COSTS, square, hangs={0})
    timeout = 60.0
    Dispatch(
        list(range(40)), pool, timeout, lambda *numbers: told.append(numbers), notes.append
    ).run()
    assert [note.split(" (")[0] for note in notes] == ["worker 0 hangs and is replaced"]
    assert timeout < pool.clock < 2 * timeout
    assert told[-1] == (40, 40) and told == sorted(told)


def test_signs_of_life_keep_a_slow_worker():
    class Talking(SimulatedPool):
        """A worker that works on its batch for long, and says so."""

        def wait(self, seconds):
            events = super().wait(seconds)
            return events or [Event(Kind.ALIVE, 0)]

    notes = []
    pool = Talking([0.01], COSTS)
    assert Dispatch(list(range(3)), pool, 60, note=notes.append).run() == [0, 1, 2]
    assert not notes and pool.clock > 60


def test_an_item_that_ends_every_worker_is_named_and_the_others_are_not_blamed():
    pool = Recording([1.0, 1.0], COSTS, deadly={13})
    with pytest.raises(DeadlyItemError, match=f"ended {MAX_DEATHS} workers") as error:
        Dispatch(list(range(40)), pool, 1e4).run()
    assert error.value.item == 13
    assert [13] in pool.batches


def test_a_batch_that_waited_behind_a_deadly_one_is_not_blamed():
    dispatch = Dispatch([0, 1], SimulatedPool([1.0], COSTS), 1e4)
    dispatch._requeue(_Batch([1], MAX_DEATHS - 1), False, "it died")
    assert list(dispatch._again) == [_Batch([1], MAX_DEATHS - 1)]
    with pytest.raises(DeadlyItemError):
        dispatch._requeue(_Batch([1], MAX_DEATHS - 1), True, "it died")


def test_any_number_of_deaths_is_survived_with_results_in_between():
    notes = []
    pool = SimulatedPool([1.0], COSTS, square, deaths=set(range(0, 600, 5)))
    found = Dispatch(list(range(3000)), pool, 1e4, note=notes.append).run()
    assert found == [square(i) for i in range(3000)]
    assert len(notes) > MAX_DEATHS


def test_news_of_a_batch_that_is_done_already_changes_nothing():
    class Twice(SimulatedPool):
        def wait(self, seconds):
            return [copy for event in super().wait(seconds) for copy in (event, event)]

    assert Dispatch(list(range(40)), Twice([1.0, 1.0], COSTS), 1e4).run() == list(range(40))


def test_a_second_batch_is_sent_to_workers_of_known_speed_while_many_items_wait():
    seconds = []

    class Watched(SimulatedPool):
        sent = 0

        def send(self, worker, batch, items):
            if self._workers[worker].batches:
                seconds.append((self.carried[worker], 256 - self.sent))
            self.sent += len(items)
            super().send(worker, batch, items)

    dispatch = Dispatch(list(range(256)), Watched([1.0, 0.2], COSTS), 1e4)
    dispatch.run()
    assert seconds
    for carried, waiting in seconds:
        assert carried
        assert waiting > 2 * dispatch.smallest  # the rest goes to whoever is idle first


def test_workers_that_never_stay_alive_end_the_pass():
    class Dead(SimulatedPool):
        def load(self, worker):
            pass

    with pytest.raises(UserError, match=r"lost .* times in a row, and nothing was done"):
        Dispatch([1], Dead([1.0], COSTS), 5.0).run()


def test_an_exception_of_a_worker_is_raised_as_it_is():
    with pytest.raises(UserError, match=r"^failing: \[7\]$"):
        Dispatch(list(range(20)), SimulatedPool([1.0], COSTS, failing={7}), 1e4).run()


@pytest.mark.parametrize(
    ("nodes", "count", "gpus", "wanted", "room"),
    [
        ([{"CPU": 2}], 2, False, {"CPU": 1}, 2),
        ([{"CPU": 16}], 3, False, {"CPU": 5}, 3),
        ([{"CPU": 3}, {"CPU": 5}], 4, False, {"CPU": 1}, 8),  # 2 each would leave room for 3
        ([{"CPU": 2}], 4, False, {"CPU": 1}, 2),
        ([{"CPU": 64, "GPU": 8}] * 2, 16, True, {"CPU": 8, "GPU": 1}, 16),
        ([{"CPU": 8}, {"CPU": 32, "GPU": 4}], 5, True, {"CPU": 8, "GPU": 1}, 4),
        ([], 2, True, {"CPU": 1, "GPU": 1}, 0),
    ],
)
def test_workers_share_the_nodes_evenly(nodes, count, gpus, wanted, room):
    assert bundle(nodes, count, gpus) == wanted
    assert places(nodes, wanted) == room
