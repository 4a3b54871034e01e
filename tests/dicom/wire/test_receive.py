from __future__ import annotations

from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsd.dicom.wire.pdu import Abort, AssociateRequest, Pdu, PduError, ReleaseRequest, encode_pdu
from pacsd.dicom.wire.receive import DataFragment, PduReader

REQUEST = AssociateRequest("PACSD", "CT1", ())


def pdv(context_id: int, control: int, data: bytes) -> bytes:
    return (len(data) + 2).to_bytes(4, "big") + bytes((context_id, control)) + data


def p_data(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return b"\x04\0" + len(body).to_bytes(4, "big") + body


STREAM = b"".join(
    [
        encode_pdu(REQUEST),
        p_data(pdv(1, 3, b"command"), pdv(1, 0, b"first"), pdv(1, 0, b"")),
        p_data(pdv(1, 2, b"second")),
        p_data(pdv(3, 2, b"")),
        encode_pdu(ReleaseRequest()),
    ]
)
WHOLE = [
    REQUEST,
    (1, True, True, b"command"),
    (1, False, True, b"firstsecond"),
    (3, False, True, b""),
    ReleaseRequest(),
]


def collect(reader: PduReader, pieces: list[bytes]) -> list[Pdu | tuple[int, bool, bool, bytes]]:
    """What the reader gives, with the parts of each message put together."""
    received: list[Pdu | tuple[int, bool, bool, bytes]] = []
    data = b""
    for piece in pieces:
        for got in reader.feed(piece):
            if not isinstance(got, DataFragment):
                received.append(got)
                continue
            data += got.data
            if got.is_last:
                received.append((got.context_id, got.is_command, got.is_last, data))
                data = b""
    return received


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def error_of(data: bytes, reader: PduReader | None = None) -> PduError:
    with pytest.raises(PduError) as caught:
        list((reader or PduReader()).feed(data))
    return caught.value


def test_a_stream_is_read_the_same_whole_and_byte_by_byte() -> None:
    assert collect(PduReader(), [STREAM]) == WHOLE
    assert collect(PduReader(), [STREAM[at : at + 1] for at in range(len(STREAM))]) == WHOLE


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_a_stream_is_read_the_same_however_it_is_split(cuts: list[int]) -> None:
    reader = PduReader()
    assert collect(reader, split(STREAM, cuts)) == WHOLE
    assert not reader.is_inside_pdu


def test_a_huge_fragment_is_given_out_as_it_arrives_without_being_held() -> None:
    reader = PduReader(max_pdu_length=0)
    n_bytes = 100_000_000
    head = b"\x04\0" + (n_bytes + 6).to_bytes(4, "big") + (n_bytes + 2).to_bytes(4, "big") + b"\1\2"
    assert list(reader.feed(head)) == []
    block = bytes(1_000_000)
    lasts = []
    for _ in range(100):
        (fragment,) = reader.feed(block)
        assert isinstance(fragment, DataFragment)
        assert fragment.data.obj is block
        assert reader.n_held_bytes == 0
        lasts.append(fragment.is_last)
    assert [(last, len(list(run))) for last, run in groupby(lasts)] == [(False, 99), (True, 1)]


def test_an_unknown_type_is_refused_at_its_first_byte() -> None:
    assert error_of(b"\x08").reason == 1
    assert error_of(b"GET / HTTP/1.1\r\n").reason == 1


def test_an_oversize_pdu_is_refused_at_its_header() -> None:
    assert error_of(b"\x04\0\0\0\x40\x01", PduReader(max_pdu_length=0x4000)).reason == 6
    assert error_of(b"\x01\0\x7f\0\0\0").reason == 6
    assert error_of(b"\x05\0\0\0\0\x05").reason == 6
    assert list(PduReader(max_pdu_length=0x4000).feed(b"\x04\0\0\0\x40\0")) == []


@pytest.mark.parametrize(
    "data",
    [
        b"\x04\0\0\0\0\0",
        b"\x04\0\0\0\0\x05",
        b"\x07\0\0\0\0\x03",
        p_data(b"\0\0\0\1\1\2"),
        p_data(b"\0\0\0\x09\1\2abcd"),
        p_data(pdv(1, 2, b"abcd") + b"\0\0"),
        p_data(b"\xff\xff\xff\xff\1\2abcd"),
    ],
)
def test_contradicting_lengths_are_an_invalid_parameter(data: bytes) -> None:
    assert error_of(data).reason == 6


def test_what_came_before_an_error_is_given_and_nothing_after_it() -> None:
    reader = PduReader()
    receiving = reader.feed(encode_pdu(Abort(0, 0)) + b"\x63")
    assert next(receiving) == Abort(0, 0)
    with pytest.raises(PduError):
        next(receiving)
    assert list(reader.feed(STREAM)) == []
    assert reader.n_held_bytes == 0
