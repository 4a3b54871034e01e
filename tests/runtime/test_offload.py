from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Queue

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from pacsd.model.errors import Busy
from pacsd.runtime.offload import Offload


class Loop:
    """Stands in for the reactor: what threads hand over runs when the test says so."""

    def __init__(self) -> None:
        self.calls: Queue[Callable[[], None]] = Queue()
        self.n_wakes = 0

    def wake(self, call: Callable[[], None]) -> None:
        self.n_wakes += 1
        self.calls.put(call)

    def turn(self) -> None:
        self.calls.get(timeout=5)()

    def result(self, deferred: Deferred):
        while not deferred.called:
            self.turn()
        out: list = []
        deferred.addBoth(out.append)
        return out[0]


@pytest.fixture
def loop():
    return Loop()


def test_work_runs_in_another_thread_and_its_value_comes_back(loop):
    pool = Offload("t", 1, 1, wake=loop.wake)
    name = loop.result(pool.run(lambda: threading.current_thread().name))
    assert name == "t-0"
    assert pool.n_pending == 0


def test_arguments_are_passed_on(loop):
    pool = Offload("t", 1, 1, wake=loop.wake)
    assert loop.result(pool.run(int, "ff", base=16)) == 255


def test_a_failure_comes_back_as_itself(loop):
    pool = Offload("t", 1, 1, wake=loop.wake)
    failure = loop.result(pool.run(int, "x"))
    assert failure.check(ValueError)


def test_a_full_pool_refuses_at_once_and_takes_work_again_later(loop):
    pool = Offload("t", 1, 1, wake=loop.wake)
    gate = threading.Event()
    first, second, third = pool.run(gate.wait, 5), pool.run(str), pool.run(str)
    refused: list = []
    third.addErrback(refused.append)
    assert refused[0].check(Busy)
    gate.set()
    assert loop.result(first) is True
    assert loop.result(second) == ""
    assert loop.result(pool.run(str, 1)) == "1"


def test_results_that_finish_together_wake_the_reactor_once(loop):
    pool = Offload("t", 1, 10, wake=loop.wake)
    results = [pool.run(str, number) for number in range(10)]
    end = pool.run(threading.Event().wait, 0.05)
    assert loop.result(results[9]) == "9"
    assert loop.result(end) is False
    assert loop.n_wakes < 11


def test_a_job_cancelled_before_its_turn_is_not_run(loop):
    pool = Offload("t", 1, 2, wake=loop.wake)
    gate, ran = threading.Event(), threading.Event()
    first, second = pool.run(gate.wait, 5), pool.run(ran.set)
    second.addErrback(lambda failure: failure.trap(CancelledError))
    second.cancel()
    gate.set()
    loop.result(first)
    while pool.n_pending:
        loop.turn()
    assert not ran.is_set()


def test_stop_waits_for_accepted_work_and_refuses_new(loop):
    pool, clock = Offload("t", 1, 2, wake=loop.wake), Clock()
    gate = threading.Event()
    first = pool.run(gate.wait, 5)
    stopping = Deferred.fromCoroutine(pool.stop(10, clock.callLater))
    refused: list = []
    pool.run(str).addErrback(refused.append)
    assert refused[0].check(Busy)
    gate.set()
    assert loop.result(first) is True
    assert loop.result(stopping) == 0
    assert clock.getDelayedCalls() == []


def test_stop_abandons_work_that_overruns_the_limit(loop):
    pool, clock = Offload("t", 1, 2, wake=loop.wake), Clock()
    gate = threading.Event()
    pool.run(gate.wait, 5)
    stopping = Deferred.fromCoroutine(pool.stop(10, clock.callLater))
    clock.advance(10)
    assert loop.result(stopping) == 1
    gate.set()
