from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsd.model.errors import IntegrityError
from pacsd.storage.reader import FileReader, copy_file, file_digest, verify_digest
from pacsd.storage.server import FileServer
from tests.storage.conftest import EXPLICIT_LITTLE, dataset, file_meta, sealed, stage


def test_a_stored_object_is_read_back_from_its_data_set_on(server: FileServer) -> None:
    (file,) = sealed(server, stage(server, dataset()))
    with server.open(file) as reader:
        assert reader.transfer_syntax_uid == EXPLICIT_LITTLE
        buffer = bytearray(reader.size_bytes - reader.dataset_offset)
        assert reader.readinto(reader.dataset_offset, [memoryview(buffer)]) == len(buffer)
        assert buffer == dataset()


@given(st.lists(st.integers(0, 70), max_size=6), st.integers(0, 400))
def test_scattered_reads_fill_buffers_in_order_and_are_short_only_at_the_end(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], offset: int
) -> None:
    path = tmp_path_factory.mktemp("reader") / "x.dcm"
    whole = file_meta() + dataset()
    path.write_bytes(whole)
    buffers = [bytearray(size) for size in sizes]
    with FileReader(str(path)) as reader:
        reader.read_soon()
        n_read = reader.readinto(offset, [memoryview(buffer) for buffer in buffers])
    wanted = whole[offset : offset + sum(sizes)]
    assert n_read == len(wanted)
    assert b"".join(buffers)[:n_read] == wanted


def test_a_missing_file_and_one_of_another_size_are_integrity_errors(server: FileServer) -> None:
    (file,) = sealed(server, stage(server, dataset()))
    path = Path(server.pools.path(file))
    path.chmod(0o640)
    path.write_bytes(path.read_bytes()[:-1])
    assert not server.exists(file)
    with pytest.raises(IntegrityError):
        server.open(file)
    path.unlink()
    assert not server.exists(file)
    with pytest.raises(IntegrityError):
        server.open(file)


def test_same_dataset_looks_behind_the_meta_and_at_the_syntax(server: FileServer) -> None:
    (one,) = sealed(server, stage(server, dataset(), "1.2.3.4"))
    (other_meta,) = sealed(server, stage(server, dataset(), "1.2.3.4.55"))
    (other_data,) = sealed(server, stage(server, dataset(n_pixel_bytes=98) + b"xy"))
    staged = server.begin(file_meta(syntax="1.2.840.10008.1.2"))
    staged.append([dataset()])
    (other_syntax,) = sealed(server, staged)
    assert one.digest != other_meta.digest
    assert server.same_dataset(one, other_meta)
    assert server.same_dataset(one, one)
    assert not server.same_dataset(one, other_data)
    assert not server.same_dataset(one, other_syntax)


def test_digests_are_of_the_whole_file(server: FileServer) -> None:
    (file,) = sealed(server, stage(server, dataset(n_pixel_bytes=3_000_000)))
    path = server.pools.path(file)
    assert file_digest(path) == (file.digest, file.size_bytes)
    assert verify_digest(path, file)
    pieces: list[bytes] = []
    assert copy_file(path, pieces.append) == hashlib.sha256(b"".join(pieces)).digest() == file.digest
