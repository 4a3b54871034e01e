from __future__ import annotations

import errno
import os
import threading
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
from tests.storage.logged import SEGMENT, crash, logging_server, logs, lose_end, seal_all


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
    files = [
        file
        for n in range(5)
        for file in sealed(server, *[stage(server, dataset(f"3.{n}.{m}", 10_000), f"3.{n}.{m}") for m in range(15)])
    ]
    assert not server.pools.keep_small
    crash(server)
    recover([pool], index.missing, index.adopt)
    assert len(set(files)) == 75
    assert set(index.rows.values()) == set(files)


def test_a_large_group_shares_the_syncs_of_its_files_instead_of_being_written_twice(
    make_pool: Callable[..., Pool],
) -> None:
    pool = make_pool("a")
    server = logging_server(pool)
    contents = seal_all(server, 30)
    assert not [path for path in logs(pool) if path.read_bytes()[:4] == b"PSL1"]
    assert all(server.exists(file) for file in contents)
    server.close()


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


def test_threads_that_wait_at_once_share_one_sync(
    make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = logging_server(make_pool("a"))
    sealings = [server.begin_seal([stage(server, dataset(uid, 5000), uid)]) for uid in ("1.1", "1.2", "1.3")]
    entered, leave, n_syncs = threading.Event(), threading.Event(), []
    real = os.fdatasync

    def slow(fd: int) -> None:
        n_syncs.append(fd)
        entered.set()
        assert leave.wait(30)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    threads = [threading.Thread(target=sealing.sync) for sealing in sealings]
    for thread in threads:
        thread.start()
    assert entered.wait(30)
    leave.set()
    for thread in threads:
        thread.join()
    assert len(n_syncs) == 1
    monkeypatch.undo()
    server.close()


def test_several_sealers_beside_a_flusher_lose_nothing(make_pool: Callable[..., Pool]) -> None:
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
