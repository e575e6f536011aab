"""Batcher: requests of many threads and coroutines, run together, each as if it were alone."""

import asyncio
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from seal_env.batcher import Batcher, BatcherConfig, QueueFullError
from seal_env.errors import UserError

SOON = 30
"""Seconds until a test gives up waiting."""


class Gate:
    """A pass that doubles numbers as soon as it is let through, and remembers its batches."""

    def __init__(self, opened=True):
        self.batches, self.began, self.open = [], threading.Semaphore(0), threading.Event()
        if opened:
            self.open.set()

    def __call__(self, items):
        self.batches.append(list(items))
        self.began.release()
        assert self.open.wait(SOON)
        if None in items:
            raise ValueError("none of that")
        return [2 * item for item in items]


def test_requests_share_a_pass_up_to_the_largest_batch():
    run = Gate()
    with Batcher(run, BatcherConfig(max_batch=4, max_wait=SOON)) as batcher:
        futures = [batcher.submit(i) for i in range(8)]
        assert [future.result(SOON) for future in futures] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert run.batches == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_request_does_not_wait_for_others_forever():
    with Batcher(Gate(), BatcherConfig(max_batch=4, max_wait=0.01)) as batcher:
        assert batcher.call(21) == 42


def test_requests_that_came_during_a_pass_share_the_next():
    run = Gate(opened=False)
    with Batcher(run, BatcherConfig(max_wait=0)) as batcher:
        futures = [batcher.submit(0)]
        assert run.began.acquire(timeout=SOON)
        futures += [batcher.submit(i) for i in range(1, 6)]
        run.open.set()
        assert [future.result(SOON) for future in futures] == [0, 2, 4, 6, 8, 10]
    assert run.batches == [[0], [1, 2, 3, 4, 5]]


def test_an_error_in_one_request_touches_no_other():
    items = [1, 2, None, 4, 5, None, 7, 8]
    with Batcher(Gate(), BatcherConfig(max_batch=len(items), max_wait=SOON)) as batcher:
        futures = [batcher.submit(item) for item in items]
        for item, future in zip(items, futures, strict=True):
            if item is None:
                with pytest.raises(ValueError, match="none of that"):
                    future.result(SOON)
            else:
                assert future.result(SOON) == 2 * item
        assert batcher.metrics().failed == 2


@pytest.mark.parametrize("broken", [SystemExit("out"), RuntimeError("broken")])
def test_the_worker_survives_whatever_a_pass_raises(broken):
    def run(items):
        if items == [0]:
            raise broken
        return items[1:] if items == [1] else items

    with Batcher(run, BatcherConfig(max_wait=0, timeout=SOON)) as batcher:
        with pytest.raises(type(broken)):
            batcher.call(0)
        with pytest.raises(RuntimeError, match="1 requests has 0 results"):
            batcher.call(1)
        assert batcher.call(2) == 2


def test_a_cancelled_request_is_not_run():
    run = Gate(opened=False)
    with Batcher(run, BatcherConfig(max_wait=0)) as batcher:
        first = batcher.submit(0)
        assert run.began.acquire(timeout=SOON)
        given_up, last = batcher.submit(1), batcher.submit(2)
        assert given_up.cancel() and not first.cancel()
        run.open.set()
        assert last.result(SOON) == 4
        assert batcher.metrics().cancelled == 1
    assert run.batches == [[0], [2]]


def test_a_timeout_gives_a_request_up_and_no_other():
    run = Gate(opened=False)
    with Batcher(run, BatcherConfig(max_wait=0, timeout=0.05)) as batcher:
        first = batcher.submit(0)
        assert run.began.acquire(timeout=SOON)
        with pytest.raises(TimeoutError):
            batcher.call(1)
        with pytest.raises(TimeoutError):
            asyncio.run(batcher.ask(2))
        last = batcher.submit(3)
        run.open.set()
        assert first.result(SOON) == 0 and last.result(SOON) == 6
    assert run.batches == [[0], [3]]


def test_a_cancelled_coroutine_gives_its_request_up():
    run = Gate(opened=False)

    async def main():
        with Batcher(run, BatcherConfig(max_wait=0)) as batcher:
            first = asyncio.ensure_future(batcher.ask(0))
            await asyncio.to_thread(run.began.acquire, timeout=SOON)
            second = asyncio.ensure_future(batcher.ask(1))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            run.open.set()
            assert await first == 0 and await batcher.ask(2) == 4

    asyncio.run(main())
    assert run.batches == [[0], [2]]


def test_a_full_queue_refuses_in_one_line():
    run = Gate(opened=False)
    with Batcher(run, BatcherConfig(max_wait=0, max_queue=2)) as batcher:
        futures = [batcher.submit(0)]
        assert run.began.acquire(timeout=SOON)
        futures += [batcher.submit(1), batcher.submit(2)]
        with pytest.raises(QueueFullError, match="2 requests wait already"):
            batcher.submit(3)
        assert batcher.metrics().queue == 2
        run.open.set()
        assert [future.result(SOON) for future in futures] == [0, 2, 4]


def test_close_cancels_what_waits_and_lets_the_pass_end():
    run = Gate(opened=False)
    batcher = Batcher(run, BatcherConfig(max_wait=0))
    first = batcher.submit(0)
    assert run.began.acquire(timeout=SOON)
    second = batcher.submit(1)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    with pytest.raises(CancelledError):
        second.result(SOON)
    run.open.set()
    closing.join(SOON)
    assert first.result(0) == 0
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(2)


def test_metrics_count_requests_and_passes():
    with Batcher(Gate(), BatcherConfig(max_batch=4, max_wait=SOON)) as batcher:
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(batcher.call, range(8))) == [2 * i for i in range(8)]
        metrics = batcher.metrics()
    assert (metrics.requests, metrics.passes, metrics.queue) == (8, 2, 0)
    assert metrics.batch_sizes == {4: 2}
    assert metrics.busy_seconds >= 0 and metrics.waited_seconds > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_batch", 0),
        ("max_queue", 0),
        ("max_wait", -1),
        ("max_wait", float("nan")),
        ("timeout", 0),
        ("timeout", float("inf")),
    ],
)
def test_settings_are_checked(field, value):
    with pytest.raises(UserError, match=field):
        BatcherConfig(**{field: value})
