from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pacsd.model.errors import OutOfResources
from pacsd.storage.pool import Pool
from pacsd.storage.pools import Pools
from pacsd.storage.server import FileServer
from tests.storage.conftest import dataset, everything_below, sealed, stage


def journal_names(pool: Pool) -> list[str]:
    return [name for name in everything_below(pool.root) if name.startswith("journal")]


def test_a_full_directory_keeps_its_journal_until_settled_and_durable(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool("a")
    server = FileServer(Pools([pool], max_files_per_directory=2))
    files = [sealed(server, stage(server, dataset(f"1.{n}")))[0] for n in range(3)]
    assert len({file.directory for file in files}) == 2
    order: list[str] = []
    assert server.checkpoint(lambda: order.append("checkpoint")) == 0
    server.settle(files[:1])
    assert server.checkpoint(lambda: order.append("checkpoint")) == 0
    assert order == []
    server.settle(files[1:])

    def index_checkpoint() -> None:
        order.append("checkpoint")
        assert len(journal_names(pool)) == 2

    assert server.checkpoint(index_checkpoint) == 1
    assert order == ["checkpoint"]
    assert len(journal_names(pool)) == 1
    assert all(server.exists(file) for file in files)
    server.close(lambda: None)
    assert journal_names(pool) == []


def test_a_file_removed_instead_of_recorded_does_not_hold_its_directory(
    make_pool: Callable[..., Pool],
) -> None:
    server = FileServer(Pools([make_pool("a")], max_files_per_directory=1))
    (file,) = sealed(server, stage(server, dataset()))
    server.remove(file)
    sealed(server, stage(server, dataset("1.9")))
    assert server.checkpoint(lambda: None) == 1
    server.close()


def test_an_object_still_being_received_holds_its_directory(make_pool: Callable[..., Pool]) -> None:
    server = FileServer(Pools([make_pool("a")], max_files_per_directory=1))
    slow = stage(server, b"begun")
    server.settle(sealed(server, stage(server, dataset())))
    server.settle(sealed(server, stage(server, dataset("1.9"))))
    assert server.checkpoint(lambda: None) == 2
    server.settle(sealed(server, slow))
    assert server.checkpoint(lambda: None) == 1
    server.close()


def test_midnight_utc_opens_a_new_directory(make_pool: Callable[..., Pool]) -> None:
    now = [86400.0 * 365 - 1]
    server = FileServer(Pools([make_pool("a")], utc=lambda: now[0]))
    (before,) = sealed(server, stage(server, dataset("1.1")))
    now[0] += 2
    server.settle([before])
    assert server.checkpoint(lambda: None) == 1
    (after,) = sealed(server, stage(server, dataset("1.2")))
    assert before.directory.startswith("objects/1970/12/31/")
    assert after.directory.startswith("objects/1971/01/01/")
    server.close()


def test_a_pool_that_failed_gets_a_new_directory_when_it_is_back(make_pool: Callable[..., Pool]) -> None:
    """The old descriptor may be of a disk that was unmounted, or of a folder that somebody removed."""
    now = [0.0]
    pool = make_pool("a", clock=lambda: now[0])
    server = FileServer(Pools([pool]))
    (before,) = sealed(server, stage(server, dataset("1.1")))
    shutil.rmtree(Path(pool.root, before.directory))
    with pytest.raises(OutOfResources):
        stage(server, dataset("1.2"))
    now[0] += 60
    (after,) = sealed(server, stage(server, dataset("1.2")))
    assert after.directory != before.directory
    assert server.exists(after)
    server.settle([before])
    assert server.checkpoint(lambda: None) == 1
    server.close()


def test_a_journal_that_cannot_be_pruned_is_tried_again(
    make_pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FileServer(Pools([make_pool("a")], max_files_per_directory=1))
    server.settle(sealed(server, stage(server, dataset("1.1"))))
    real = os.unlink

    def failing(path: str, **options: int) -> None:
        raise OSError(errno.EROFS, "injected")

    monkeypatch.setattr(os, "unlink", failing)
    with pytest.raises(OutOfResources):
        server.checkpoint(lambda: None)
    monkeypatch.setattr(os, "unlink", real)
    assert server.checkpoint(lambda: None) == 1
    server.close()


def test_closing_leaves_what_is_not_settled_to_recovery(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool("a")
    server = FileServer(Pools([pool]))
    sealed(server, stage(server, dataset()))
    server.close(lambda: None)
    assert len(journal_names(pool)) == 1


def test_removing_a_recorded_file_later_unlinks_it(make_pool: Callable[..., Pool]) -> None:
    server = FileServer(Pools([make_pool("a")]))
    (file,) = sealed(server, stage(server, dataset()))
    server.settle([file])
    server.remove(file)
    assert not Path(server.pools.path(file)).exists()
    server.remove(file)
    server.close()
