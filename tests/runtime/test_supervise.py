"""The supervisor with real processes: a driver runs a reactor, its workers answer with their process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pacsd.runtime.supervise import Workers, end_with_supervisor

DRIVER = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from pacsd.runtime.listen import open_listening
from pacsd.runtime.supervise import Workers

port, worker = int(sys.argv[1]), sys.argv[2]
command = [sys.executable, worker]
workers = Workers("dicom", [command, command], lambda: open_listening("127.0.0.1", port), reactor)

def started(_):
    print("ready", flush=True)

def failed(failure):
    print("failed", failure.getErrorMessage(), flush=True)
    reactor.stop()

reactor.addSystemEventTrigger("before", "shutdown", lambda: ensureDeferred(workers.stop(5)))
reactor.callWhenRunning(lambda: ensureDeferred(workers.start()).addCallbacks(started, failed))
reactor.run()
"""

WORKER = """
import os, socket
from pacsd.runtime.listen import inherited_fd
from pacsd.runtime.notify import tell_supervisor
from pacsd.runtime.supervise import end_with_supervisor

end_with_supervisor()
server = socket.socket(fileno=inherited_fd("dicom"))
server.setblocking(True)
tell_supervisor()
while True:
    client, _ = server.accept()
    client.sendall(str(os.getpid()).encode())
    client.close()
"""


@pytest.fixture
def driver(tmp_path, free_port):
    """Start a supervisor over a worker's source; gives the process and the port."""
    running: list[subprocess.Popen[str]] = []

    def start(worker: str = WORKER) -> tuple[subprocess.Popen[str], int]:
        (tmp_path / "driver.py").write_text(DRIVER)
        (tmp_path / "worker.py").write_text(worker)
        command = [sys.executable, tmp_path / "driver.py", str(free_port), str(tmp_path / "worker.py")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        running.append(process)
        return process, free_port

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def pid_that_answers(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        return int(client.recv(20))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_until(condition, limit_s: float = 10.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def pids_serving(port: int, count: int) -> set[int]:
    seen: set[int] = set()
    wait_until(lambda: seen.add(pid_that_answers(port)) or len(seen) >= count)
    return seen


def test_a_killed_worker_is_replaced_while_no_connection_is_refused(driver):
    process, port = driver()
    assert process.stdout.readline() == "ready\n"
    first = pids_serving(port, 2)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(is_running(pid) for pid in first))
    # Nobody is there to accept for a moment: this waits in the backlog.
    assert pid_that_answers(port) not in first
    assert first.isdisjoint(pids_serving(port, 2))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_supervisor(driver, how):
    process, port = driver()
    assert process.stdout.readline() == "ready\n"
    workers = pids_serving(port, 2)
    process.send_signal(how)
    process.wait(10)
    wait_until(lambda: not any(is_running(pid) for pid in workers))


def test_a_worker_that_cannot_start_fails_the_start_with_its_cause(driver):
    process, _ = driver("raise SystemExit(78)")
    assert process.stdout.readline().startswith("failed dicom-")
    assert process.wait(10) == 0


class FakeReactor(Clock):
    """Spawns nothing, remembers the protocols."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list = []

    def spawnProcess(self, protocol, *_, **__):
        self.spawned.append(protocol)
        return FakeProcess()


class FakeProcess:
    pid = 1

    def signalProcess(self, name: str) -> None:
        """Ignore it, as a stuck process would."""


KILLED = Failure(ProcessTerminated(None, signal.SIGKILL, signal.SIGKILL))


def test_a_worker_that_keeps_dying_is_restarted_ever_more_slowly_up_to_a_limit():
    reactor = FakeReactor()
    workers = Workers("dicom", [["x"]], socket.socket, reactor)
    starting = Deferred.fromCoroutine(workers.start())
    reactor.spawned[0].childDataReceived(3, b"ready\n")
    assert starting.called
    delays = []
    for _ in range(10):
        reactor.spawned[-1].processExited(KILLED)
        (call,) = reactor.getDelayedCalls()
        delays.append(call.getTime() - reactor.seconds())
        reactor.advance(delays[-1])
    assert delays[0] < 0.2
    assert delays == sorted(delays)
    assert delays[-1] == 15.0
    reactor.advance(31)
    reactor.spawned[-1].processExited(KILLED)
    (call,) = reactor.getDelayedCalls()
    assert call.getTime() - reactor.seconds() < 0.2, "one that lived for long starts over at once"
    call.cancel()
    workers._socket.close()


def test_workers_that_are_never_ready_fail_the_start():
    reactor = FakeReactor()
    workers = Workers("dicom", [["x"]], socket.socket, reactor, ready_limit_s=60)
    out: list = []
    Deferred.fromCoroutine(workers.start()).addErrback(out.append)
    reactor.advance(60)
    reactor.spawned[0].processExited(KILLED)
    assert out[0].check(ChildProcessError)


def test_a_worker_whose_supervisor_is_gone_does_not_begin():
    code = "from pacsd.runtime.supervise import end_with_supervisor as e; e({'PACSD_SUPERVISOR': '1'})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == os.EX_TEMPFAIL
    assert end_with_supervisor({}) is None
