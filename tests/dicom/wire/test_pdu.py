from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import (
    A_ABORT_RQ,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP,
    A_RELEASE_RQ,
)

from pacsd.dicom.wire.items import item
from pacsd.dicom.wire.pdu import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    CommonExtendedNegotiation,
    ExtendedNegotiation,
    Pdu,
    PduError,
    PresentationContextProposal,
    PresentationContextResult,
    ReleaseRequest,
    ReleaseResponse,
    RoleSelection,
    UserIdentity,
    UserInformation,
    decode_pdu,
    encode_pdu,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
REQUEST = AssociateRequest(
    "PACSD",
    "CT1",
    (
        PresentationContextProposal(1, CT, (EXPLICIT, IMPLICIT)),
        PresentationContextProposal(255, FIND, (IMPLICIT,)),
    ),
    UserInformation(
        max_pdu_length=131072,
        implementation_class_uid="1.2.3.4",
        implementation_version="MODALITY_1",
        async_window=(5, 0),
        role_selections=(RoleSelection(CT, scu=False, scp=True),),
        extended_negotiations=(ExtendedNegotiation(FIND, b"\1\0\1"),),
        common_extended_negotiations=(CommonExtendedNegotiation("1.2.3", "1.2.840.10008.4.2", (CT, "1.2.9")),),
        user_identity=UserIdentity(2, positive_response_requested=True, primary=b"meier", secondary=b"s3cret"),
    ),
)
ACCEPT = AssociateAccept(
    "PACSD",
    "CT1",
    (PresentationContextResult(1, 0, EXPLICIT), PresentationContextResult(255, 3, IMPLICIT)),
    UserInformation(
        max_pdu_length=0,
        implementation_class_uid="1.2.3.4",
        implementation_version="V",
        async_window=(1, 1),
        user_identity_response=b"ticket",
    ),
)
SIMPLE: list[Pdu] = [AssociateReject(2, 3, 2), ReleaseRequest(), ReleaseResponse(), Abort(2, 6)]
TITLES = bytes((0, 1, 0, 0)) + b"PACSD".ljust(16) + b"CT1".ljust(16) + bytes(32)


def decode(encoded: bytes) -> Pdu:
    assert int.from_bytes(encoded[2:6], "big") == len(encoded) - 6
    return decode_pdu(encoded[0], encoded[6:])


def reason_of(pdu_type: int, body: bytes) -> int:
    with pytest.raises(PduError) as caught:
        decode_pdu(pdu_type, body)
    assert caught.value.source == 2
    return caught.value.reason


@pytest.mark.parametrize("pdu", [REQUEST, ACCEPT, *SIMPLE])
def test_what_is_encoded_is_read_back(pdu: Pdu) -> None:
    assert decode(encode_pdu(pdu)) == pdu


def test_pynetdicom_reads_our_request_and_writes_the_same_bytes() -> None:
    theirs = A_ASSOCIATE_RQ()
    theirs.decode(encode_pdu(REQUEST))
    assert theirs.called_ae_title.strip() == "PACSD"
    assert [context.context_id for context in theirs.presentation_context] == [1, 255]
    assert theirs.presentation_context[0].transfer_syntax == [EXPLICIT, IMPLICIT]
    assert theirs.user_information.maximum_length == 131072
    assert theirs.user_information.user_identity.primary_field == b"meier"
    assert theirs.user_information.role_selection[CT].scp_role
    assert decode(theirs.encode()) == REQUEST


def test_pynetdicom_reads_our_acceptance_and_writes_the_same_bytes() -> None:
    theirs = A_ASSOCIATE_AC()
    theirs.decode(encode_pdu(ACCEPT))
    assert [context.result for context in theirs.presentation_context] == [0, 3]
    assert theirs.presentation_context[0].transfer_syntax == EXPLICIT
    assert decode(theirs.encode()) == ACCEPT


@pytest.mark.parametrize(
    ("pdu", "their_type"),
    list(zip(SIMPLE, [A_ASSOCIATE_RJ, A_RELEASE_RQ, A_RELEASE_RP, A_ABORT_RQ], strict=True)),
)
def test_pynetdicom_agrees_on_the_short_pdus(pdu: Pdu, their_type: type) -> None:
    theirs = their_type()
    theirs.decode(encode_pdu(pdu))
    assert theirs.encode() == encode_pdu(pdu)


@pytest.mark.parametrize("title", [b" CT1", b"CT1\0\0\0", b"CT1\0garbage", b"\0CT1 \0", b"  CT1  "])
def test_ae_titles_lose_their_padding(title: bytes) -> None:
    body = TITLES[:20] + title.ljust(16) + bytes(32)
    request = decode_pdu(1, body)
    assert isinstance(request, AssociateRequest)
    assert request.calling_ae == "CT1"


def test_uids_lose_padding_unknown_items_are_passed_over_and_order_does_not_matter() -> None:
    context = bytes((3, 0, 0, 0)) + item(0x40, IMPLICIT.encode() + b"\0") + item(0x77, b"?") + item(0x30, b"1.2 ")
    user = item(0x99, b"??") + item(0x55, b"V ") + item(0x51, b"\0\0\x40\0")
    body = TITLES + item(0x50, user) + item(0x66, b"") + item(0x20, context) + item(0x10, b"1.2.3\0") + b"\0\0"
    request = decode_pdu(1, body)
    assert isinstance(request, AssociateRequest)
    assert request.application_context == "1.2.3"
    assert request.presentation_contexts == (PresentationContextProposal(3, "1.2", (IMPLICIT,)),)
    assert request.user_information == UserInformation(16384, implementation_version="V")


def test_a_request_without_user_information_gets_a_careful_maximum_length() -> None:
    request = decode_pdu(1, TITLES)
    assert isinstance(request, AssociateRequest)
    assert request.user_information.max_pdu_length == 16384


@pytest.mark.parametrize(
    "body",
    [
        TITLES[:-1],
        TITLES + b"\x20\0\xff\xff",
        TITLES + b"\x20\0\1",
        TITLES + item(0x20, b"\1\0"),
        TITLES + item(0x20, b"\2\0\0\0"),
        TITLES + item(0x20, b"\1\0\0\0") * 2,
        TITLES + b"".join(item(0x20, bytes((n, 0, 0, 0))) for n in range(1, 256, 2)) + item(0x20, b"\1\0\0\0"),
        TITLES + item(0x20, b"\1\0\0\0" + item(0x40, b"1") * 300),
        TITLES + item(0x66, b"") * 600,
        TITLES + item(0x50, item(0x99, b"") * 1100),
        TITLES + item(0x50, item(0x51, b"\0\0\0")),
        TITLES + item(0x50, item(0x53, b"\0")),
        TITLES + item(0x50, item(0x54, b"\0\x091.2")),
        TITLES + item(0x50, item(0x54, b"\0\x031.2\1")),
        TITLES + item(0x50, item(0x57, b"\0\x031.2\0\x031.2\0\x04\0\x091.")),
        TITLES + item(0x50, item(0x58, b"\1")),
        TITLES + item(0x50, item(0x58, b"\1\1\0\x05abc")),
    ],
)
def test_contradictions_are_an_invalid_parameter(body: bytes) -> None:
    assert reason_of(1, body) == 6


def test_each_error_names_its_reason() -> None:
    assert reason_of(0x42, b"") == 1
    assert reason_of(1, TITLES + item(0x21, b"\1\0\0\0")) == 5
    assert reason_of(2, TITLES + item(0x20, b"\1\0\0\0")) == 5
    assert reason_of(7, b"\0\0\0") == 6


def test_credentials_stay_out_of_representations() -> None:
    assert "meier" not in repr(REQUEST)
    assert "s3cret" not in repr(REQUEST)


def test_a_title_of_more_than_16_characters_is_not_sent() -> None:
    with pytest.raises(ValueError, match="16 characters"):
        encode_pdu(AssociateRequest("A" * 17, "B", ()))


UIDS = st.from_regex(r"[0-9](\.[0-9]{1,5}){1,6}", fullmatch=True)
AE_TITLES = st.from_regex(r"[A-Z]([A-Z0-9_ ]{0,14}[A-Z0-9])?", fullmatch=True)


@given(
    called=AE_TITLES,
    calling=AE_TITLES,
    contexts=st.lists(st.tuples(UIDS, st.lists(UIDS, max_size=4)), max_size=128),
    window=st.none() | st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)),
    identity=st.none()
    | st.builds(UserIdentity, st.integers(1, 5), st.booleans(), st.binary(max_size=99), st.binary(max_size=9)),
)
def test_any_request_is_read_back(
    called: str,
    calling: str,
    contexts: list[tuple[str, list[str]]],
    window: tuple[int, int] | None,
    identity: UserIdentity | None,
) -> None:
    proposals = tuple(
        PresentationContextProposal(2 * index + 1, abstract, tuple(transfers))
        for index, (abstract, transfers) in enumerate(contexts)
    )
    user = UserInformation(async_window=window, user_identity=identity)
    request = AssociateRequest(called, calling, proposals, user)
    assert decode(encode_pdu(request)) == request
