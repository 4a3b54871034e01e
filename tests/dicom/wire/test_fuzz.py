"""Whatever a peer sends: an answer by the protocol, no other error, no growth.

`fuzz/` holds inputs that are kept for ever.
"""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacsd.dicom.wire.association import AssociationMachine, AssociationRequested, DataFragment
from pacsd.dicom.wire.dimse import (
    C_STORE_RQ,
    HAS_DATASET,
    Command,
    CommandReceived,
    DatasetFragment,
    DimseError,
    MessageAssembler,
    encode_command,
    encode_store_response,
    message,
)
from pacsd.dicom.wire.negotiate import Accept, Policy, negotiate
from pacsd.dicom.wire.part10 import Part10Error, decode_file_meta
from pacsd.dicom.wire.pdu import (
    AssociateRequest,
    CommonExtendedNegotiation,
    ExtendedNegotiation,
    PresentationContextProposal,
    ReleaseRequest,
    RoleSelection,
    UserIdentity,
    UserInformation,
    encode_pdu,
)

MAX_PDU = 4096
MAX_ASSOCIATION_PDU = 8192
CT = "1.2.840.10008.5.1.4.1.1.2"
REQUEST = encode_pdu(
    AssociateRequest(
        "PACSD",
        "CT1",
        (PresentationContextProposal(1, CT, ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")),),
        UserInformation(
            async_window=(0, 0),
            role_selections=(RoleSelection(CT, scu=True, scp=True),),
            extended_negotiations=(ExtendedNegotiation(CT, bytes(6)),),
            common_extended_negotiations=(CommonExtendedNegotiation("1.2", "1.3", ("1.4", "1.5")),),
            user_identity=UserIdentity(1, positive_response_requested=True, primary=b"me"),
        ),
    )
)
STORE = Command(
    AffectedSOPClassUID=CT,
    CommandField=C_STORE_RQ,
    MessageID=1,
    CommandDataSetType=HAS_DATASET,
    AffectedSOPInstanceUID="1.2.3",
)
DATA = message(1, encode_command(STORE), bytes(5000), 1024)
CONVERSATION = REQUEST + DATA + encode_pdu(ReleaseRequest())
SAVED = sorted(Path(__file__).with_name("fuzz").glob("*.bin"))


def converse(data: bytes, piece_bytes: int, opening: bytes = b"") -> None:
    """Play an acceptor against `opening` at once and `data` in pieces; raises whatever isn't foreseen."""
    machine = AssociationMachine("acceptor", MAX_PDU, MAX_ASSOCIATION_PDU)
    machine.transport_connected()
    assembler = MessageAssembler({1})
    for piece in [opening, *(data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes))]:
        for event in machine.receive(piece):
            if isinstance(event, AssociationRequested):
                outcome = negotiate(event.request, Policy(identity_response=b"ok"))
                if isinstance(outcome, Accept):
                    machine.accept(outcome.answer)
                else:
                    machine.reject(outcome.answer.result, outcome.answer.source, outcome.answer.reason)
            elif isinstance(event, DataFragment):
                answer_message(assembler, event, machine)
        assert machine.n_held_bytes <= MAX_ASSOCIATION_PDU
        assert assembler.n_held_bytes <= assembler.max_command_bytes
    assert len(machine.data_to_send()) < 200_000
    machine.transport_closed()


def answer_message(assembler: MessageAssembler, fragment: DataFragment, machine: AssociationMachine) -> None:
    try:
        received = assembler.receive(fragment)
    except DimseError as error:
        machine.abort(error.source, error.reason)
        return
    if isinstance(received, CommandReceived) and received.command.CommandField == C_STORE_RQ:
        assert encode_store_response(received.command, 0xC000)
    elif isinstance(received, DatasetFragment):
        assert len(received.data) <= MAX_PDU


def mutate(data: bytes, seed: int, n_changes: int) -> bytes:
    source = random.Random(seed)
    changed = bytearray(data)
    for _ in range(n_changes):
        at = source.randrange(len(changed))
        kind = source.randrange(4)
        if kind == 0:
            changed[at] = source.choice((0, 1, 2, 4, 0x7F, 0x80, 0xFF))
        elif kind == 1:
            changed[at] ^= 1 << source.randrange(8)
        elif kind == 2 and len(changed) > 20:
            del changed[at : at + source.randrange(8)]
        else:
            changed[at:at] = source.randbytes(source.randrange(8))
    return bytes(changed)


@pytest.mark.parametrize("path", SAVED, ids=[path.stem for path in SAVED])
def test_saved_inputs_are_answered_by_the_protocol(path: Path) -> None:
    data = path.read_bytes()
    for piece_bytes in (1, 7, len(data) or 1):
        converse(data, piece_bytes)
        converse(data, piece_bytes, REQUEST)
    with contextlib.suppress(Part10Error):
        decode_file_meta(data)


def test_there_are_saved_inputs() -> None:
    assert len(SAVED) >= 10


@given(st.binary(max_size=400), st.integers(1, 400))
def test_random_bytes_are_answered_by_the_protocol(data: bytes, piece_bytes: int) -> None:
    converse(data, piece_bytes)
    converse(data, piece_bytes, REQUEST)


@given(st.sampled_from([1, 2, 3, 4, 5, 6, 7]), st.binary(max_size=200))
def test_random_bodies_under_good_headers_are_answered_by_the_protocol(pdu_type: int, body: bytes) -> None:
    pdu = bytes((pdu_type, 0)) + len(body).to_bytes(4, "big") + body
    converse(pdu, 1000)
    converse(pdu, 1000, REQUEST)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 6), st.sampled_from([3, 100, 10_000]))
def test_mutated_conversations_are_answered_by_the_protocol(seed: int, n_changes: int, piece_bytes: int) -> None:
    converse(mutate(CONVERSATION, seed, n_changes), piece_bytes)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 6))
def test_mutated_requests_and_data_are_answered_by_the_protocol(seed: int, n_changes: int) -> None:
    converse(mutate(REQUEST, seed, n_changes), 10_000)
    converse(mutate(DATA, seed, n_changes), 10_000, REQUEST)
