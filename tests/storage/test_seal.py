from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pacsd.model.objects import StoredFile
from pacsd.storage.pool import Pool
from pacsd.storage.pools import Pools
from pacsd.storage.server import FileServer
from tests.storage.conftest import dataset, everything_below, sealed, stage


def test_results_come_in_the_order_given_and_a_failure_spoils_no_other(server: FileServer) -> None:
    first, gone, last = (stage(server, dataset(n_pixel_bytes=n)) for n in (10, 20, 30))
    gone.discard()
    results = server.seal([first, gone, last])
    assert isinstance(results[0], StoredFile)
    assert isinstance(results[1], Exception)
    assert isinstance(results[2], StoredFile)
    assert results[0].size_bytes + 20 == results[2].size_bytes


def test_the_same_bytes_twice_in_a_directory_are_one_file_that_outlives_one_removal(
    server: FileServer,
) -> None:
    one, other = sealed(server, stage(server, dataset()), stage(server, dataset()))
    assert one == other
    server.settle([one])
    server.remove(other)
    assert server.exists(one)
    server.remove(one)
    assert not server.exists(one)


def test_a_duplicate_that_fails_to_get_a_row_does_not_take_the_other_with_it(server: FileServer) -> None:
    one, other = sealed(server, stage(server, dataset()), stage(server, dataset()))
    server.remove(one)
    assert server.exists(other)
    server.settle([other])
    assert server.exists(other)


def test_no_part_file_is_left_of_a_duplicate(server: FileServer, tmp_path: Path) -> None:
    sealed(server, stage(server, dataset()), stage(server, dataset()))
    assert not [name for name in everything_below(tmp_path / "a") if name.endswith(".part")]


def test_threads_may_seal_at_once(make_pool: Callable[..., Pool]) -> None:
    server = FileServer(Pools([make_pool("a")], max_files_per_directory=5))
    files: list[StoredFile] = []

    def work(thread: int) -> None:
        for n in range(10):
            files.extend(sealed(server, stage(server, dataset(f"1.{thread}.{n}"))))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({file.digest for file in files}) == 40
    assert all(server.exists(file) for file in files)
    assert len({file.directory for file in files}) == 8
    server.settle(files)
    server.close(lambda: None)


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_an_error_at_sync_time_moves_the_object_to_the_next_pool(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str
) -> None:
    """The error is injected at the border to the system: one failing call, as after a broken disk."""
    import errno
    import os

    staged = [stage(server, dataset("1.1")), stage(server, dataset("1.2"))]
    real = getattr(os, call)
    broken = staged[0].fd if call == "fdatasync" else staged[0].directory.fd

    def failing(fd: int) -> None:
        if fd == broken:
            raise OSError(errno.EIO, "broken")
        real(fd)

    monkeypatch.setattr(os, call, failing)
    files = sealed(server, *staged)
    assert [file.pool for file in files] == (["b", "a"] if call == "fdatasync" else ["b", "b"])
    for file, uid in zip(files, ("1.1", "1.2"), strict=True):
        assert Path(server.pools.path(file)).read_bytes().endswith(dataset(uid))
    left = [name for name in everything_below(tmp_path / "a") if name.startswith("objects")]
    assert len(left) == (1 if call == "fdatasync" else 0)


def test_bytes_that_read_back_otherwise_are_refused_and_nothing_is_left(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import errno
    import os

    from pacsd.model.errors import OutOfResources

    staged = stage(server, dataset())

    def failing(_fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fdatasync", failing)
    monkeypatch.setattr(os, "pread", lambda _fd, n, _offset: b"\0" * n)
    (result,) = server.seal([staged])
    assert isinstance(result, OutOfResources)
    monkeypatch.undo()
    for pool in ("a", "b"):
        assert not [name for name in everything_below(tmp_path / pool) if name.startswith("objects")]
