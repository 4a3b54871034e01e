from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pacsd.model.objects import StoredFile
from pacsd.storage import durable
from pacsd.storage.pool import Pool
from pacsd.storage.pools import Pools
from pacsd.storage.recover import recover
from pacsd.storage.server import FileServer
from tests.storage.conftest import Index, dataset, everything_below, file_meta, sealed, stage

SEGMENT = 256 * 1024


def logging_server(*pools: Pool, **options: object) -> FileServer:
    """A file server whose seal logs are ready."""
    server = FileServer(Pools(pools, log_segment_bytes=SEGMENT, **options))  # type: ignore[arg-type]
    for pool in pools:
        server.pools.log_of(pool).wanted = True
    server.flush_sealed()
    assert server.pools.keep_small
    return server


def logs(pool: Pool) -> list[Path]:
    return sorted(Path(pool.root, "journal").glob("*.log.*"))


def crash(server: FileServer) -> None:
    """Give everything up as a dying process does: locks go, nothing is flushed."""
    for pool in server.pools:
        server.pools.log_of(pool).abandon()
    server.close()


def seal_all(server: FileServer, n: int, n_pixel_bytes: int = 10_000) -> dict[StoredFile, bytes]:
    uids = [f"1.{number}" for number in range(n)]
    files = sealed(server, *[stage(server, dataset(uid, n_pixel_bytes), uid) for uid in uids])
    return {file: file_meta(uid) + dataset(uid, n_pixel_bytes) for file, uid in zip(files, uids, strict=True)}


def lose_nothing(_path: Path) -> None:
    pass


def lose_end(path: Path) -> None:
    os.truncate(path, 4096)


def lose_all_bytes(path: Path) -> None:
    os.truncate(path, 0)


def read_zeros(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size)


def lose_name(path: Path) -> None:
    path.unlink()


def lose_rename(path: Path) -> None:
    path.rename(path.with_name(".1.part"))


@pytest.mark.parametrize("lose", [lose_nothing, lose_end, lose_all_bytes, read_zeros, lose_name, lose_rename])
def test_what_a_power_cut_takes_from_unsynced_files_comes_back_bit_by_bit(
    make_pool: Callable[..., Pool], lose: Callable[[Path], None]
) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    contents = seal_all(server, 3)
    index.add(list(contents)[:1])
    before = time.time()
    crash(server)
    for file in contents:
        lose(Path(pool.root, file.path))
    report = recover([pool], index.missing, index.adopt)
    assert report.n_restored == (0 if lose is lose_nothing else 3)
    assert report.n_adopted == 2
    assert set(index.rows.values()) == set(contents)
    for file, content in contents.items():
        assert Path(pool.root, file.path).read_bytes() == content
        assert Path(pool.root, file.path).stat().st_mtime <= before
    assert everything_below(pool.root) == sorted(file.path for file in contents)


def test_a_sealed_object_is_readable_at_once_and_needs_no_sync_of_its_own(
    make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = logging_server(make_pool("a"))
    seal_all(server, 1)
    syncs: list[str] = []
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda fd, real=real, name=name: (syncs.append(name), real(fd))[1])
    (file,) = sealed(server, stage(server, dataset("1.9"), "1.9"))
    assert syncs == ["fdatasync"]
    with server.open(file) as reader:
        assert reader.size_bytes == file.size_bytes
    server.close()


def test_a_log_is_gone_after_a_close_and_its_files_need_none(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool("a")
    server = logging_server(pool)
    contents = seal_all(server, 2)
    server.settle(list(contents))
    server.close(lambda: None)
    assert everything_below(pool.root) == sorted(file.path for file in contents)


def test_a_directory_keeps_its_journal_while_a_file_is_durable_by_the_log_only(
    make_pool: Callable[..., Pool],
) -> None:
    server = logging_server(make_pool("a"), max_files_per_directory=1)
    contents = seal_all(server, 1)
    server.settle(list(contents))
    seal_all(server, 2)
    assert server.checkpoint(lambda: None) == 0
    server.flush_sealed()
    assert server.checkpoint(lambda: None) == 1
    server.close()


def test_a_torn_record_and_what_stands_behind_it_count_for_nothing(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    contents = seal_all(server, 3)
    crash(server)
    (log,) = [path for path in logs(pool) if path.read_bytes()[:4] == b"PSL1"]
    with log.open("r+b") as file:
        file.seek(12288 + 5000)
        file.write(b"torn")
    for file in contents:
        Path(pool.root, file.path).unlink()
    report = recover([pool], index.missing, index.adopt)
    assert (report.n_restored, report.n_adopted) == (1, 1)
    assert list(index.rows) == [next(iter(contents)).digest]


def test_a_removed_object_does_not_come_back_after_the_flush(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    contents = seal_all(server, 2)
    server.settle(list(contents))
    server.flush_sealed(everything=True)
    for file in contents:
        server.remove(file)
    crash(server)
    report = recover([pool], index.missing, index.adopt)
    assert (report.n_restored, report.n_adopted) == (0, 0)


def test_an_object_removed_before_the_flush_is_no_trouble_to_it(make_pool: Callable[..., Pool]) -> None:
    server = logging_server(make_pool("a"))
    contents = seal_all(server, 2)
    for file in contents:
        server.remove(file)
    server.flush_sealed(everything=True)
    assert not any(server.exists(file) for file in contents)
    server.close()


@pytest.mark.parametrize("fate", ["removed", "restored"])
def test_equal_bytes_in_flight_are_one_file_with_and_without_a_crash(make_pool: Callable[..., Pool], fate: str) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    one, other = sealed(server, stage(server, dataset()), stage(server, dataset()))
    assert one == other
    server.settle([one])
    server.remove(other)
    assert server.exists(one)
    if fate == "restored":
        crash(server)
        Path(pool.root, one.path).unlink()
        recover([pool], index.missing, index.adopt)
        assert list(index.rows.values()) == [one]
    else:
        server.flush_sealed(everything=True)
        server.remove(one)
        assert not server.exists(one)
        server.close()


def test_records_of_a_retired_directory_bring_nothing_back(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    contents = seal_all(server, 1)
    crash(server)
    (entry,) = [path for path in Path(pool.root, "journal").iterdir() if ".log." not in path.name]
    entry.unlink()
    (file,) = contents
    Path(pool.root, file.path).unlink()
    assert recover([pool], index.missing, index.adopt).n_restored == 0
    assert everything_below(pool.root) == []


def test_a_directory_is_not_judged_while_another_process_replays_its_log(make_pool: Callable[..., Pool]) -> None:
    import fcntl

    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    contents = seal_all(server, 1)
    crash(server)
    held = [path.open("rb") for path in logs(pool)]
    for file in held:
        fcntl.flock(file, fcntl.LOCK_EX)
    for file in contents:
        lose_all_bytes(Path(pool.root, file.path))
    report = recover([pool], index.missing, index.adopt)
    assert (report.n_directories, report.n_quarantined) == (0, 0)
    for file in held:
        file.close()
    assert recover([pool], index.missing, index.adopt).n_adopted == 1


def test_a_living_workers_log_is_left_alone(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    seal_all(server, 1)
    before = logs(pool)
    assert recover([pool], index.missing, index.adopt).n_restored == 0
    assert logs(pool) == before
    server.close()


def test_full_segments_are_flushed_and_used_again(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool("a")
    server = logging_server(pool)
    for start in range(10):
        uids = [f"2.{start}.{n}" for n in range(15)]
        sealed(server, *[stage(server, dataset(uid, 10_000), uid) for uid in uids])
        server.flush_sealed()
        assert server.pools.keep_small
        assert len(logs(pool)) == 2
    server.close()


def test_when_both_segments_are_full_objects_are_sealed_in_the_ordinary_way(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    contents = seal_all(server, 60)
    (late,) = sealed(server, stage(server, dataset("3.1"), "3.1"))
    assert server.exists(late)
    crash(server)
    recover([pool], index.missing, index.adopt)
    assert set(index.rows.values()) == {*contents, late}


@pytest.mark.parametrize("n_pixel_bytes", [100_000, 131_072, 300_000])
def test_objects_of_every_size_arrive_whole_in_pieces_too(make_pool: Callable[..., Pool], n_pixel_bytes: int) -> None:
    server = logging_server(make_pool("a"))
    content = dataset("1.2", n_pixel_bytes)
    staged = server.begin(file_meta())
    for start in range(0, len(content), 30_000):
        staged.append([content[start : start + 10_000], memoryview(content)[start + 10_000 : start + 30_000]])
    (file,) = sealed(server, staged)
    assert Path(server.pools.path(file)).read_bytes() == file_meta() + content
    assert staged.size_bytes == len(content)
    server.close()


def failing_on(monkeypatch: pytest.MonkeyPatch, call: str, fails: Callable[..., bool], number: int) -> None:
    real = getattr(os, call)

    def failing(*args: object, **options: object) -> object:
        if fails(*args):
            raise OSError(number, "injected")
        return real(*args, **options)

    monkeypatch.setattr(os, call, failing)


def path_of(fd: int) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


def is_log(fd: int) -> bool:
    return ".log." in path_of(fd)


@pytest.mark.parametrize("call", ["fdatasync", "pwritev"])
def test_a_log_that_fails_hands_durability_back_to_the_files(
    make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    server = logging_server(make_pool("a"))
    before = seal_all(server, 1)
    synced: list[str] = []
    failing_on(monkeypatch, call, lambda fd, *_: is_log(fd), errno.EIO)
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(path_of(fd)), real(fd))[1])
    (file,) = sealed(server, stage(server, dataset("1.9"), "1.9"))
    assert file.pool == "a"
    assert server.pools.path(file) in synced
    monkeypatch.undo()
    server.flush_sealed()
    assert all(server.exists(one) for one in (file, *before))
    assert server.pools.keep_small
    server.close()


def test_a_full_disk_at_the_file_moves_the_object_to_the_next_pool(
    make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = [make_pool("a"), make_pool("b")]
    server = logging_server(*pools)
    staged = stage(server, dataset("1.9"), "1.9")
    failing_on(monkeypatch, "writev", lambda fd, *_: "/a/" in path_of(fd), errno.ENOSPC)
    (file,) = sealed(server, staged)
    assert file.pool == "b"
    monkeypatch.undo()
    crash(server)
    index = Index()
    index.add([file])
    recover(pools, index.missing, index.adopt, places=lambda digests: {file.digest: [file]})
    assert Path(pools[1].root, file.path).read_bytes() == file_meta("1.9") + dataset("1.9")
    assert everything_below(pools[0].root) == []


def test_a_disk_without_room_for_a_log_goes_on_without_one(
    make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool("a")
    failing_on(monkeypatch, "writev", lambda fd, *_: is_log(fd), errno.ENOSPC)
    server = FileServer(Pools([pool], log_segment_bytes=SEGMENT))
    contents = seal_all(server, 1)
    server.flush_sealed()
    assert not server.pools.keep_small
    assert not list(Path(pool.root, "journal").glob(".*"))
    seal_all(server, 2)
    assert all(server.exists(file) for file in contents)
    server.close()


def test_a_read_only_pool_gets_no_log(make_pool: Callable[..., Pool]) -> None:
    make_pool("a")
    old = make_pool("a", read_only=True)
    server = FileServer(Pools([old, make_pool("b")], log_segment_bytes=SEGMENT))
    seal_all(server, 1)
    server.flush_sealed()
    assert logs(old) == []
    assert server.pools.keep_small
    server.close()


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_whose_own_sync_fails_is_written_again_from_the_log(
    make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    server = logging_server(make_pool("a"))
    contents = seal_all(server, 3)
    removed = next(iter(contents))
    server.remove(removed)
    inodes = {file: Path(server.pools.path(file)).stat().st_ino for file in contents if file != removed}

    def failing_whole(_fd: int) -> bool:
        if whole:
            raise OSError(errno.EIO, "injected")
        return False

    monkeypatch.setattr("pacsd.storage.seallog.sync_whole", failing_whole)
    failing_on(monkeypatch, "fdatasync", lambda fd: ".dcm" in path_of(fd), errno.EIO)
    server.flush_sealed(everything=True)
    for file, inode in inodes.items():
        assert Path(server.pools.path(file)).stat().st_ino != inode
        assert Path(server.pools.path(file)).read_bytes() == contents[file]
    assert not server.exists(removed)
    monkeypatch.undo()
    server.settle(list(inodes))
    server.close(lambda: None)
    assert everything_below(server.pools["a"].root) == sorted(file.path for file in inodes)


def test_a_flush_that_fails_for_good_leaves_the_log_to_the_next_start(
    make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pacsd.model.errors import OutOfResources

    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    contents = seal_all(server, 2)
    server.settle(list(contents))

    def failing(*_: object) -> bool:
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr("pacsd.storage.seallog.sync_whole", failing)
    monkeypatch.setattr("pacsd.storage.seallog.write_durable", failing)
    with pytest.raises(OutOfResources):
        server.flush_sealed(everything=True)
    server.close(lambda: None)
    assert len(logs(pool)) == 1
    monkeypatch.undo()
    for file in contents:
        lose_end(Path(pool.root, file.path))
    assert recover([pool], index.missing, index.adopt).n_restored == 2
    assert set(index.rows.values()) == set(contents)


def test_files_are_synced_one_by_one_where_the_file_system_cannot_be_trusted_as_a_whole(
    make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_libc_syncfs", None)
    server = logging_server(make_pool("a"))
    contents = seal_all(server, 3)
    synced: list[str] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(path_of(fd)), real(fd))[1])
    server.flush_sealed(everything=True)
    assert {server.pools.path(file) for file in contents} <= set(synced)
    server.close()


def test_threads_that_wait_share_one_sync_and_all_objects_survive(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    files: list[StoredFile] = []
    stopped = threading.Event()

    def work(thread: int) -> None:
        for n in range(25):
            uid = f"1.{thread}.{n}"
            sealing = server.begin_seal([stage(server, dataset(uid, 5000), uid)])
            (file,) = sealing.sync()
            assert isinstance(file, StoredFile)
            assert sealing.sync() == [file]
            files.append(file)

    def flush() -> None:
        while not stopped.wait(0.01):
            server.flush_sealed()

    flusher = threading.Thread(target=flush)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in (flusher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stopped.set()
    flusher.join()
    crash(server)
    recover([pool], index.missing, index.adopt)
    assert len(files) == 100
    assert set(index.rows.values()) == set(files)


def test_a_segment_waits_for_groups_whose_files_are_not_in_place(make_pool: Callable[..., Pool]) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    sealing = server.begin_seal([stage(server, dataset("1.5", 5000), "1.5")])
    server.flush_sealed(everything=True)
    (file,) = sealing.sync()
    assert isinstance(file, StoredFile)
    crash(server)
    Path(pool.root, file.path).unlink()
    recover([pool], index.missing, index.adopt)
    assert Path(pool.root, file.path).read_bytes() == file_meta("1.5") + dataset("1.5", 5000)


CHILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from pacsd.storage.pool import Pool
from pacsd.storage.pools import Pools
from pacsd.storage.server import FileServer
from tests.storage.conftest import dataset, sealed, stage

server = FileServer(Pools([Pool("a", sys.argv[1])], log_segment_bytes=262144))
phase, _, step = sys.argv[2].partition(":")

def die_after(name):
    real = getattr(os, name)
    def call(*args, **kwargs):
        result = real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(os, name, call)

first = sealed(server, stage(server, dataset("1.1"), "1.1"))
print(first[0].digest.hex(), flush=True)
if phase == "make":
    die_after(step)
server.flush_sealed()
second = sealed(server, stage(server, dataset("1.2"), "1.2"))
print(second[0].digest.hex(), flush=True)
if phase == "seal":
    die_after(step)
third = sealed(server, stage(server, dataset("1.3"), "1.3"))
print(third[0].digest.hex(), flush=True)
if phase == "flush":
    die_after(step)
server.flush_sealed(everything=True)
server.settle(first + second + third)
if phase == "close":
    die_after(step)
server.close(lambda: None)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.crash
@pytest.mark.parametrize(
    "step",
    ["make:open", "make:writev", "make:fsync", "make:rename", "seal:pwritev", "seal:open", "seal:writev",
     "seal:rename", "seal:fdatasync", "seal:close", "flush:fsync", "flush:pwrite", "flush:fdatasync", "close:unlink",
     "close:fsync", "close:close", "none"],
)  # fmt: skip
def test_a_worker_killed_at_any_step_loses_nothing_that_was_acknowledged(
    make_pool: Callable[..., Pool], step: str
) -> None:
    pool, index = make_pool("a"), Index()
    child = subprocess.run(
        [sys.executable, "-c", CHILD, pool.root, step, str(Path(__file__).parents[2])],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert child.returncode == -signal.SIGKILL, child.stderr
    acknowledged = {bytes.fromhex(line) for line in child.stdout.split()}
    for draft in Path(pool.root, "journal").glob(".*.new"):
        os.utime(draft, (0, 0))
    recover([pool], index.missing, index.adopt)
    stored = {path.stem: path for path in Path(pool.root, "objects").rglob("*.dcm")}
    assert {digest.hex() for digest in acknowledged} <= set(stored)
    assert [name for name in everything_below(pool.root) if not name.endswith(".dcm")] == []
    if step.startswith(("make", "seal", "flush")):
        assert set(index.rows) == {bytes.fromhex(name) for name in stored}


REPLAY = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from pacsd.storage.pool import Pool
from pacsd.storage.recover import recover
real = getattr(os, sys.argv[2])
def call(*args, **kwargs):
    result = real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(os, sys.argv[2], call)
recover([Pool("a", sys.argv[1])], lambda digests: set(digests), lambda file, header: None)
"""


@pytest.mark.crash
@pytest.mark.parametrize("step", ["writev", "fsync", "rename", "fdatasync", "unlink", "close"])
def test_a_replay_killed_at_any_step_is_done_again(make_pool: Callable[..., Pool], step: str) -> None:
    pool, index = make_pool("a"), Index()
    server = logging_server(pool)
    contents = seal_all(server, 3)
    crash(server)
    lost, torn, _ = contents
    Path(pool.root, lost.path).unlink()
    lose_end(Path(pool.root, torn.path))
    child = subprocess.run(
        [sys.executable, "-c", REPLAY, pool.root, step, str(Path(__file__).parents[2])],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert child.returncode == -signal.SIGKILL, child.stderr
    recover([pool], index.missing, index.adopt)
    assert set(index.rows.values()) == set(contents)
    for file, content in contents.items():
        assert Path(pool.root, file.path).read_bytes() == content
    assert everything_below(pool.root) == sorted(file.path for file in contents)
