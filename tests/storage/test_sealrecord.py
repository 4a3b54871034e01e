from __future__ import annotations

import hashlib
import os
import tempfile

from hypothesis import given
from hypothesis import strategies as st

from pacsd.storage.sealrecord import PAGE_BYTES, Record, encode, read_record, records

contents = st.lists(st.tuples(st.integers(1, 2048), st.binary(max_size=300), st.integers(1, 50)), max_size=8)


def made(parts: list[tuple[int, bytes, int]]) -> list[Record]:
    data = [piece * times for _, piece, times in parts]
    return [
        Record(f"objects/2026/01/02/run-{number}", hashlib.sha256(one).digest(), one, number << 40)
        for (number, _, _), one in zip(parts, data, strict=True)
    ]


def written(file: tempfile._TemporaryFileWrapper[bytes], these: list[Record], generation: int) -> list[int]:
    offsets, offset = [], 0
    for one in these:
        buffers, n_bytes = encode(one, generation)
        assert os.pwritev(file.fileno(), buffers, offset) == n_bytes
        assert n_bytes % PAGE_BYTES == 0
        offsets.append(offset)
        offset += n_bytes
    return offsets


@given(contents, st.integers(0, 2**63))
def test_records_read_back_in_order_with_their_places(parts: list[tuple[int, bytes, int]], generation: int) -> None:
    these = made(parts)
    with tempfile.NamedTemporaryFile() as file:
        offsets = written(file, these, generation)
        os.ftruncate(file.fileno(), 1 << 20)
        assert list(records(file.fileno())) == list(zip(offsets, these, strict=True))
        for offset, one in zip(offsets, these, strict=True):
            assert read_record(file.fileno(), offset, generation) == one
            assert read_record(file.fileno(), offset, generation + 1) is None


@given(contents.filter(bool), st.data())
def test_whatever_byte_changes_only_whole_records_before_it_are_read(
    parts: list[tuple[int, bytes, int]], data: st.DataObject
) -> None:
    these = made(parts)
    with tempfile.NamedTemporaryFile() as file:
        offsets = written(file, these, 7)
        place = data.draw(st.integers(0, len(these) - 1))
        n_record = 68 + len(these[place].directory) + len(these[place].data)
        at = offsets[place] + data.draw(st.integers(0, n_record - 1))
        (before,) = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([before ^ data.draw(st.integers(1, 255))]), at)
        found = [one for _, one in records(file.fileno())]
        assert found == these[:place] or (at == offsets[0] + 8 and not found)


@given(contents.filter(bool), st.data())
def test_a_file_that_ends_early_gives_the_records_that_are_whole(
    parts: list[tuple[int, bytes, int]], data: st.DataObject
) -> None:
    these = made(parts)
    with tempfile.NamedTemporaryFile() as file:
        offsets = written(file, these, 7)
        end = data.draw(st.integers(0, offsets[-1] + PAGE_BYTES))
        os.ftruncate(file.fileno(), end)
        whole = [
            one
            for offset, one in zip(offsets, these, strict=True)
            if offset + 68 + len(one.directory) + len(one.data) <= end
        ]
        assert [one for _, one in records(file.fileno())] == whole


@given(contents.filter(bool), contents.filter(bool))
def test_what_an_earlier_generation_left_is_not_read(
    old: list[tuple[int, bytes, int]], new: list[tuple[int, bytes, int]]
) -> None:
    with tempfile.NamedTemporaryFile() as file:
        written(file, made(old), 7)
        written(file, made(new), 8)
        assert [one for _, one in records(file.fileno())] == made(new)


@given(st.binary(max_size=3 * PAGE_BYTES))
def test_noise_holds_no_record(noise: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        os.pwrite(file.fileno(), noise, 0)
        assert list(records(file.fileno())) == []
