"""Large objects, several at once: memory doesn't follow their size."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import checker
from tests.crash.made import make
from tests.crash.sender import SUCCESS, Scu
from tests.faults.processes import rss_bytes, watch_peak
from tests.live import Site

pytestmark = [pytest.mark.crash, pytest.mark.slow]

N_ASSOCIATIONS = 10
PIECE = bytes(range(256)) * 4096
N_PIECES = 64
MOST_GROWTH_BYTES = 60 << 20


def pieces(number: int) -> Iterator[bytes]:
    """A data set of 64 MiB that begins like any other."""
    head = make(800, number, 0).data[:-12]
    yield head + b"\xe0\x7f\x10\x00OW\0\0" + (N_PIECES * len(PIECE)).to_bytes(4, "little")
    for _ in range(N_PIECES):
        yield PIECE


@pytest.mark.parametrize("workers", [0, 2])
def test_ten_objects_of_64_mib_at_once_take_little_memory(tmp_path: Path, workers: int) -> None:
    with Site(tmp_path / "site", workers=workers) as site:
        with Scu((site.host, site.dicom_port)) as scu:
            assert scu.store(make(801, 0, 500_000)) == SUCCESS
            scu.release()
        idle = rss_bytes(site.pid)
        statuses = []

        def send(number: int) -> None:
            with Scu((site.host, site.dicom_port), calling=f"LARGE{number}", timeout_s=60.0) as scu:
                statuses.append(scu.store_pieces(make(800, number, 0).uid, pieces(number)))
                scu.release()

        threads = [threading.Thread(target=send, args=(number,)) for number in range(N_ASSOCIATIONS)]
        with watch_peak(site.pid) as peak:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert statuses == [SUCCESS] * N_ASSOCIATIONS
        growth = peak.n_bytes - idle
        assert growth < MOST_GROWTH_BYTES, f"{growth / 2**20:.0f} MiB above the idle state"
        assert checker.index_of(site).rows("SELECT count(*) FROM instance") == [(N_ASSOCIATIONS + 1,)]
        checker.wait_until_no_parts(site)
