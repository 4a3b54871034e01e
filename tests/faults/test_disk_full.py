"""A real file system that is full: the sender is told, nothing half-written stays, service resumes by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacsd.storage.pool import Pool
from tests.crash import checker
from tests.crash.made import Made, make
from tests.crash.sender import OUT_OF_RESOURCES, SUCCESS, Account, Scu, Sender, join_all, start_all
from tests.faults.disks import fill, small_disk
from tests.live import Site, wait_until

pytestmark = [pytest.mark.crash, pytest.mark.root, pytest.mark.slow]

OBJECT_BYTES = 600_000
RESUMES_WITHIN_S = 20.0


def pool(name: str, path: Path) -> dict[str, object]:
    """A pool that may be filled to the last byte."""
    return {"name": name, "path": str(path), "high_water_percent": 100.0, "low_water_percent": 100.0}


@pytest.fixture
def small_site(tmp_path: Path) -> Iterator[Site]:
    """A site whose only pool is a disk of 48 MiB; not started."""
    state = tmp_path / "site"
    with small_disk(state / "images", 48):
        site = Site(state, extra={"storage": {"pools": [pool("images", state / "images")]}})
        try:
            yield site
        finally:
            site.kill()


def store_until_success(site: Site, account: Account, item: Made) -> None:
    def stored() -> bool:
        with Scu((site.host, site.dicom_port)) as scu:
            status = scu.store(item)
            account.answered(item, status)
            return status == SUCCESS

    wait_until(stored, RESUMES_WITHIN_S, "a success after there was room again")


def test_a_full_disk_is_told_to_the_sender_and_service_resumes_when_there_is_room(small_site: Site) -> None:
    site, account = small_site, Account()
    site.start()
    filler = fill(site.pool, 10 << 20)
    items = [[make(3, number * 100 + at, OBJECT_BYTES) for at in range(12)] for number in range(3)]
    senders = [
        Sender((site.host, site.dicom_port), mine, account, threading.Event(), calling=f"CT{number}")
        for number, mine in enumerate(items)
    ]
    start_all(senders)
    join_all(senders)
    assert set(account.statuses) == {SUCCESS, OUT_OF_RESOURCES}
    assert account.n_lost == 0
    assert 8 <= account.statuses[SUCCESS] <= 18
    checker.wait_until_no_parts(site)
    checker.check(site, account)
    filler.unlink()
    for item in account.unanswered.copy().values():
        store_until_success(site, account, item)
    assert len(account.acknowledged) == sum(map(len, items))
    checker.check(site, account)


def test_an_object_larger_than_what_is_left_leaves_nothing_behind(small_site: Site) -> None:
    site, account = small_site, Account()
    site.start()
    small = make(4, 1, 1000)
    with Scu((site.host, site.dicom_port)) as scu:
        account.answered(small, scu.store(small))
        assert scu.store_pieces("1.2.3.4", [bytes(1 << 20)] * 90) == OUT_OF_RESOURCES
        assert scu.echo() == SUCCESS
        scu.release()
    checker.wait_until_no_parts(site)
    after = make(4, 2, OBJECT_BYTES)
    store_until_success(site, account, after)
    checker.check(site, account)
    assert checker.index_of(site).n_rows("1.2.3.4") == 0


def test_with_a_second_pool_a_full_disk_is_not_noticed_by_the_sender(small_site: Site, tmp_path: Path) -> None:
    site, account = small_site, Account()
    second = tmp_path / "second"
    Pool("second", second).create()
    site.configure({"storage": {"pools": [pool("images", site.pool), pool("second", second)]}})
    site.start()
    fill(site.pool, 6 << 20)
    with Scu((site.host, site.dicom_port)) as scu:
        for number in range(16):
            item = make(5, number, OBJECT_BYTES)
            account.answered(item, scu.store(item))
        large = make(5, 100, 40 << 20)
        account.answered(large, scu.store(large))
        scu.release()
    assert account.statuses == {SUCCESS: 17}
    pools = {"images": site.pool, "second": second}
    assert all(list((folder / "objects").rglob("*.dcm")) for folder in pools.values())
    checker.check(site, account, pools=pools)
