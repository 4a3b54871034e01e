from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsd.dicom.wire.dimse import (
    C_ECHO_RQ,
    C_STORE_RQ,
    CEILING_PDU_LENGTH,
    HAS_DATASET,
    MAX_COMMAND_BYTES,
    MAX_GAPS,
    NO_DATASET,
    Command,
    CommandReceived,
    DatasetFragment,
    DimseError,
    MessageAssembler,
    encode_command,
    fragment,
    frame_into,
    message,
    payload_per_pdu,
    whole_pdus,
)
from pacsd.dicom.wire.receive import DataFragment, PduReader

STORE = Command(CommandField=C_STORE_RQ, MessageID=1, CommandDataSetType=HAS_DATASET)
ECHO = Command(CommandField=C_ECHO_RQ, MessageID=2, CommandDataSetType=NO_DATASET)


def part(context_id: int, data: bytes, *, is_command: bool, is_last: bool = True) -> DataFragment:
    return DataFragment(context_id, is_command, is_last, memoryview(data))


def data_of(pieces: list[CommandReceived | DatasetFragment]) -> bytes:
    """The data set in `pieces`, of which exactly the final one must be marked as last."""
    fragments = [piece for piece in pieces if isinstance(piece, DatasetFragment)]
    assert [piece.is_last for piece in fragments] == [False] * (len(pieces) - 1) + [True]
    return b"".join(piece.data for piece in fragments)


def read(pdus: bytes, max_pdu_length: int = 0) -> list[CommandReceived | DatasetFragment]:
    """What a peer with this limit makes of `pdus`."""
    assembler = MessageAssembler({1, 3})
    fragments = [got for got in PduReader(max_pdu_length).feed(pdus) if isinstance(got, DataFragment)]
    events = [assembler.receive(got) for got in fragments]
    return [event for event in events if event is not None]


@given(st.binary(max_size=3000), st.integers(128, 700))
def test_a_message_is_read_back_whatever_the_peers_limit(dataset: bytes, limit: int) -> None:
    received, *fragments = read(message(1, encode_command(STORE), dataset, limit), limit)
    assert received == CommandReceived(1, STORE, has_dataset=True)
    assert data_of(fragments) == dataset


def test_messages_follow_one_another_in_different_contexts() -> None:
    stream = message(1, encode_command(ECHO), None, 128) + message(3, encode_command(STORE), b"", 128)
    echo, store, end = read(stream)
    assert echo == CommandReceived(1, ECHO, has_dataset=False)
    assert store == CommandReceived(3, STORE, has_dataset=True)
    assert end == DatasetFragment(3, memoryview(b""), is_last=True)


def test_a_command_may_come_in_pieces_and_is_forgotten_when_complete() -> None:
    assembler = MessageAssembler()
    raw = encode_command(ECHO)
    assert assembler.receive(part(1, raw[:5], is_command=True, is_last=False)) is None
    assert assembler.n_held_bytes == 5
    assert assembler.receive(part(1, raw[5:], is_command=True)) == CommandReceived(1, ECHO, has_dataset=False)
    assert assembler.is_idle
    assert assembler.n_held_bytes == 0


def test_the_data_set_is_passed_on_without_a_copy() -> None:
    assembler = MessageAssembler()
    assembler.receive(part(1, encode_command(STORE), is_command=True))
    piece = part(1, b"pixels", is_command=False, is_last=False)
    passed = assembler.receive(piece)
    assert isinstance(passed, DatasetFragment)
    assert passed.data is piece.data
    assert assembler.receive(part(1, b"", is_command=False, is_last=False)) is None


STORE_PART = part(1, encode_command(STORE), is_command=True)
DATA_PART = part(1, b"x", is_command=False, is_last=False)


@pytest.mark.parametrize(
    "parts",
    [
        [part(5, encode_command(ECHO), is_command=True)],
        [DATA_PART],
        [part(1, encode_command(ECHO), is_command=True), DATA_PART],
        [STORE_PART, STORE_PART],
        [STORE_PART, DATA_PART, STORE_PART],
        [STORE_PART, part(3, b"x", is_command=False)],
        [part(1, b"\0", is_command=True, is_last=False), DATA_PART],
        [part(1, b"\0", is_command=True, is_last=False), part(3, b"\0", is_command=True)],
        [part(1, bytes(MAX_COMMAND_BYTES), is_command=True, is_last=False), part(1, b"\0", is_command=True)],
        [part(1, b"\0\0\0", is_command=True)],
    ],
)
def test_fragments_out_of_order_are_an_error(parts: list[DataFragment]) -> None:
    assembler = MessageAssembler({1, 3})
    for good in parts[:-1]:
        assembler.receive(good)
    with pytest.raises(DimseError) as caught:
        assembler.receive(parts[-1])
    assert (caught.value.source, caught.value.reason) == (2, 6)


def test_a_payload_that_fits_is_one_chunk_and_a_larger_one_is_not_copied() -> None:
    assert len(fragment(1, bytes(122), False, 128)) == 1
    payload = bytes(300)
    chunks = fragment(1, payload, False, 128)
    assert [len(chunk) for chunk in chunks] == [12, 122, 12, 122, 12, 56]
    assert all(chunk.obj is payload for chunk in chunks[1::2] if isinstance(chunk, memoryview))


@pytest.mark.parametrize(
    ("limit", "payload"),
    [
        (0, CEILING_PDU_LENGTH - 6),
        (1 << 31, CEILING_PDU_LENGTH - 6),
        (16384, 16378),
        (16383, 16376),
        (1, 122),
    ],
)
def test_pdus_are_even_within_the_peers_limit_and_within_ours(limit: int, payload: int) -> None:
    assert payload_per_pdu(limit) == payload


def test_a_file_is_read_straight_between_the_headers(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    path = tmp_path / "object"
    path.write_bytes(content)
    limit = 1024
    stream = message(1, encode_command(STORE), None, limit)
    with path.open("rb") as file:
        at = 0
        while at < len(content):
            size = min(whole_pdus(3000, limit), len(content) - at)
            frame, gaps = frame_into(size, 1, at + size == len(content), limit)
            assert os.preadv(file.fileno(), gaps, at) == size
            stream += frame
            at += size
    _, *fragments = read(stream, limit)
    assert data_of(fragments) == content


def test_an_empty_data_set_is_framed_too() -> None:
    frame, gaps = frame_into(0, 1, True, 16384)
    assert bytes(frame) == message(1, b"", None, 16384)[:11] + b"\2"
    assert [len(gap) for gap in gaps] == [0]


def test_no_frame_needs_more_gaps_than_one_vectored_read_takes() -> None:
    assert whole_pdus(1 << 30, 128) == 122 * MAX_GAPS
    assert whole_pdus(1, 128) == 122
    assert len(frame_into(122 * MAX_GAPS, 1, False, 128)[1]) == MAX_GAPS
    with pytest.raises(ValueError, match="more than"):
        frame_into(122 * MAX_GAPS + 1, 1, False, 128)
