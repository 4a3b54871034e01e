"""What opening an association promises, and C-ECHO over it."""

from __future__ import annotations

from typing import Any

import pytest

from pacsd.dicom.association import Association, AssociationLost, AssociationRejected
from pacsd.dicom.dispatch import Request, Services
from pacsd.dicom.inbound import response_to
from pacsd.dicom.scu.connect import ConnectFailed, Proposal, Target, connect
from pacsd.dicom.scu.echo import PROPOSAL, echo
from pacsd.dicom.wire import dimse
from pacsd.dicom.wire.sop_classes import STUDY_ROOT_FIND, VERIFICATION
from tests.dicom.fakes import CT, EXPLICIT, Net


async def answer_echo(request: Request) -> None:
    request.association.respond(request.context.id, response_to(request.command, 0))


ECHO = Services({dimse.C_ECHO_RQ: answer_echo})
TARGET = Target("h", 104, "PACS")


def opened(net: Net, *proposals: Proposal, **options: Any) -> Association:
    return net.run(connect(net.network(), TARGET, "ME", proposals, **options))


def test_an_open_association_knows_what_was_negotiated() -> None:
    net = Net()
    host = net.listen(104, ECHO)
    association = opened(
        net, PROPOSAL, Proposal(CT, (EXPLICIT,), scu=False, scp=True), Proposal("1.2.840.10008.9.9", (EXPLICIT,))
    )
    assert (association.calling_ae, association.called_ae) == ("ME", "PACS")
    assert host.associations[0].calling_ae == "ME"
    ct = next(context for context in association.contexts.values() if context.abstract_syntax == CT)
    assert (ct.scu, ct.scp) == (False, True)
    assert [context.abstract_syntax for context in association.contexts.values()] == [VERIFICATION, CT]
    assert association.peer_max_pdu == net.settings.max_pdu_length


def test_extended_negotiation_is_kept_as_answered() -> None:
    net = Net()
    net.listen(104, ECHO)
    association = opened(net, Proposal(STUDY_ROOT_FIND, (EXPLICIT,)), extended={STUDY_ROOT_FIND: b"\x01\x00\x01"})
    assert association.extended == {STUDY_ROOT_FIND: b"\x01\x00\x01"}


def test_echo_gives_the_peers_status() -> None:
    net = Net()
    net.listen(104, ECHO)
    association = opened(net, PROPOSAL)
    assert net.run(echo(association)) == 0
    net.run(association.release())
    assert not association.is_open


def test_no_listener_is_a_failed_connection_that_names_the_peer() -> None:
    with pytest.raises(ConnectFailed, match="PACS"):
        opened(Net(), PROPOSAL)


def test_a_rejection_is_told_with_its_reason() -> None:
    net = Net()
    net.listen(104, ECHO, max_associations=0)
    with pytest.raises(AssociationRejected) as rejected:
        opened(net, PROPOSAL)
    assert (rejected.value.result, rejected.value.source, rejected.value.reason) == (2, 3, 2)


def test_an_association_that_can_carry_nothing_is_given_back() -> None:
    net = Net()
    host = net.listen(104, ECHO)
    with pytest.raises(ConnectFailed, match="accepts nothing"):
        opened(net, Proposal("1.2.840.10008.9.9", (EXPLICIT,)))
    assert not host.associations[0].is_open


def test_a_peer_that_aborts_instead_of_answering_is_a_lost_association() -> None:
    net = Net()
    host = net.listen(104, ECHO)
    host.acceptor.association_requested = lambda association, request: association.abort()  # type: ignore[method-assign]
    with pytest.raises(AssociationLost):
        opened(net, PROPOSAL)


def test_a_peer_that_never_answers_is_given_up() -> None:
    net = Net()
    host = net.listen(104, ECHO)
    host.acceptor.association_requested = lambda association, request: None  # type: ignore[method-assign]
    with pytest.raises(AssociationLost):
        net.run(connect(net.network(), TARGET, "ME", [PROPOSAL]), within_s=400.0)
    assert not [call for call in net.clock.getDelayedCalls() if call.getTime() > net.clock.seconds() + 400]
