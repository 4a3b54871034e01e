from __future__ import annotations

import os
import socket

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pacsd.runtime.notify import READY_FD, Watchdog, notify, tell_supervisor


@pytest.fixture(params=["path", "abstract"])
def systemd(request, short_tmp):
    """Give a socket like systemd's, and the environment that names it."""
    name = str(short_tmp / "n") if request.param == "path" else f"@pacsd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0"))
        listening.settimeout(2)
        yield listening, {"NOTIFY_SOCKET": name}


def test_states_reach_systemd(systemd):
    listening, environment = systemd
    assert notify("READY=1", "STATUS=serving", environment=environment)
    assert listening.recv(100) == b"READY=1\nSTATUS=serving"


def test_without_systemd_nobody_is_told(short_tmp):
    assert not notify("READY=1", environment={})
    assert not notify("READY=1", environment={"NOTIFY_SOCKET": str(short_tmp / "gone")})


def test_the_watchdog_is_fed_three_times_a_period_until_it_stops(systemd):
    listening, environment = systemd
    clock = Clock()
    watchdog = Watchdog(clock.callLater, {**environment, "WATCHDOG_USEC": "3000000"})
    Deferred.fromCoroutine(watchdog.start())
    clock.pump([1, 1])
    assert [listening.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    Deferred.fromCoroutine(watchdog.stop(1))
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}])
def test_a_watchdog_nobody_asked_for_does_nothing(environment):
    clock = Clock()
    Deferred.fromCoroutine(Watchdog(clock.callLater, environment).start())
    assert clock.getDelayedCalls() == []


def test_a_worker_tells_its_supervisor_on_the_descriptor_it_was_given():
    reading, writing = os.pipe()
    try:
        assert tell_supervisor({READY_FD: str(writing)})
        assert os.read(reading, 10) == b"ready\n"
    finally:
        os.close(reading)
        os.close(writing)
    assert not tell_supervisor({})
