"""Decide what an association may carry: request and policy in, answer out (PS3.8 §7.1, PS3.7 Annex D).

Transfer syntax of a storage context. A context gets one syntax, and what a sender has must not be changed on
the way:

1. The proposer's first syntax that we keep; senders put first what they hold or prefer.
2. Except when that is implicit little endian or (retired) explicit big endian and explicit little endian is
   proposed too: then that one. Senders list implicit VR first because it's the default, not because they hold
   it, and it loses the VRs of private attributes.
3. Never is an encapsulated syntax preferred to a native one that came first: the sender might compress.

Where the proposer will only receive (SCP of storage, for C-GET) what counts is what we can send: explicit little
endian, then implicit, since every object can become these; else its first. A proposer that wants objects as they are
stored proposes a context for each syntax.

Of any other context we take the first of our own preference that is proposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pacsd.dicom.wire.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from pacsd.dicom.wire.part10 import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from pacsd.dicom.wire.pdu import (
    APPLICATION_CONTEXT,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ExtendedNegotiation,
    PresentationContextProposal,
    PresentationContextResult,
    RoleSelection,
    UserInformation,
)
from pacsd.dicom.wire.receive import DEFAULT_MAX_PDU_LENGTH
from pacsd.dicom.wire.sop_classes import (
    FIND_CLASSES,
    GET_CLASSES,
    MOVE_CLASSES,
    STORAGE_COMMITMENT_PUSH,
    STORAGE_SERVICE_CLASS,
    is_storage,
    is_uid,
)

REJECTED_PERMANENT: Final = 1
REJECTED_TRANSIENT: Final = 2

NO_REASON_GIVEN: Final = AssociateReject(REJECTED_PERMANENT, 1, 1)
APPLICATION_CONTEXT_NOT_SUPPORTED: Final = AssociateReject(REJECTED_PERMANENT, 1, 2)
CALLING_AE_NOT_RECOGNISED: Final = AssociateReject(REJECTED_PERMANENT, 1, 3)
CALLED_AE_NOT_RECOGNISED: Final = AssociateReject(REJECTED_PERMANENT, 1, 7)
PROTOCOL_VERSION_NOT_SUPPORTED: Final = AssociateReject(REJECTED_PERMANENT, 2, 2)
TEMPORARY_CONGESTION: Final = AssociateReject(REJECTED_TRANSIENT, 3, 1)
LOCAL_LIMIT_EXCEEDED: Final = AssociateReject(REJECTED_TRANSIENT, 3, 2)

ACCEPTANCE: Final = 0
USER_REJECTION: Final = 1
NO_REASON: Final = 2
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 3
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 4

MESSAGE_TRANSFER_SYNTAXES: Final = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)
"""Our preference for everything but storage: identifiers are small, and explicit VR tells more."""

ANY_AE_TITLE: Final = ""

QUERY_ABILITIES: Final = b"\1\1\1\1"
"""C-FIND (PS3.4 §C.5.1): relational, combined date-time, fuzzy person names, timezone adjustment."""

RETRIEVE_ABILITIES: Final = b"\1"
"""C-MOVE and C-GET (PS3.4 §C.5.2, §C.5.3): relational."""

STORAGE_ABILITIES: Final = b"\2\0\0\0\1\0"
"""Storage (PS3.4 §B.3.1): level 2, that is all attributes are kept.

Signatures are unspecified; elements may be coerced, as corrections are merged into what is sent.
"""


@dataclass(frozen=True, slots=True)
class Policy:
    """What we offer to one peer; made anew for each association, from configuration and the peer's record.

    Attributes:
        ae_titles: our titles; `ANY_AE_TITLE` among them accepts any.
        calling_allowed: whether this calling title may associate, from this address.
        is_at_limit: whether there are as many associations as there may be.
        identity_allowed: False when the request's user identity was checked and is wrong.
        identity_response: what a positive response carries, if the peer wants one and the identity was
            checked.
        supported: abstract syntaxes other than storage, each with transfer syntaxes in our order of
            preference.
        storage_classes: storage classes that are accepted in any case.
        accept_any_storage: also accept every other class that `sop_classes.is_storage` takes for storage.
        storage_transfer_syntaxes: what we keep, if not `accept_any_transfer_syntax`.
        max_pdu_length: the P-DATA-TF that we read, bytes after the header.
        async_window: operations at once that a peer may invoke and perform, 0 for no limit.
        storage_scu: whether we can be SCU of storage on a peer's association, which C-GET needs.
        reversible: classes of which the requestor may be SCP: it delivers their N-EVENT-REPORT to us.
        abilities: extended negotiation by class; each byte is answered by the lesser of the peer's and ours.
    """

    ae_titles: frozenset[str] = frozenset({ANY_AE_TITLE})
    calling_allowed: bool = True
    is_at_limit: bool = False
    identity_allowed: bool = True
    identity_response: bytes | None = None
    supported: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    storage_classes: frozenset[str] = frozenset()
    accept_any_storage: bool = True
    storage_transfer_syntaxes: frozenset[str] = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG})
    accept_any_transfer_syntax: bool = True
    max_pdu_length: int = DEFAULT_MAX_PDU_LENGTH
    async_window: tuple[int, int] = (1, 1)
    storage_scu: bool = True
    reversible: frozenset[str] = frozenset({STORAGE_COMMITMENT_PUSH})
    abilities: Mapping[str, bytes] = field(
        default_factory=lambda: {
            **dict.fromkeys(FIND_CLASSES, QUERY_ABILITIES),
            **dict.fromkeys(MOVE_CLASSES | GET_CLASSES, RETRIEVE_ABILITIES),
        }
    )
    storage_abilities: bytes = STORAGE_ABILITIES


@dataclass(frozen=True, slots=True)
class NegotiatedContext:
    """An accepted presentation context, the same seen from both sides."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    requestor_scu: bool = True
    requestor_scp: bool = False


@dataclass(frozen=True, slots=True)
class Accept:
    """Send `answer`; then `contexts`, by id, may be used, and `extended`, by class, is agreed upon.

    `async_window` is how many operations each side may have open: (requestor's, acceptor's).
    """

    answer: AssociateAccept
    contexts: Mapping[int, NegotiatedContext]
    extended: Mapping[str, bytes]
    async_window: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Reject:
    """Send `answer`; `cause` says why in words for a log."""

    answer: AssociateReject
    cause: str


def negotiate(request: AssociateRequest, policy: Policy) -> Accept | Reject:
    """Answer a request. An association without any accepted context is still accepted (PS3.8 §7.1.1.13).

    Raises nothing whatever the request.
    """
    refusal = _refusal(request, policy)
    if refusal is not None:
        return refusal
    asked = request.user_information
    storage = _storage_classes(request, policy)
    roles = _answer_roles(request, policy, storage)
    results: list[PresentationContextResult] = []
    contexts: dict[int, NegotiatedContext] = {}
    for proposal in request.presentation_contexts:
        result = _answer_context(proposal, policy, storage, roles)
        results.append(result)
        if result.result == ACCEPTANCE:
            role = roles.get(proposal.abstract_syntax, _DEFAULT_ROLE)
            contexts[proposal.id] = NegotiatedContext(
                proposal.id, proposal.abstract_syntax, result.transfer_syntax, role.scu, role.scp
            )
    accepted = {context.abstract_syntax for context in contexts.values()}
    extended = _answer_extended(request, policy, storage, accepted)
    window = None if asked.async_window is None else _lesser_window(asked.async_window, policy.async_window)
    wants_identity = asked.user_identity is not None and asked.user_identity.positive_response_requested
    user = UserInformation(
        max_pdu_length=policy.max_pdu_length,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version=IMPLEMENTATION_VERSION,
        async_window=window,
        role_selections=tuple(role for role in roles.values() if role.sop_class in accepted),
        extended_negotiations=tuple(ExtendedNegotiation(uid, info) for uid, info in extended.items()),
        user_identity_response=policy.identity_response if wants_identity else None,
    )
    answer = AssociateAccept(request.called_ae, request.calling_ae, tuple(results), user)
    return Accept(answer, contexts, extended, window or (1, 1))


def accepted_contexts(request: AssociateRequest, accept: AssociateAccept) -> dict[int, NegotiatedContext]:
    """Give what a peer accepted of our request, by id.

    Results for ids or transfer syntaxes that we didn't propose are passed over: nothing can be sent by them.
    Roles that the peer answers beyond those proposed don't count.
    """
    proposals = {proposal.id: proposal for proposal in request.presentation_contexts}
    proposed = {role.sop_class: role for role in request.user_information.role_selections}
    answered = {role.sop_class: role for role in accept.user_information.role_selections}
    contexts = {}
    for result in accept.presentation_results:
        proposal = proposals.get(result.id)
        if proposal is None or result.result != ACCEPTANCE:
            continue
        if result.transfer_syntax not in proposal.transfer_syntaxes:
            continue
        uid = proposal.abstract_syntax
        scu, scp = True, False
        if uid in proposed and uid in answered:
            scu = proposed[uid].scu and answered[uid].scu
            scp = proposed[uid].scp and answered[uid].scp
        contexts[result.id] = NegotiatedContext(result.id, uid, result.transfer_syntax, scu, scp)
    return contexts


_DEFAULT_ROLE: Final = RoleSelection("", scu=True, scp=False)


def _refusal(request: AssociateRequest, policy: Policy) -> Reject | None:
    if not request.protocol_version & 1:
        return Reject(PROTOCOL_VERSION_NOT_SUPPORTED, "protocol version not supported")
    if request.application_context != APPLICATION_CONTEXT:
        return Reject(APPLICATION_CONTEXT_NOT_SUPPORTED, "application context not supported")
    if request.called_ae not in policy.ae_titles and ANY_AE_TITLE not in policy.ae_titles:
        return Reject(CALLED_AE_NOT_RECOGNISED, "called AE title not recognised")
    if not policy.calling_allowed:
        return Reject(CALLING_AE_NOT_RECOGNISED, "calling AE title not recognised")
    if policy.is_at_limit:
        return Reject(LOCAL_LIMIT_EXCEEDED, "too many associations")
    if not policy.identity_allowed:
        return Reject(NO_REASON_GIVEN, "user identity not accepted")
    return None


def _storage_classes(request: AssociateRequest, policy: Policy) -> frozenset[str]:
    """Which of the proposed classes are storage for this policy, by name, by kind or by the peer's word."""
    declared = {
        common.sop_class
        for common in request.user_information.common_extended_negotiations
        if common.service_class == STORAGE_SERVICE_CLASS
        and not policy.storage_classes.isdisjoint(common.related_general_sop_classes)
    }
    return frozenset(
        uid
        for uid in {proposal.abstract_syntax for proposal in request.presentation_contexts}
        if uid not in policy.supported
        and (
            uid in policy.storage_classes
            or uid in declared
            or (policy.accept_any_storage and is_storage(uid))
        )
    )


def _answer_roles(
    request: AssociateRequest, policy: Policy, storage: frozenset[str]
) -> dict[str, RoleSelection]:
    """Answer each proposed role by what we are the counterpart of (PS3.7 §D.3.3.4)."""
    answers = {}
    for role in request.user_information.role_selections:
        uid = role.sop_class
        may_be_scp = policy.storage_scu if uid in storage else uid in policy.reversible
        answers[uid] = RoleSelection(uid, scu=role.scu, scp=role.scp and may_be_scp)
    return answers


def _answer_context(
    proposal: PresentationContextProposal,
    policy: Policy,
    storage: frozenset[str],
    roles: Mapping[str, RoleSelection],
) -> PresentationContextResult:
    uid = proposal.abstract_syntax
    role = roles.get(uid, _DEFAULT_ROLE)
    fallback = proposal.transfer_syntaxes[0] if proposal.transfer_syntaxes else IMPLICIT_LITTLE
    if uid in storage:
        chosen = _choose_for_storage(proposal.transfer_syntaxes, policy, only_sent=role.scp and not role.scu)
    elif uid in policy.supported:
        chosen = next((own for own in policy.supported[uid] if own in proposal.transfer_syntaxes), None)
    else:
        return PresentationContextResult(proposal.id, ABSTRACT_SYNTAX_NOT_SUPPORTED, fallback)
    if chosen is None:
        return PresentationContextResult(proposal.id, TRANSFER_SYNTAXES_NOT_SUPPORTED, fallback)
    if not role.scu and not role.scp:
        return PresentationContextResult(proposal.id, USER_REJECTION, fallback)
    return PresentationContextResult(proposal.id, ACCEPTANCE, chosen)


def _choose_for_storage(proposed: tuple[str, ...], policy: Policy, *, only_sent: bool) -> str | None:
    if only_sent:
        native = [uid for uid in (EXPLICIT_LITTLE, IMPLICIT_LITTLE) if uid in proposed]
        if native:
            return native[0]
    kept = [
        uid
        for uid in proposed
        if uid in policy.storage_transfer_syntaxes or (policy.accept_any_transfer_syntax and is_uid(uid))
    ]
    if not kept:
        return None
    if kept[0] in (IMPLICIT_LITTLE, EXPLICIT_BIG) and EXPLICIT_LITTLE in kept:
        return EXPLICIT_LITTLE
    return kept[0]


def _answer_extended(
    request: AssociateRequest, policy: Policy, storage: frozenset[str], accepted: set[str]
) -> dict[str, bytes]:
    answers = {}
    for asked in request.user_information.extended_negotiations:
        uid = asked.sop_class
        if uid not in accepted:
            continue
        if uid in storage:
            if policy.storage_abilities:
                answers[uid] = policy.storage_abilities
        elif uid in policy.abilities:
            pairs = zip(asked.information, policy.abilities[uid], strict=False)
            answers[uid] = bytes(min(theirs, ours) for theirs, ours in pairs)
    return answers


def _lesser_window(asked: tuple[int, int], ours: tuple[int, int]) -> tuple[int, int]:
    return _lesser(asked[0], ours[0]), _lesser(asked[1], ours[1])


def _lesser(one: int, other: int) -> int:
    """The stricter of two limits of which 0 is none."""
    return min(one, other) if one and other else one or other
