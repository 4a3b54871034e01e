from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode as pynetdicom_decode
from pynetdicom.dsutils import encode as pynetdicom_encode

from pacsd.dicom.wire.command import (
    C_CANCEL_RQ,
    C_MOVE_RSP,
    C_STORE_RQ,
    C_STORE_RSP,
    KEYWORDS,
    NO_DATASET,
    TAGS,
    Command,
    DimseError,
    decode_command,
    encode_command,
    encode_store_response,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
STORE = Command(
    AffectedSOPClassUID=CT,
    CommandField=C_STORE_RQ,
    MessageID=7,
    Priority=0,
    CommandDataSetType=1,
    AffectedSOPInstanceUID="1.2.3",
    MoveOriginatorApplicationEntityTitle="WS1",
    MoveOriginatorMessageID=9,
)


def element(tag: int, value: bytes, group: int = 0) -> bytes:
    return group.to_bytes(2, "little") + tag.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value


MINIMAL = element(0x0100, b"\x30\0") + element(0x0110, b"\1\0")


def read_by_pydicom(encoded: bytes) -> Dataset:
    return pynetdicom_decode(io.BytesIO(encoded), True, True)


def test_fields_are_read_by_keyword_and_by_tag() -> None:
    assert STORE.MessageID == STORE[0x0110] == STORE[TAGS["MessageID"]] == 7
    assert STORE.Status is None
    with pytest.raises(AttributeError):
        _ = STORE.PatientName
    with pytest.raises(AttributeError):
        STORE.PatientName = "no"


def test_none_removes_a_field() -> None:
    command = Command(STORE, Priority=None)
    assert TAGS["Priority"] not in command
    assert STORE.Priority == 0


def test_pydicom_reads_our_commands_and_we_read_its() -> None:
    theirs = read_by_pydicom(encode_command(STORE))
    assert theirs.AffectedSOPClassUID == CT
    assert theirs.MoveOriginatorApplicationEntityTitle == "WS1"
    assert theirs.MessageID == 7
    assert theirs.CommandGroupLength == len(encode_command(STORE)) - 12
    encoded = pynetdicom_encode(theirs, True, True)
    assert encoded is not None
    assert decode_command(encoded) == STORE


def test_tags_agree_with_pydicoms_dictionary() -> None:
    ours = {tag: keyword for tag, keyword in KEYWORDS.items() if keyword_for_tag(tag)}
    assert ours == {tag: keyword_for_tag(tag) for tag in ours}
    assert len(ours) == len(KEYWORDS)


def test_a_response_with_lists_of_tags_and_a_comment_is_read_back() -> None:
    response = Command(
        CommandField=C_MOVE_RSP,
        MessageIDBeingRespondedTo=3,
        CommandDataSetType=NO_DATASET,
        Status=0xA900,
        OffendingElement=(0x00100020, 0x0020000D),
        ErrorComment="odd",
        NumberOfRemainingSuboperations=0xFFFF,
    )
    assert decode_command(encode_command(response)) == response
    assert read_by_pydicom(encode_command(response)).OffendingElement == [0x00100020, 0x0020000D]


def test_the_store_response_is_what_the_general_encoder_gives() -> None:
    request = decode_command(encode_command(STORE))
    general = Command(
        AffectedSOPClassUID=CT,
        CommandField=C_STORE_RSP,
        MessageIDBeingRespondedTo=7,
        CommandDataSetType=NO_DATASET,
        Status=0xB000,
        ErrorComment="coerced",
        AffectedSOPInstanceUID="1.2.3",
    )
    assert encode_store_response(request, 0xB000, "coerced") == encode_command(general)
    assert encode_store_response(request, 0xB000) == encode_command(Command(general, ErrorComment=None))


def test_oddities_of_devices_are_read() -> None:
    command = decode_command(
        element(0x0700, b"\0\0\0\0")
        + element(0x1000, b" 1.2.3\0\0 ")
        + element(0x0110, b"\5\0")
        + element(0x0100, b"\1\0")
        + element(0x0000, b"\xff\xff\0\0")
        + element(0x0903, b"")
        + element(0x5110, b"?")
    )
    assert command == Command({0x5110: b"?"}, Priority=0, AffectedSOPInstanceUID="1.2.3", MessageID=5, CommandField=1)
    assert command.has_dataset
    assert not command.is_response


def test_an_absent_data_set_type_follows_from_the_kind_of_message() -> None:
    assert not decode_command(MINIMAL).has_dataset
    assert not Command(CommandField=C_CANCEL_RQ).has_dataset


def test_a_number_with_too_many_bytes_still_can_be_answered() -> None:
    request = decode_command(element(0x0100, b"\1\0\xff\xff") + element(0x0110, b"\5\0\xff\xff"))
    assert (request.CommandField, request.MessageID) == (C_STORE_RQ, 5)
    answer = decode_command(encode_store_response(request, 0))
    assert answer.MessageIDBeingRespondedTo == 5


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        MINIMAL + b"\0\0\0",
        MINIMAL + b"\0\0\0\x10\xff\xff\xff\xff",
        MINIMAL + element(0x0010, b"", group=8),
        element(0x0110, b"\1\0"),
        element(0x0100, b"\1\0"),
        element(0x0100, b"\1\x80") + element(0x0110, b"\1\0"),
        element(0x0100, b"") + element(0x0110, b"\1\0"),
    ],
)
def test_what_cannot_be_answered_is_an_error(raw: bytes) -> None:
    with pytest.raises(DimseError):
        decode_command(raw)


def test_a_number_out_of_range_is_not_sent() -> None:
    with pytest.raises(ValueError, match="MessageID"):
        encode_command(Command(MessageID=70_000))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_are_a_dimse_error(raw: bytes) -> None:
    try:
        command = decode_command(MINIMAL + raw)
    except DimseError:
        return
    assert decode_command(encode_command(command)) is not None
