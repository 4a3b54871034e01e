"""Each step of an image's way has its kill point: what is left is all of the object or nothing, and a resend is one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.crash import checker
from tests.crash.faulty import FaultySite
from tests.crash.made import Made, make
from tests.crash.sender import SUCCESS, Account, Lost, Scu
from tests.live import wait_until

pytestmark = pytest.mark.crash

POINTS = (
    "opened",
    "half-written",
    "complete",
    "renamed",
    "fdatasync",
    "synced",
    "directory-synced",
    "transaction-open",
    "durable-not-committed",
    "committed",
    "not-answered",
    "answered",
)
LOG_POINTS = ("log", "logged", "renamed", "log-sync", "log-synced", "durable-not-committed", "not-answered")
"""Of small objects, which become durable by the seal log."""
HAS_ROW = frozenset({"committed", "not-answered", "answered"})
HAS_NO_FILE = frozenset({"opened", "half-written", "complete"})
_numbers = itertools.count(1000)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultySite]:
    site = FaultySite(tmp_path_factory.mktemp("points") / "site")
    yield site
    site.kill()


@pytest.fixture(scope="module")
def account() -> Account:
    return Account()


def revive(site: FaultySite) -> None:
    if not site.is_running:
        site.kill()
        site.start()


def next_object(n_bytes: int) -> Made:
    return make(7, next(_numbers), n_bytes)


def send_until_death(site: FaultySite, account: Account, n_bytes: int) -> tuple[Made, bool]:
    """Send objects one after another until the process dies; the last one, and whether it was acknowledged."""
    with Scu((site.host, site.dicom_port)) as scu:
        for _ in range(200):
            item = next_object(n_bytes)
            try:
                account.answered(item, scu.store(item))
            except Lost:
                return item, False
            if not site.is_armed:
                wait_until(lambda: not site.is_running, what="the death of the process")
                return item, True
    pytest.fail("the point was never passed")


@pytest.mark.parametrize("passing", [1, 3])
@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_at_this_point_leaves_all_of_an_object_or_nothing(site, account, point, passing):
    revive(site)
    site.die_at(point, passing)
    prove_death(site, account, point, 300_000)


@pytest.mark.parametrize("point", LOG_POINTS)
def test_a_process_killed_at_this_point_of_the_seal_log_leaves_all_of_an_object_or_nothing(site, account, point):
    revive(site)
    with Scu((site.host, site.dicom_port)) as scu:

        def send() -> None:
            item = next_object(5000)
            account.answered(item, scu.store(item))

        site.wait_for_log(send)
        site.die_at(point)
    prove_death(site, account, point, 5000)


def prove_death(site: FaultySite, account: Account, point: str, n_bytes: int) -> None:
    """Send until the process has died, and prove what is left, and that the object can be sent again."""
    item, acknowledged = send_until_death(site, account, n_bytes)
    wait_until(lambda: not site.is_running, what="the death of the process")
    assert point == "answered" or not acknowledged
    revive(site)
    index = checker.index_of(site)
    n_rows = index.n_rows(item.uid)
    assert n_rows <= 1
    if point in HAS_ROW:
        assert n_rows == 1
    if point in HAS_NO_FILE:
        assert n_rows == 0
    checker.check_files(index, {"images": site.pool})
    with Scu((site.host, site.dicom_port)) as scu:
        account.answered(item, scu.store(item))
        assert account.acknowledged[item.uid] == item.digest
        assert scu.store(item) == SUCCESS
        scu.release()
    assert index.n_rows(item.uid) == 1
    checker.check_files(index, {"images": site.pool})


def test_after_all_these_deaths_everything_acknowledged_is_found_and_given_back(site, account):
    revive(site)
    assert len(account.acknowledged) >= len(POINTS)
    checker.check(site, account)
