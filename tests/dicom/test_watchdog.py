"""When a quiet peer is given up, by a clock that the test turns."""

from __future__ import annotations

from twisted.internet.task import Clock

from pacsd.dicom.watchdog import Patience, Watchdog


class Seen:
    is_listening = True
    is_inside_message = False
    is_busy = False
    n_queued_bytes = 0


class Case:
    def __init__(self, idle_s: float = 100.0, limit_s: float = 20.0) -> None:
        self.clock, self.seen, self.given_up = Clock(), Seen(), []
        self.watchdog = Watchdog(
            self.seen, Patience(idle_s, limit_s, 512), self.clock, lambda event, cause: self.given_up.append(event)
        )
        self.watchdog.start()

    def wait(self, seconds: float) -> list[str]:
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
        return self.given_up


def test_an_idle_peer_is_given_up_only_while_nothing_is_owed() -> None:
    case = Case()
    case.seen.is_busy = True
    assert case.wait(300) == []
    case.seen.is_busy = False
    assert "peer-idle" in case.wait(20)


def test_a_peer_that_drips_within_a_message_is_given_up() -> None:
    case = Case()
    case.seen.is_inside_message = True
    for _ in range(25):
        case.watchdog.heard(10)
        case.wait(1)
    assert case.given_up[0] == "peer-stuck"


def test_a_slow_link_above_the_least_rate_is_not() -> None:
    case = Case()
    case.seen.is_inside_message = True
    for _ in range(100):
        case.watchdog.heard(600)
        case.wait(1)
    assert case.given_up == []


def test_a_peer_whom_we_paused_is_not_blamed() -> None:
    case = Case()
    case.seen.is_inside_message, case.seen.is_listening = True, False
    assert case.wait(300) == []


def test_a_peer_that_takes_nothing_is_given_up_and_a_slow_one_is_not() -> None:
    case = Case()
    case.seen.is_busy = True
    for left in range(100, 0, -1):
        case.seen.n_queued_bytes = left * 1000
        case.wait(10)
    assert case.given_up == []
    assert case.wait(60)[0] == "peer-takes-nothing"


def test_nothing_is_looked_at_after_the_stop() -> None:
    case = Case()
    case.watchdog.stop()
    assert case.wait(500) == []
    assert case.clock.getDelayedCalls() == []
