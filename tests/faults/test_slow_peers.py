"""Peers that are slow, vanish, read nothing or just sit there: others are served, and what they held is freed."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pacsd.dicom.wire import dimse
from tests.crash import checker
from tests.crash.made import make
from tests.crash.sender import STORE_CONTEXT, SUCCESS, Account, Scu
from tests.faults import hostile
from tests.faults.processes import n_held, rss_bytes
from tests.faults.receivers import NeverReading
from tests.live import Site, wait_until

pytestmark = [pytest.mark.crash, pytest.mark.slow]

ARTIM_S = 3
TIMES = {"artim_s": ARTIM_S, "dimse_timeout_s": 2, "idle_timeout_s": 4, "max_associations": 260}
FREED_WITHIN_S = 12.0
SERVED_WITHIN_S = 2.0
N_IDLE = 200


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("slow") / "site", extra={"dicom": TIMES}) as running:
        yield running


def address(site: Site) -> tuple[str, int]:
    return site.host, site.dicom_port


_numbers = iter(range(10**6))


def serve_others(site: Site, seconds: float) -> float:
    """Store and echo like a good peer for a while; the longest that one request took."""
    end = time.monotonic() + seconds
    worst = 0.0
    while time.monotonic() < end:
        start = time.monotonic()
        with Scu(address(site), calling="GOOD", timeout_s=10.0) as scu:
            assert scu.echo() == SUCCESS
            assert scu.store(make(700, next(_numbers), 300_000)) == SUCCESS
            scu.release()
        worst = max(worst, time.monotonic() - start)
        time.sleep(0.05)
    return worst


@contextmanager
def nothing_stays(site: Site) -> Iterator[None]:
    """Afterwards the process has no more connections and files than before, and no half-written file is left."""
    before = held_when_settled(site)
    yield
    wait_until(lambda: n_held(site.pid) <= before + 2, FREED_WITHIN_S, "the release of the connections")
    checker.wait_until_no_parts(site)


def held_when_settled(site: Site) -> int:
    serve_others(site, 0.3)
    with Scu(address(site)) as scu:
        scu.find("STUDY", StudyInstanceUID="")
        scu.release()
    time.sleep(0.3)
    return n_held(site.pid)


# -- slow senders ------------------------------------------------------------------------------------------------------


STORE = hostile.store("1.2.701.1", make(701, 1, 5000).data)
COMMAND_BYTES = struct.unpack(">L", STORE[2:6])[0] + 6
PHASES = {
    "before the association": (b"", hostile.REQUEST),
    "within the association request": (hostile.REQUEST[:100], hostile.REQUEST[100:]),
    "within a PDU's header": (hostile.REQUEST + STORE[:3], STORE[3:]),
    "within the command": (hostile.REQUEST + STORE[:60], STORE[60:]),
    "between command and data set": (hostile.REQUEST + STORE[:COMMAND_BYTES], STORE[COMMAND_BYTES:]),
    "within the data set": (hostile.REQUEST + STORE[: COMMAND_BYTES + 2000], STORE[COMMAND_BYTES + 2000 :]),
}


def drip(connection: socket.socket, data: bytes, ended: Callable[[], None]) -> None:
    """Send one byte a second until the other side has had enough."""
    connection.settimeout(1.0)
    for byte in data:
        with contextlib.suppress(TimeoutError):
            try:
                while connection.recv(65536):
                    pass
                break
            except ConnectionError:
                break
        try:
            connection.send(bytes([byte]))
        except OSError:
            break
    else:
        return
    ended()


def test_peers_that_send_a_byte_a_second_are_cut_at_each_phase_and_slow_down_nobody(site: Site) -> None:
    cut: list[str] = []
    connections = []
    with nothing_stays(site):
        for phase, (at_once, slowly) in PHASES.items():
            connection = socket.create_connection(address(site))
            connections.append(connection)
            connection.sendall(at_once)
            threading.Thread(target=drip, args=(connection, slowly, lambda p=phase: cut.append(p)), daemon=True).start()
        assert serve_others(site, 4.0) < SERVED_WITHIN_S
        wait_until(lambda: len(cut) == len(PHASES), FREED_WITHIN_S, "the end of every slow peer")
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("way", ["reset", "closed", "silent"])
def test_a_peer_that_vanishes_within_an_object_leaves_nothing(site: Site, way: str) -> None:
    with nothing_stays(site):
        gone = []
        for number in range(10):
            scu = Scu(address(site), calling=f"GONE{number}")
            scu.send_store_command(f"1.2.702.{number}")
            scu.send_data(os.urandom(3_000_000))
            if way == "silent":
                gone.append(scu)
            else:
                scu.close(reset=way == "reset")
        assert serve_others(site, 1.0) < SERVED_WITHIN_S
        wait_until(lambda: not list((site.pool / "objects").rglob(".*")), FREED_WITHIN_S, "the end of half an object")
        for scu in gone:
            scu.close()
    assert checker.index_of(site).rows("SELECT 1 FROM instance WHERE sop_instance_uid LIKE '1.2.702.%'") == []


# -- receivers that take nothing ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large_study(site: Site) -> str:
    """A study of 60 MB; its UID."""
    account = Account()
    with Scu(address(site)) as scu:
        for number in range(30):
            item = make(710, number, 2_000_000, n_studies=1)
            account.answered(item, scu.store(item))
        scu.release()
    assert len(account.acknowledged) == 30
    return item.study


def test_a_requester_of_c_get_that_never_reads_costs_little_and_is_cut(site: Site, large_study: str) -> None:
    with nothing_stays(site):
        before = rss_bytes(site.pid)
        stuck = []
        for number in range(5):
            scu = Scu(address(site), calling=f"STUCK{number}")
            scu.send_get("STUDY", StudyInstanceUID=large_study)
            stuck.append(scu)
        assert serve_others(site, 2.0) < SERVED_WITHIN_S
        assert rss_bytes(site.pid) - before < 40 << 20
        wait_until(lambda: open_associations(site) == 0, FREED_WITHIN_S, "the end of those that read nothing")
        for scu in stuck:
            scu.close()


def test_a_destination_of_c_move_that_never_reads_fails_the_move_and_harms_nobody(site: Site, large_study: str) -> None:
    with NeverReading() as receiver, nothing_stays(site):
        site.add_peer("NEVER", receiver.port)
        before = rss_bytes(site.pid)
        with Scu(address(site), calling="MOVER", timeout_s=20.0) as scu:
            scu.send_move("NEVER", "STUDY", StudyInstanceUID=large_study)
            assert serve_others(site, 2.0) < SERVED_WITHIN_S
            assert rss_bytes(site.pid) - before < 30 << 20
            command, _ = scu.answer()
            while command.Status == 0xFF00:
                command, _ = scu.answer()
            assert command.Status in {0xA702, 0xB000}
            assert command.NumberOfFailedSuboperations == 30
            scu.release()
        for connection in receiver.accepted:
            connection.close()


def open_associations(site: Site) -> int:
    return int(sum(site.metrics("pacsd_dicom_associations").values()))


# -- many that do nothing ----------------------------------------------------------------------------------------------


def test_two_hundred_idle_connections_disturb_nobody_and_are_closed(site: Site) -> None:
    with nothing_stays(site):
        idle = [socket.create_connection(address(site)) for _ in range(N_IDLE)]
        assert serve_others(site, 1.5) < SERVED_WITHIN_S
        for connection in idle:
            connection.settimeout(FREED_WITHIN_S)
            assert connection.recv(1) == b""
            connection.close()


def test_two_hundred_idle_associations_disturb_nobody_and_are_ended(site: Site) -> None:
    with nothing_stays(site):
        idle = [Scu(address(site), calling=f"IDLE{number}") for number in range(N_IDLE)]
        assert open_associations(site) >= N_IDLE
        assert serve_others(site, 1.5) < SERVED_WITHIN_S
        wait_until(lambda: open_associations(site) == 0, FREED_WITHIN_S, "the end of idle associations")
        for scu in idle:
            scu.close()


def test_a_message_that_comes_slowly_but_steadily_is_waited_for(site: Site) -> None:
    item = make(720, 1, 12_000)
    with Scu(address(site), calling="MODEM", timeout_s=10.0) as scu:
        scu.send_store_command(item.uid)
        for at in range(0, len(item.data), 1200):
            scu.send_data(item.data[at : at + 1200])
            time.sleep(0.4)
        scu.send_data(b"", is_last=True, context=STORE_CONTEXT)
        answer, _ = scu.answer()
        assert (answer.CommandField, answer.Status) == (dimse.C_STORE_RSP, SUCCESS)
        scu.release()
