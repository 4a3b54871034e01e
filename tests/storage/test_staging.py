from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacsd.model.errors import OutOfResources
from pacsd.storage.pool import Pool
from pacsd.storage.pools import Pools
from pacsd.storage.server import FileServer
from pacsd.storage.writeback import IOV_MAX, skip_bytes
from tests.storage.conftest import dataset, everything_below, file_meta, sealed, stage


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=12), st.booleans())
def test_bytes_and_digest_do_not_depend_on_how_the_object_was_cut(
    content: bytes, cuts: list[int], at_once: object
) -> None:
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    pieces = [memoryview(content)[a:b] for a, b in itertools.pairwise(edges)]
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool("a", folder)
        pool.create()
        server = FileServer(Pools([pool]), head_bytes=1000)
        staged = server.begin(file_meta())
        for group in [pieces] if at_once else [[piece] for piece in pieces]:
            staged.append(group)
        assert staged.size_bytes == len(content)
        assert staged.head == content[:1000]
        (file,) = sealed(server, staged)
        whole = file_meta() + content
        assert file.digest == hashlib.sha256(whole).digest()
        assert file.size_bytes == len(whole)
        assert Path(server.pools.path(file)).read_bytes() == whole
        server.close()


def test_nothing_is_opened_before_the_first_bytes(server: FileServer, tmp_path: Path) -> None:
    server.begin(file_meta())
    assert everything_below(tmp_path / "a") == []


def test_an_empty_data_set_is_kept_as_its_file_meta(server: FileServer) -> None:
    (file,) = sealed(server, server.begin(file_meta()))
    assert file.size_bytes == len(file_meta())


def test_more_fragments_than_one_system_call_takes_are_written_whole(server: FileServer) -> None:
    staged = server.begin(file_meta())
    staged.append([b"ab"] * (IOV_MAX * 2 + 7))
    (file,) = sealed(server, staged)
    assert Path(server.pools.path(file)).read_bytes() == file_meta() + b"ab" * (IOV_MAX * 2 + 7)


def test_partial_writes_are_completed(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    real = os.writev

    def short(fd: int, buffers: list[bytes]) -> int:
        return real(fd, [bytes(buffers[0])[:100]])

    monkeypatch.setattr(os, "writev", short)
    (file,) = sealed(server, stage(server, dataset()))
    assert Path(server.pools.path(file)).read_bytes() == file_meta() + dataset()


@given(st.lists(st.binary(max_size=5), max_size=6), st.integers(0, 30))
def test_skipping_bytes_leaves_the_rest(buffers: list[bytes], n_bytes: int) -> None:
    assert b"".join(skip_bytes(buffers, n_bytes)) == b"".join(buffers)[n_bytes:]


def test_a_large_object_is_whole_after_early_writeback(server: FileServer) -> None:
    staged = server.begin(file_meta())
    piece = bytes(range(256)) * 4096
    for _ in range(70):
        staged.append([piece])
    (file,) = sealed(server, staged)
    assert file.digest == hashlib.sha256(file_meta() + piece * 70).digest()


def test_discarding_leaves_nothing_and_is_harmless_twice(server: FileServer, tmp_path: Path) -> None:
    staged = stage(server, dataset())
    staged.discard()
    staged.discard()
    assert [name for name in everything_below(tmp_path / "a") if name.startswith("objects")] == []
    (result,) = server.seal([staged])
    assert isinstance(result, ValueError)


def test_sealed_files_cannot_be_written_by_others(server: FileServer) -> None:
    (file,) = sealed(server, stage(server, dataset()))
    assert Path(server.pools.path(file)).stat().st_mode & 0o337 == 0


def test_an_object_without_a_pool_is_out_of_resources(make_pool: Callable[..., Pool]) -> None:
    server = FileServer(Pools([make_pool("a", read_only=True)]))
    with pytest.raises(OutOfResources):
        server.begin(file_meta()).append([b"x"])
    server.close()
