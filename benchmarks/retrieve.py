"""C-GET and C-MOVE of one CT study: how many images a second come back.

The study was just stored, so every server reads it from the page cache. What arrives is thrown away, so that no
client's disk is measured; before that each server must once give back every data set bit by bit.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydicom.dataset import Dataset

from benchmarks import servers
from benchmarks.clients import getscu, storescu
from benchmarks.data import CT, Scanner, Series
from benchmarks.results import Comparison, Sample
from benchmarks.servers import MOVE_DESTINATION, NODELAY, Server, Setup
from benchmarks.wire import STUDY_ROOT_MOVE, Association, encode

N_IMAGES = 250
LEAST, AIM = 1.0, 1.5
RUNS_A_ROUND = 3
_COMPLETED = re.compile(r"Number of Completed Suboperations +: (\d+)")
_PIXEL_DATA = b"\xe0\x7f\x10\x00OW\0\0"


class NotGivenBack(Exception):
    """A server answered with less, or with other bytes, than it had received."""


def measure(
    folder: Path, setup: Setup, n_rounds: int, *, is_quick: bool, say: Callable[[str], None]
) -> list[Comparison]:
    """Images/s of both, the start of getscu's process taken off; C-MOVE is asked for by a client that runs already."""
    sent = Scanner(folder / "sent", seed=2).series(CT, N_IMAGES // 10 if is_quick else N_IMAGES)
    setup = replace(setup, move_port=servers.free_port(), environment=NODELAY)
    get = getscu(sent.study_uid)
    start_s = get.start_cost_s()
    n_images = len(sent.sop_instance_uids)
    about = f"{n_images} images, {sent.n_bytes / 1e6:.0f} MB"
    shown = get.shown("TITLE").replace(sent.study_uid, "UID")
    compared = (
        Comparison(f"C-GET of {n_images} CT", "images/s", LEAST, AIM, [shown],
                   f"{about}; start of the receiver: {start_s * 1000:.0f} ms"),
        Comparison(f"C-MOVE of {n_images} CT", "images/s", LEAST, AIM,
                   ["TCP_NODELAY=1 storescp --fork -pdu 131072 --ignore PORT"],
                   about),
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(servers.pacsd(folder / "pacsd", setup)),
            stack.enter_context(servers.orthanc(folder / "orthanc", setup)),
        ]
        for server in running:
            storescu([sent.folder], is_nodelay=True).run(server.ae_title, server.port)
            _prove(sent, server, folder / "kept", setup.move_port)
        stack.enter_context(servers.destination(folder / "destination", setup.move_port, is_keeping=False))
        for number in range(n_rounds * RUNS_A_ROUND):
            for comparison, work in zip(compared, (_get, _move), strict=True):
                for server in running if number % 2 == 0 else running[::-1]:
                    seconds = work(sent, server)
                    net = seconds - start_s if work is _get else seconds
                    comparison.add(server.name, server.command, Sample(n_images / net, n_images / seconds))
                    say(f"run {number + 1}: {comparison.title}: {server.name} {n_images / net:.0f}/s")
    return list(compared)


def _get(sent: Series, server: Server, keep_in: Path | None = None) -> float:
    seconds, (text,) = getscu(sent.study_uid, keep_in=keep_in).run(server.ae_title, server.port)
    counted = _COMPLETED.search(text)
    _check(server, int(counted[1]) if counted else 0, sent)
    return seconds


def _move(sent: Series, server: Server) -> float:
    wanted = Dataset()
    wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", sent.study_uid
    identifier = encode(wanted)
    begun = time.perf_counter()
    with Association(server.port, server.ae_title, STUDY_ROOT_MOVE) as association:
        response = association.move(identifier, MOVE_DESTINATION)
        seconds = time.perf_counter() - begun
    _check(server, response.n_completed, sent)
    return seconds


def _prove(sent: Series, server: Server, folder: Path, move_port: int) -> None:
    """Every object comes back by both ways with the pixel data that was sent."""
    with servers.destination(folder, move_port, is_keeping=True):
        _move(sent, server)
        _compare(sent, server, folder)
    folder.mkdir()
    _get(sent, server, folder)
    _compare(sent, server, folder)


def _compare(sent: Series, server: Server, folder: Path) -> None:
    """Check what came back and remove it."""
    pixels = {}
    for path in folder.iterdir():
        uid = path.name.split(".", 1)[1] if path.name.startswith("CT.") else path.name
        pixels[uid] = path.read_bytes().partition(_PIXEL_DATA)[2]
        path.unlink()
    for number, uid in enumerate(sent.sop_instance_uids, 1):
        if pixels.get(uid) != (sent.folder / f"{number:05d}.dcm").read_bytes().partition(_PIXEL_DATA)[2]:
            raise NotGivenBack(f"{server.name}: object {number} came back different or not at all")
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()


def _check(server: Server, n_completed: int, sent: Series) -> None:
    if n_completed != len(sent.sop_instance_uids):
        raise NotGivenBack(f"{server.name}: {n_completed} of {len(sent.sop_instance_uids)} images")
