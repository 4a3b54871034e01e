from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pacsd.model.errors import OutOfResources
from pacsd.storage.pool import Pool
from pacsd.storage.pools import Pools
from pacsd.storage.recover import RecoveryReport, rebuild, recover
from pacsd.storage.server import FileServer
from tests.storage.conftest import Index, dataset, everything_below, file_meta, sealed, stage

CHILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from pacsd.storage.pool import Pool
from pacsd.storage.pools import Pools
from pacsd.storage.server import FileServer
from tests.storage.conftest import dataset, sealed, stage

server = FileServer(Pools([Pool("a", sys.argv[1])]))
acknowledged = sealed(server, stage(server, dataset("1.1")))
server.settle(acknowledged)
print(acknowledged[0].digest.hex(), acknowledged[0].directory, flush=True)

def die_after(name):
    real = getattr(os, name)
    def call(*args, **kwargs):
        result = real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(os, name, call)

step = sys.argv[2]
if step != "none":
    die_after(step)
if step == "rmdir":
    server.remove(acknowledged[0])
    server.close(lambda: None)
sealed(server, stage(server, dataset("1.2"), "1.2"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def run_killed(pool: Pool, step: str) -> tuple[bytes, str]:
    """A worker that acknowledges one object and is killed right behind a system call for the second one."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, pool.root, step, str(Path(__file__).parents[2])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    digest, directory = child.stdout.split()
    return bytes.fromhex(digest), directory


@pytest.mark.crash
@pytest.mark.parametrize(
    ("step", "n_expected"),
    [("open", 1), ("writev", 1), ("rename", 2), ("fdatasync", 2), ("fsync", 2), ("close", 2), ("none", 2)],
)
def test_a_worker_killed_at_any_step_leaves_a_state_that_recovery_completes(
    make_pool: Callable[..., Pool], step: str, n_expected: int
) -> None:
    pool, index = make_pool("a"), Index()
    acknowledged, directory = run_killed(pool, step)
    checkpoints: list[int] = []
    report = recover([pool], index.missing, index.adopt, checkpoint=lambda: checkpoints.append(len(index.rows)))
    assert acknowledged in index.rows
    assert len(index.rows) == report.n_adopted == n_expected
    assert checkpoints == [n_expected]
    assert [name for name in everything_below(pool.root) if not name.endswith(".dcm")] == []
    assert everything_below(pool.root) == sorted(f"{directory}/{digest.hex()}.dcm" for digest in index.rows)
    assert recover([pool], index.missing, index.adopt).n_directories == 0


@pytest.mark.crash
def test_a_worker_killed_before_it_removes_its_journal_is_recovered(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    run_killed(pool, "rmdir")
    assert [name for name in everything_below(pool.root) if name.startswith("journal")]
    assert recover([pool], index.missing, index.adopt).n_adopted == 0
    assert everything_below(pool.root) == []


def crashed(pool: Pool, *uids: str) -> list[Path]:
    """Files of a worker that went without retiring its directory."""
    server = FileServer(Pools([pool]))
    files = sealed(server, *[stage(server, dataset(uid), uid) for uid in uids])
    server.close()
    return [Path(server.pools.path(file)) for file in files]


def test_a_living_workers_directory_is_left_alone(server: FileServer) -> None:
    slow = stage(server, b"begun")
    (file,) = sealed(server, stage(server, dataset()))
    index = Index()
    assert recover(server.pools, index.missing, index.adopt).n_directories == 0
    slow.append([b" and done"])
    sealed(server, slow)
    assert server.exists(file)


@pytest.mark.crash
def test_a_living_process_is_left_alone_until_it_is_killed(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    command = [sys.executable, "-c", CHILD.replace("step = sys.argv[2]", "sys.stdin.read()\nstep = sys.argv[2]")]
    command += [pool.root, "none", str(Path(__file__).parents[2])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        digest = bytes.fromhex(child.stdout.readline().split()[0])
        assert recover([pool], index.missing, index.adopt).n_directories == 0
        child.kill()
    assert recover([pool], index.missing, index.adopt).n_adopted == 1
    assert set(index.rows) == {digest}


RECOVERY = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from pacsd.storage.pool import Pool
from pacsd.storage.recover import recover

name, count = sys.argv[2].split("*")
real, left = getattr(os, name), [int(count)]

def call(*args, **kwargs):
    result = real(*args, **kwargs)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(os, name, call)
recover([Pool("a", sys.argv[1])], set, lambda file, header: None)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.crash
@pytest.mark.parametrize("step", ["unlink*1", "unlink*2", "fsync*1", "fsync*2", "rename*1", "close*3", "close*99"])
def test_a_recovery_killed_at_any_step_is_completed_by_the_next(make_pool: Callable[..., Pool], step: str) -> None:
    """The first one's index is lost with it, unless it came to the end and removed its journal."""
    pool, index = make_pool("a"), Index()
    good, torn = crashed(pool, "1.1", "1.2")
    (good.parent / ".9.part").touch()
    torn.chmod(0o640)
    torn.write_bytes(b"torn")
    command = [sys.executable, "-c", RECOVERY, pool.root, step, str(Path(__file__).parents[2])]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    finished = not [name for name in everything_below(pool.root) if name.startswith("journal")]
    recover([pool], index.missing, index.adopt)
    assert finished or {digest.hex() for digest in index.rows} == {good.stem}
    assert everything_below(pool.root) == [good.relative_to(pool.root).as_posix()]
    assert Path(pool.root, "quarantine", torn.name).read_bytes() == b"torn"


def test_two_workers_of_one_pool_do_not_disturb_each_other(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool("a")
    dead, alive = FileServer(Pools([pool])), FileServer(Pools([Pool("a", pool.root)]))
    (lost,) = sealed(dead, stage(dead, dataset("1.1")))
    (kept,) = sealed(alive, stage(alive, dataset("1.2")))
    dead.close()
    index = Index()
    assert recover([pool], index.missing, index.adopt).n_adopted == 1
    assert set(index.rows) == {lost.digest}
    assert alive.exists(kept)
    alive.close()
    assert recover([pool], index.missing, index.adopt).n_adopted == 1


def test_what_the_index_has_is_not_adopted_again(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    server = FileServer(Pools([pool]))
    index.add(sealed(server, stage(server, dataset())))
    server.close()
    report = recover([pool], index.missing, index.adopt)
    assert (report.n_files, report.n_adopted) == (1, 0)


def test_a_file_that_does_not_fit_its_name_is_moved_aside_with_the_reason(
    make_pool: Callable[..., Pool],
) -> None:
    pool, index = make_pool("a"), Index()
    good, torn = crashed(pool, "1.1", "1.2")
    torn.chmod(0o640)
    with torn.open("r+b") as file:
        file.truncate(50)
    report = recover([pool], index.missing, index.adopt)
    assert (report.n_adopted, report.n_quarantined) == (1, 1)
    assert good.exists()
    assert not torn.exists()
    assert Path(pool.root, "quarantine", torn.name).stat().st_size == 50
    assert "bytes" in Path(pool.root, "quarantine", torn.stem + ".txt").read_text()


def test_an_index_that_fails_meanwhile_finds_everything_at_the_next_try(
    make_pool: Callable[..., Pool],
) -> None:
    pool, index = make_pool("a"), Index()
    crashed(pool, "1.1", "1.2", "1.3")

    def failing(file: object, header: object) -> None:
        if index.n_adopted == 1:
            raise OutOfResources("database is away")
        index.adopt(file, header)  # type: ignore[arg-type]

    with pytest.raises(OutOfResources):
        recover([pool], index.missing, failing)
    assert recover([pool], index.missing, index.adopt).n_adopted == 2
    assert len(index.rows) == 3


def test_a_pool_that_is_away_is_counted_and_the_others_are_recovered(
    make_pool: Callable[..., Pool], tmp_path: Path
) -> None:
    pool, index = make_pool("a"), Index()
    crashed(pool, "1.1")
    report = recover([Pool("gone", tmp_path / "gone"), pool], index.missing, index.adopt)
    assert (report.n_pools_unavailable, report.n_adopted) == (1, 1)


@pytest.mark.parametrize("content", ["../../etc\n", "objects/../journal/x-1", "", "/objects/2024/01/01/x-1"])
def test_a_journal_file_that_points_elsewhere_is_not_followed(make_pool: Callable[..., Pool], content: str) -> None:
    pool, index = make_pool("a"), Index()
    entry = Path(pool.root, "journal", "dead-1")
    entry.write_text(content)
    report = recover([pool], index.missing, index.adopt)
    assert (report.n_entries_unreadable, report.n_directories) == (1, 0)
    assert entry.exists()


def test_only_an_old_draft_of_a_journal_file_is_removed(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    young, old = (Path(pool.root, "journal", f".dead-{n}.new") for n in (1, 2))
    young.touch()
    old.touch()
    os.utime(old, (0, time.time() - 3600))
    recover([pool], index.missing, index.adopt)
    assert young.exists()
    assert not old.exists()


def test_rebuild_gives_every_file_of_every_pool_with_its_header(make_pool: Callable[..., Pool]) -> None:
    pools = [make_pool("a"), make_pool("b", read_only=True)]
    crashed(pools[0], "1.1", "1.2")
    crashed(Pool("b", pools[1].root), "1.3")
    found: list[str] = []
    report = rebuild(pools, lambda _, header: found.append(header.sop_instance_uid))
    assert sorted(found) == ["1.1", "1.2", "1.3"]
    assert (report.n_adopted, report.n_directories) == (3, 2)


def test_rebuild_goes_on_behind_the_last_report(make_pool: Callable[..., Pool]) -> None:
    pools = [make_pool("a"), make_pool("b")]
    for uid in ("1.1", "1.2", "1.3"):
        crashed(pools[0], uid)
    crashed(pools[1], "1.4")
    found: list[str] = []

    class StoppedError(Exception):
        pass

    last: list[tuple[str, str]] = []

    def stop_at_second(report: RecoveryReport) -> None:
        last.append((report.pool, report.directory))
        if len(last) == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        rebuild(pools, lambda _, header: found.append(header.sop_instance_uid), stop_at_second)
    assert len(found) == 2
    rebuild(pools, lambda _, header: found.append(header.sop_instance_uid), after=last[-1])
    assert sorted(found) == ["1.1", "1.2", "1.3", "1.4"]


def test_rebuild_leaves_damaged_files_out(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    good, bad = crashed(pool, "1.1", "1.2")
    bad.chmod(0o640)
    bad.write_bytes(file_meta() + b"other")
    report = rebuild([pool], index.adopt)
    assert (report.n_adopted, report.n_left_out) == (1, 1)
    assert bad.exists()
    assert good.stem in {digest.hex() for digest in index.rows}
