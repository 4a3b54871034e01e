from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from pacsd.model.objects import StoredFile
from pacsd.storage.pool import Pool
from pacsd.storage.pools import Pools
from pacsd.storage.scrub import Finding, FindingKind, ScrubReport, Throttle, verify
from pacsd.storage.server import FileServer
from tests.storage.conftest import Index, dataset, sealed, stage


def later() -> float:
    return time.time() + 600


def stored(server: FileServer, n: int) -> tuple[Index, list[tuple[int, StoredFile]]]:
    index = Index()
    files = sealed(server, *[stage(server, dataset(f"1.{i}")) for i in range(n)])
    index.add(files)
    return index, list(enumerate(files, 1))


def test_a_sound_pool_has_no_findings(server: FileServer) -> None:
    index, files = stored(server, 3)
    assert list(verify(server.pools, files, index.missing, utc=later)) == []


def test_missing_damaged_and_orphan_files_are_found_both_ways(server: FileServer) -> None:
    index, files = stored(server, 4)
    paths = [Path(server.pools.path(file)) for _, file in files]
    paths[0].unlink()
    paths[1].chmod(0o640)
    content = bytearray(paths[1].read_bytes())
    content[-1] ^= 1
    paths[1].write_bytes(content)
    paths[2].chmod(0o640)
    paths[2].write_bytes(b"short")
    (orphan,) = sealed(server, stage(server, dataset("9.9")))
    (paths[3].parent / "notes.txt").touch()
    findings = list(verify(server.pools, files, index.missing, utc=later))
    assert [(found.kind, found.file_id) for found in findings] == [
        (FindingKind.MISSING, 1),
        (FindingKind.DAMAGED, 2),
        (FindingKind.DAMAGED, 3),
        (FindingKind.ORPHAN, 0),
        (FindingKind.LEFTOVER, 0),
    ]
    assert findings[3].path == orphan.path


def test_a_file_just_sealed_is_no_orphan_yet(server: FileServer) -> None:
    sealed(server, stage(server, dataset()))
    assert list(verify(server.pools, [], Index().missing)) == []


def test_an_unmounted_pool_is_unreadable_rather_than_missing(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool("a")
    server = FileServer(Pools([pool]))
    index, files = stored(server, 1)
    server.close()
    shutil.move(pool.root, pool.root + ".away")
    kinds = {found.kind for found in verify(Pools([pool]), files, index.missing)}
    assert kinds == {FindingKind.UNREADABLE}


def test_an_old_part_file_is_a_leftover(server: FileServer) -> None:
    _, files = stored(server, 1)
    folder = Path(server.pools.path(files[0][1])).parent
    part = folder / ".77.part"
    part.touch()
    os.utime(part, (0, time.time() - 90000))
    findings = list(verify(server.pools, [], lambda _: set()))
    assert findings == [
        Finding(
            FindingKind.LEFTOVER,
            "a",
            f"{files[0][1].directory}/.77.part",
            comment="part file of a dead worker",
        )
    ]


def test_it_stops_when_asked_and_says_where_to_go_on(server: FileServer) -> None:
    index, files = stored(server, 5)
    reports: list[int] = []
    stop = [False]

    def progress(report: ScrubReport) -> None:
        reports.append(report.last_id)
        stop[0] = report.last_id == 2

    assert list(verify(server.pools, files, index.missing, progress=progress, cancelled=lambda: stop[0])) == []
    assert reports[-1] == 2


def test_the_search_for_orphans_goes_on_behind_a_directory(make_pool: Callable[..., Pool]) -> None:
    server = FileServer(Pools([make_pool("a")], max_files_per_directory=1))
    orphans = [sealed(server, stage(server, dataset(f"1.{n}")))[0] for n in range(3)]
    order = sorted(orphan.directory for orphan in orphans)
    found = list(verify(server.pools, [], Index().missing, after=("a", order[0]), utc=later))
    assert [Path(finding.path).parent.as_posix() for finding in found] == order[1:]
    server.close()


def test_the_throttle_keeps_below_its_rate() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    throttle = Throttle(1000, lambda: False, clock=lambda: now[0], sleep=sleep)
    for _ in range(20):
        throttle(500)
    assert 9.7 <= now[0] <= 10.1
