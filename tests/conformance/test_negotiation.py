"""What an association may carry: PS3.8 §7.1 and PS3.7 Annex D as cases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pacsd.dicom.wire.negotiate import Accept, NegotiatedContext, Policy, Reject, accepted_contexts, negotiate
from pacsd.dicom.wire.pdu import (
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    CommonExtendedNegotiation,
    ExtendedNegotiation,
    PresentationContextProposal,
    PresentationContextResult,
    RoleSelection,
    UserIdentity,
    UserInformation,
    encode_pdu,
)
from pacsd.dicom.wire.sop_classes import (
    STORAGE_COMMITMENT_PUSH,
    STORAGE_SERVICE_CLASS,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    VERIFICATION,
)

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, JPEG, J2K = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
UNKNOWN_SYNTAX = "1.2.840.113619.5.2"
CT = "1.2.840.10008.5.1.4.1.1.2"
PRIVATE = "1.3.12.2.1107.5.9.1"
PRINT = "1.2.840.10008.5.1.1.9"
MESSAGES = (EXPLICIT, IMPLICIT)
POLICY = Policy(
    ae_titles=frozenset({"PACSD", "ARCHIVE"}),
    supported=dict.fromkeys(
        (VERIFICATION, STUDY_ROOT_FIND, STUDY_ROOT_GET, STORAGE_COMMITMENT_PUSH), MESSAGES
    ),
    storage_classes=frozenset({CT}),
    max_pdu_length=131072,
    async_window=(8, 1),
)


def request(*contexts: tuple[str, tuple[str, ...]], user: UserInformation | None = None) -> AssociateRequest:
    proposals = tuple(
        PresentationContextProposal(2 * index + 1, abstract, transfers)
        for index, (abstract, transfers) in enumerate(contexts)
    )
    return AssociateRequest("PACSD", "CT1", proposals, user or UserInformation())


def accepted(asked: AssociateRequest, policy: Policy = POLICY) -> Accept:
    outcome = negotiate(asked, policy)
    assert isinstance(outcome, Accept)
    assert encode_pdu(outcome.answer)
    return outcome


def result(asked: AssociateRequest, policy: Policy = POLICY) -> tuple[int, str]:
    (only,) = accepted(asked, policy).answer.presentation_results
    return only.result, only.transfer_syntax


@pytest.mark.parametrize(
    ("asked", "policy", "answer"),
    [
        (replace(request(), protocol_version=2), POLICY, (1, 2, 2)),
        (replace(request(), application_context="1.2"), POLICY, (1, 1, 2)),
        (replace(request(), application_context=""), POLICY, (1, 1, 2)),
        (replace(request(), called_ae="OTHER"), POLICY, (1, 1, 7)),
        (replace(request(), called_ae="pacsd"), POLICY, (1, 1, 7)),
        (request(), replace(POLICY, calling_allowed=False), (1, 1, 3)),
        (request(), replace(POLICY, is_at_limit=True), (2, 3, 2)),
        (request(), replace(POLICY, identity_allowed=False), (1, 1, 1)),
    ],
)
def test_a_refusal_names_result_source_and_reason(
    asked: AssociateRequest, policy: Policy, answer: tuple[int, int, int]
) -> None:
    outcome = negotiate(asked, policy)
    assert isinstance(outcome, Reject)
    assert outcome.answer == AssociateReject(*answer)


def test_any_called_title_is_taken_where_the_site_says_so() -> None:
    accepted(replace(request(), called_ae="WHOEVER"), replace(POLICY, ae_titles=frozenset({""})))


def test_an_association_without_a_usable_context_is_still_accepted() -> None:
    outcome = accepted(request((PRINT, (IMPLICIT,))))
    assert outcome.contexts == {}
    assert [one.result for one in outcome.answer.presentation_results] == [3]


def test_the_answer_repeats_titles_and_tells_our_limit_and_implementation() -> None:
    answer = accepted(request()).answer
    assert (answer.called_ae, answer.calling_ae) == ("PACSD", "CT1")
    assert answer.user_information.max_pdu_length == 131072
    assert answer.user_information.implementation_class_uid.startswith("2.25.")
    assert answer.user_information.implementation_version == "PACSD"


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ((J2K, EXPLICIT, IMPLICIT), J2K),
        ((EXPLICIT, J2K), EXPLICIT),
        ((IMPLICIT, EXPLICIT), EXPLICIT),
        ((IMPLICIT, EXPLICIT, DEFLATED, BIG), EXPLICIT),
        ((BIG, EXPLICIT), EXPLICIT),
        ((BIG, IMPLICIT), BIG),
        ((IMPLICIT, JPEG), IMPLICIT),
        ((IMPLICIT,), IMPLICIT),
        ((UNKNOWN_SYNTAX, IMPLICIT), UNKNOWN_SYNTAX),
        (("not a uid", IMPLICIT), IMPLICIT),
    ],
)
def test_a_storage_context_gets_what_changes_the_senders_object_least(
    proposed: tuple[str, ...], chosen: str
) -> None:
    assert result(request((CT, proposed))) == (0, chosen)


def test_only_listed_syntaxes_are_kept_where_the_site_says_so() -> None:
    strict = replace(POLICY, accept_any_transfer_syntax=False)
    assert result(request((CT, (J2K, IMPLICIT))), strict) == (0, IMPLICIT)
    assert result(request((CT, (J2K,))), strict) == (4, J2K)


@pytest.mark.parametrize(
    ("proposed", "expected"),
    [
        ((IMPLICIT, EXPLICIT), (0, EXPLICIT)),
        ((BIG, IMPLICIT), (0, IMPLICIT)),
        ((J2K,), (4, J2K)),
        ((), (4, IMPLICIT)),
    ],
)
def test_a_query_context_gets_our_preference(proposed: tuple[str, ...], expected: tuple[int, str]) -> None:
    assert result(request((STUDY_ROOT_FIND, proposed))) == expected


@pytest.mark.parametrize(
    ("abstract", "any_storage", "listed_only"), [(CT, 0, 0), (PRIVATE, 0, 3), (PRINT, 3, 3), ("", 3, 3)]
)
def test_unknown_classes_are_storage_only_where_the_site_says_so(
    abstract: str, any_storage: int, listed_only: int
) -> None:
    asked = request((abstract, (EXPLICIT,)))
    assert result(asked)[0] == any_storage
    assert result(asked, replace(POLICY, accept_any_storage=False))[0] == listed_only


def test_a_class_that_its_sender_declares_as_related_to_a_known_one_is_storage() -> None:
    strict = replace(POLICY, accept_any_storage=False)
    related = CommonExtendedNegotiation(PRIVATE, STORAGE_SERVICE_CLASS, (CT,))
    unrelated = CommonExtendedNegotiation(PRIVATE, STORAGE_SERVICE_CLASS, ("1.2.3",))
    for common, expected in ((related, 0), (unrelated, 3)):
        user = UserInformation(common_extended_negotiations=(common,))
        assert result(request((PRIVATE, (EXPLICIT,)), user=user), strict)[0] == expected


@pytest.mark.parametrize(
    ("sop_class", "proposed", "answered"),
    [
        (CT, (False, True), (False, True)),
        (CT, (True, True), (True, True)),
        (CT, (True, False), (True, False)),
        (STORAGE_COMMITMENT_PUSH, (False, True), (False, True)),
        (STORAGE_COMMITMENT_PUSH, (True, True), (True, True)),
        (STUDY_ROOT_FIND, (True, True), (True, False)),
    ],
)
def test_a_role_is_accepted_where_we_are_its_counterpart(
    sop_class: str, proposed: tuple[bool, bool], answered: tuple[bool, bool]
) -> None:
    role = RoleSelection(sop_class, scu=proposed[0], scp=proposed[1])
    outcome = accepted(request((sop_class, (EXPLICIT,)), user=UserInformation(role_selections=(role,))))
    (answer,) = outcome.answer.user_information.role_selections
    assert (answer.scu, answer.scp) == answered
    assert (outcome.contexts[1].requestor_scu, outcome.contexts[1].requestor_scp) == answered


def test_without_role_selection_the_requestor_is_scu() -> None:
    outcome = accepted(request((CT, (EXPLICIT,))))
    assert outcome.contexts == {
        1: NegotiatedContext(1, CT, EXPLICIT, requestor_scu=True, requestor_scp=False)
    }
    assert outcome.answer.user_information.role_selections == ()


def test_a_context_that_is_left_without_a_role_is_refused() -> None:
    role = RoleSelection(STUDY_ROOT_FIND, scu=False, scp=True)
    outcome = accepted(request((STUDY_ROOT_FIND, (EXPLICIT,)), user=UserInformation(role_selections=(role,))))
    assert [one.result for one in outcome.answer.presentation_results] == [1]
    assert outcome.answer.user_information.role_selections == ()


@pytest.mark.parametrize(
    ("sop_class", "asked", "answered"),
    [
        (STUDY_ROOT_FIND, b"\1\1\1\1", b"\1\1\1\1"),
        (STUDY_ROOT_FIND, b"\1\0\1", b"\1\0\1"),
        (STUDY_ROOT_FIND, b"\1\1\1\1\1\1", b"\1\1\1\1"),
        (STUDY_ROOT_FIND, b"", b""),
        (STUDY_ROOT_GET, b"\1\1", b"\1"),
        (CT, b"\0\0\0\0\0\0", b"\2\0\0\0\1\0"),
    ],
)
def test_extended_negotiation_is_answered_by_what_both_can(
    sop_class: str, asked: bytes, answered: bytes
) -> None:
    user = UserInformation(extended_negotiations=(ExtendedNegotiation(sop_class, asked),))
    outcome = accepted(request((sop_class, (EXPLICIT,)), user=user))
    assert outcome.extended == {sop_class: answered}
    assert outcome.answer.user_information.extended_negotiations == (
        ExtendedNegotiation(sop_class, answered),
    )


def test_extended_negotiation_of_a_refused_class_is_not_answered() -> None:
    user = UserInformation(extended_negotiations=(ExtendedNegotiation(STUDY_ROOT_FIND, b"\1"),))
    assert accepted(request((STUDY_ROOT_FIND, (J2K,)), user=user)).extended == {}


@pytest.mark.parametrize(
    ("asked", "ours", "answered"),
    [((4, 4), (8, 1), (4, 1)), ((0, 0), (8, 1), (8, 1)), ((5, 5), (0, 0), (5, 5)), ((0, 0), (0, 0), (0, 0))],
)
def test_the_window_is_the_stricter_of_both(
    asked: tuple[int, int], ours: tuple[int, int], answered: tuple[int, int]
) -> None:
    outcome = accepted(request(user=UserInformation(async_window=asked)), replace(POLICY, async_window=ours))
    assert outcome.async_window == answered
    assert outcome.answer.user_information.async_window == answered


def test_a_peer_that_asks_for_no_window_gets_one_operation_at_a_time() -> None:
    outcome = accepted(request())
    assert outcome.async_window == (1, 1)
    assert outcome.answer.user_information.async_window is None


@pytest.mark.parametrize("identity_type", [1, 2, 3, 4, 5])
def test_a_user_identity_is_confirmed_only_when_asked_and_checked(identity_type: int) -> None:
    for wanted, response, expected in (
        (True, b"", b""),
        (True, None, None),
        (False, b"t", None),
        (True, b"t", b"t"),
    ):
        identity = UserIdentity(identity_type, wanted, b"meier")
        asked = request(user=UserInformation(user_identity=identity))
        answer = accepted(asked, replace(POLICY, identity_response=response)).answer
        assert answer.user_information.user_identity_response == expected


def test_a_requestor_uses_only_what_it_proposed_and_the_peer_accepted() -> None:
    user = UserInformation(role_selections=(RoleSelection(CT, scu=False, scp=True),))
    asked = request(
        (CT, (EXPLICIT, J2K)), (STUDY_ROOT_GET, (EXPLICIT,)), (VERIFICATION, (IMPLICIT,)), user=user
    )
    answer = AssociateAccept(
        "PACSD",
        "CT1",
        (
            PresentationContextResult(1, 0, J2K),
            PresentationContextResult(3, 3, EXPLICIT),
            PresentationContextResult(5, 0, JPEG),
            PresentationContextResult(7, 0, EXPLICIT),
        ),
        UserInformation(role_selections=(RoleSelection(CT, scu=True, scp=True),)),
    )
    assert accepted_contexts(asked, answer) == {
        1: NegotiatedContext(1, CT, J2K, requestor_scu=False, requestor_scp=True)
    }


def test_both_sides_read_the_same_contexts_from_one_negotiation() -> None:
    user = UserInformation(role_selections=(RoleSelection(CT, scu=True, scp=True),))
    asked = request((CT, (IMPLICIT, EXPLICIT)), (STUDY_ROOT_GET, MESSAGES), (PRINT, MESSAGES), user=user)
    outcome = accepted(asked)
    assert accepted_contexts(asked, outcome.answer) == outcome.contexts
    assert set(outcome.contexts) == {1, 3}
