from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pacsd.runtime.services import Role, Step


class Recorder:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def part(self, name: str, *, bad_start: bool = False, bad_stop: bool = False) -> Step:
        def start() -> None:
            if bad_start:
                raise OSError(98, "Address already in use")
            self.seen.append(f"+{name}")

        def stop(limit_s: float) -> None:
            self.seen.append(f"-{name}")
            if bad_stop:
                raise RuntimeError

        return Step(name, start, stop)


def outcome(coroutine) -> list:
    out: list = []
    Deferred.fromCoroutine(coroutine).addBoth(out.append)
    return out


@pytest.fixture
def recorder():
    return Recorder()


def test_parts_start_in_order_and_stop_in_reverse(recorder):
    role = Role("r", [recorder.part("a"), recorder.part("b")])
    assert outcome(role.start()) == [None]
    assert role.ready
    assert outcome(role.stop(1)) == [None]
    assert recorder.seen == ["+a", "+b", "-b", "-a"]
    assert not role.ready


def test_a_part_that_cannot_start_undoes_those_before_it_and_tells_the_cause(recorder):
    role = Role("r", [recorder.part("a"), recorder.part("b", bad_start=True), recorder.part("c")])
    (failure,) = outcome(role.start())
    assert failure.check(OSError)
    assert recorder.seen == ["+a", "-a"]
    assert not role.ready


def test_a_part_that_fails_to_stop_holds_up_nobody(recorder):
    role = Role("r", [recorder.part("a"), recorder.part("b", bad_stop=True)])
    outcome(role.start())
    assert outcome(role.stop(1)) == [None]
    assert recorder.seen[-1] == "-a"


def test_a_part_that_overruns_the_limit_is_abandoned(recorder):
    clock = Clock()
    stuck = Step("stuck", None, lambda _: Deferred())
    role = Role("r", [recorder.part("a"), stuck], call_later=clock.callLater, now_s=clock.seconds)
    outcome(role.start())
    stopping = outcome(role.stop(5))
    clock.advance(5)
    assert stopping == []
    clock.advance(1)
    assert stopping == [None]
    assert recorder.seen[-1] == "-a"


def test_start_waits_for_a_part_that_takes_time():
    wait: Deferred[None] = Deferred()
    role = Role("r", [Step("slow", lambda: wait)])
    starting = outcome(role.start())
    assert not role.ready
    wait.callback(None)
    assert starting == [None]
    assert role.ready


def test_a_role_is_a_part_of_another(recorder):
    whole = Role("site", [Role("r", [recorder.part("a")]), recorder.part("b")])
    outcome(whole.start())
    outcome(whole.stop(1))
    assert recorder.seen == ["+a", "+b", "-b", "-a"]
