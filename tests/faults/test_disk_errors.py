"""Calls to the disk that fail: another pool takes the object, or the sender is told, and nothing half-written stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacsd.storage.pool import Pool
from tests.crash import checker
from tests.crash.faulty import FaultySite
from tests.crash.made import make
from tests.crash.sender import OUT_OF_RESOURCES, SUCCESS, Account, Scu
from tests.live import wait_until

pytestmark = pytest.mark.crash

CALLS = ("open", "write", "fdatasync", "fsync")


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", CALLS)
def test_an_error_of_one_disk_hands_the_object_to_the_next_pool(tmp_path: Path, call: str, error: str) -> None:
    second = tmp_path / "second"
    Pool("second", second).create()
    site, account = FaultySite(tmp_path / "site"), Account()
    pools = {"images": site.pool, "second": second}
    site.configure({"storage": {"pools": [{"name": name, "path": str(path)} for name, path in pools.items()]}})
    with site, Scu((site.host, site.dicom_port)) as scu:
        for number in range(6):
            if number == 2:
                site.fail_at(call, error)
            item = make(11, number, 400_000)
            account.answered(item, scu.store(item))
        scu.release()
        assert not site.is_armed, "the error never happened"
        assert account.statuses == {SUCCESS: 6}
        assert list((second / "objects").rglob("*.dcm"))
        checker.check(site, account, pools=pools)


@pytest.mark.slow
def test_an_error_of_the_only_disk_is_told_to_the_sender_and_service_resumes_by_itself(tmp_path: Path) -> None:
    account = Account()
    with FaultySite(tmp_path / "site") as site, Scu((site.host, site.dicom_port)) as scu:
        before, failing, after = (make(12, number, 400_000) for number in range(3))
        account.answered(before, scu.store(before))
        site.fail_at("fdatasync", "EIO")
        assert scu.store(failing) == OUT_OF_RESOURCES
        assert checker.index_of(site).n_rows(failing.uid) == 0
        checker.check(site, account)
        assert scu.echo() == SUCCESS

        def stored() -> bool:
            status = scu.store(failing)
            account.answered(failing, status)
            return status == SUCCESS

        wait_until(stored, 45.0, "a success after the disk had its pause")
        account.answered(after, scu.store(after))
        scu.release()
        assert len(account.acknowledged) == 3
        checker.check(site, account)


@pytest.mark.parametrize("call", ["log", "log-sync"])
def test_an_error_of_the_seal_log_is_not_noticed_by_the_sender(tmp_path: Path, call: str) -> None:
    account = Account()
    items = (make(13, number, 5000) for number in range(10**6))
    with FaultySite(tmp_path / "site") as site, Scu((site.host, site.dicom_port)) as scu:

        def send() -> None:
            item = next(items)
            account.answered(item, scu.store(item))

        site.wait_for_log(send)
        site.fail_at(call, "EIO")
        wait_until(lambda: send() or not site.is_armed, what="the error")
        for _ in range(10):
            send()
        scu.release()
        assert set(account.statuses) == {SUCCESS}
        checker.check(site, account)
        site.stop()
        site.start()
        checker.check(site, account)
