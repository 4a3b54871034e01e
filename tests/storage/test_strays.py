"""Second copies that no row names: a sender tried again with another worker while the first one was dead."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from pacsd.model.objects import StoredFile
from pacsd.storage.pool import Pool
from pacsd.storage.pools import Pools
from pacsd.storage.recover import RecoveryReport, recover
from pacsd.storage.scrub import FindingKind, remove_stray, verify
from pacsd.storage.server import FileServer
from tests.storage.conftest import Index, dataset, sealed, stage


class Twice:
    """A dead worker's file and the living worker's, with the same bytes; the index names the second."""

    def __init__(self, dead: Pool, alive: Pool) -> None:
        first = FileServer(Pools([dead]))
        (self.stray,) = sealed(first, stage(first, dataset()))
        first.close()
        self.server = FileServer(Pools([alive]))
        (self.named,) = sealed(self.server, stage(self.server, dataset()))
        self.server.settle([self.named])
        self.index = Index()
        self.index.add([self.named])
        self.pools = {dead.name: dead, alive.name: alive}

    def path(self, file: StoredFile) -> Path:
        return Path(self.pools[file.pool].path(file.path))

    def places(self, digests: Sequence[bytes]) -> Mapping[bytes, Sequence[StoredFile]]:
        return {digest: (self.index.rows[digest],) for digest in digests if digest in self.index.rows}

    def recover(self) -> RecoveryReport:
        return recover(self.pools.values(), self.index.missing, self.index.adopt, places=self.places)


@pytest.fixture(params=["one pool", "two pools"])
def twice(make_pool: Callable[..., Pool], request: pytest.FixtureRequest) -> Twice:
    dead = make_pool("a")
    return Twice(dead, dead if request.param == "one pool" else make_pool("b"))


def test_recovery_removes_a_second_copy_when_the_named_one_is_proven(twice: Twice) -> None:
    report = twice.recover()
    assert (report.n_strays_removed, report.n_adopted) == (1, 0)
    assert not twice.path(twice.stray).exists()
    assert twice.path(twice.named).exists()


def test_recovery_gives_a_second_copy_the_place_of_a_named_one_that_is_gone(twice: Twice) -> None:
    twice.path(twice.named).unlink()
    report = twice.recover()
    assert (report.n_strays_removed, report.n_adopted) == (0, 1)
    assert twice.index.rows[twice.stray.digest] == twice.stray
    assert twice.path(twice.stray).exists()


def test_recovery_keeps_a_second_copy_when_the_named_one_is_damaged(twice: Twice) -> None:
    twice.path(twice.named).chmod(0o640)
    twice.path(twice.named).write_bytes(b"torn")
    report = twice.recover()
    assert (report.n_strays_removed, report.n_strays_kept) == (0, 1)
    assert twice.path(twice.stray).exists()


def test_recovery_keeps_a_second_copy_when_the_named_one_s_pool_is_away(make_pool: Callable[..., Pool]) -> None:
    twice = Twice(make_pool("a"), make_pool("b"))
    Path(twice.pools["b"].root).rename(twice.pools["b"].root + ".away")
    assert twice.recover().n_strays_kept == 1
    assert twice.path(twice.stray).exists()


def test_verify_lists_the_copy_that_no_row_names_and_not_the_other(twice: Twice) -> None:
    pools = Pools(list(twice.pools.values()))
    found = list(verify(pools, [], twice.index.missing, places=twice.places, utc=lambda: time.time() + 600))
    assert [(finding.kind, finding.path) for finding in found] == [(FindingKind.STRAY, twice.stray.path)]


def test_a_stray_is_removed_only_beside_a_proven_copy(twice: Twice) -> None:
    named = [twice.named]
    twice.path(twice.named).chmod(0o640)
    content = twice.path(twice.named).read_bytes()
    twice.path(twice.named).write_bytes(b"torn")
    assert not remove_stray(twice.pools, twice.stray.pool, twice.stray.path, named)
    assert twice.path(twice.stray).exists()
    twice.path(twice.named).write_bytes(content)
    assert remove_stray(twice.pools, twice.stray.pool, twice.stray.path, named)
    assert not twice.path(twice.stray).exists()


def test_a_file_that_a_row_names_is_never_removed_as_a_stray(twice: Twice) -> None:
    assert not remove_stray(twice.pools, twice.named.pool, twice.named.path, [twice.named])
    assert twice.path(twice.named).exists()
