from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pacsd.model.errors import OutOfResources
from pacsd.storage.pool import Pool
from pacsd.storage.pools import Pools
from pacsd.storage.server import FileServer
from tests.storage.conftest import dataset, everything_below, file_meta, sealed, stage


def test_the_first_writable_pool_of_the_configuration_takes_it(make_pool: Callable[..., Pool]) -> None:
    server = FileServer(Pools([make_pool("a", read_only=True), make_pool("b"), make_pool("c")]))
    (file,) = sealed(server, stage(server, dataset()))
    assert file.pool == "b"
    server.close()


def test_two_pools_of_one_name_are_refused(make_pool: Callable[..., Pool]) -> None:
    with pytest.raises(ValueError, match="one name"):
        Pools([make_pool("a"), make_pool("a")])


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EIO", "EROFS", "ENODEV", "ESTALE"])
def test_an_error_in_the_middle_moves_on_with_what_is_written(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str
) -> None:
    staged = stage(server, b"first part ")
    real, broken = os.writev, staged.fd

    def failing(fd: int, buffers: list[bytes]) -> int:
        if fd == broken:
            raise OSError(getattr(errno, code), "injected")
        return real(fd, buffers)

    monkeypatch.setattr(os, "writev", failing)
    staged.append([b"second ", b"part"])
    (file,) = sealed(server, staged)
    assert file.pool == "b"
    assert Path(server.pools.path(file)).read_bytes() == file_meta() + b"first part second part"
    assert not server.pools["a"].writable()
    assert not [name for name in everything_below(tmp_path / "a") if name.startswith("objects")]


def test_an_error_that_is_not_the_pools_leaves_the_pool_in_use(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_fd: int, _buffers: list[bytes]) -> int:
        raise OSError(errno.EMFILE, "injected")

    monkeypatch.setattr(os, "writev", failing)
    with pytest.raises(OutOfResources):
        stage(server, dataset())
    assert server.pools["a"].writable()


def test_an_error_text_names_the_cause_but_no_path(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def failing(_fd: int, _buffers: list[bytes]) -> int:
        raise OSError(errno.ENOSPC, "injected", str(tmp_path))

    monkeypatch.setattr(os, "writev", failing)
    with pytest.raises(OutOfResources) as caught:
        stage(server, dataset())
    assert "No space left" in caught.value.comment
    assert str(tmp_path) not in caught.value.comment
