"""pynetdicom as a peer: a requestor that sends bytes as they are, and a receiver that keeps them as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA, SOPClassExtendedNegotiation
from pynetdicom.presentation import build_context, build_role
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from tests.interop.objects import EXPLICIT, WireObject
from tests.live import Site

FIND = StudyRootQueryRetrieveInformationModelFind
PATIENT_FIND = PatientRootQueryRetrieveInformationModelFind
GET = StudyRootQueryRetrieveInformationModelGet
MOVE = StudyRootQueryRetrieveInformationModelMove
MAX_CONTEXTS = 128
PENDING = (0xFF00, 0xFF01)

Pair = tuple[str, str]


def pairs_of(objects: Iterable[WireObject]) -> list[Pair]:
    """SOP class and transfer syntax of each, once."""
    return sorted({(item.sop_class, item.syntax) for item in objects})


@contextmanager
def associate(
    site: Site,
    contexts: Sequence[tuple[str, Sequence[str]]],
    *,
    calling: str = "PYNETDICOM",
    roles: Iterable[str] = (),
    relational: Iterable[str] = (),
    ext_neg: Iterable[Any] = (),
    max_pdu: int = 16382,
    handlers: Sequence[Any] = (),
    timeout_s: float = 60.0,
) -> Iterator[Association]:
    """An association with the site; released at the end.

    Args:
        contexts: abstract syntax and transfer syntaxes of each, in order.
        roles: abstract syntaxes of which the requestor is to be SCP.
        relational: query/retrieve classes for which relational queries are negotiated.
    """
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_s
    wanted = [build_context(uid, list(syntaxes)) for uid, syntaxes in contexts]
    more: list[Any] = [*(build_role(uid, scp_role=True) for uid in roles), *ext_neg]
    for uid in relational:
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid, item.service_class_application_information = UID(uid), b"\1"
        more.append(item)
    association = ae.associate(
        site.host, site.dicom_port, wanted, site.ae_title, max_pdu=max_pdu, ext_neg=more, evt_handlers=list(handlers)
    )
    assert association.is_established, "the site did not accept the association"
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        association.join(10)


def send_raw(association: Association, item: WireObject, message_id: int = 1) -> int:
    """C-STORE with exactly these bytes, in a context of exactly this syntax, while `driving`; returns the status."""
    found = [
        context
        for context in association.accepted_contexts
        if context.abstract_syntax == item.sop_class and context.transfer_syntax[0] == item.syntax
    ]
    assert found, f"no context was accepted for {item.name}: {item.sop_class} in {item.syntax}"
    send_request(association, found[0].context_id, item, message_id)
    _, response = association.dimse.get_msg(block=True)
    assert response is not None, f"no answer for {item.name}"
    return int(response.Status)


def send_request(association: Association, context_id: int, item: WireObject, message_id: int) -> None:
    """Send the request alone."""
    request = C_STORE()
    request.MessageID, request.Priority = message_id, 0
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = item.sop_class, item.sop_instance
    request.DataSet = BytesIO(item.data)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    for part in message.encode_msg(context_id, association.dimse.maximum_pdu_size):
        association.dul.send_pdu(part)
    if not item.data:
        # pynetdicom announces a data set and sends none; its last fragment is empty here.
        part = P_DATA()
        part.presentation_data_value_list.append((context_id, b"\2"))
        association.dul.send_pdu(part)


def settle(association: Association) -> None:
    """Wait until pynetdicom's own loop runs again: one that has yet to wake up would take the next answer."""
    while association._is_paused and association._reactor_checkpoint.is_set() and association.is_alive():
        time.sleep(0.0002)


@contextmanager
def driving(association: Association) -> Iterator[None]:
    """Keep pynetdicom's own loop from taking the answers."""
    settle(association)
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.0001)
    try:
        yield
    finally:
        association._reactor_checkpoint.set()


def store(site: Site, objects: Sequence[WireObject], *, calling: str = "PYNETDICOM", max_pdu: int = 16382) -> list[int]:
    """Send all, each in its own syntax, over as many associations as the contexts need; returns the statuses."""
    statuses: dict[int, int] = {}
    pairs = pairs_of(objects)
    for at in range(0, len(pairs), MAX_CONTEXTS):
        part = set(pairs[at : at + MAX_CONTEXTS])
        contexts = [(uid, [syntax]) for uid, syntax in sorted(part)]
        with associate(site, contexts, calling=calling, max_pdu=max_pdu) as association, driving(association):
            for number, item in enumerate(objects):
                if (item.sop_class, item.syntax) in part:
                    statuses[number] = send_raw(association, item, number % 60000 + 1)
    return [statuses[number] for number in range(len(objects))]


@dataclass
class Arrival:
    """One object as it came."""

    sop_class: str
    sop_instance: str
    syntax: str
    data: bytes
    originator: str | None
    originator_message: int | None
    calling: str
    association: int


@dataclass
class Inbox:
    """Takes what comes by C-STORE; `answer` decides on the status."""

    answer: Callable[[Arrival], int] = lambda arrival: 0x0000
    arrivals: list[Arrival] = field(default_factory=list)

    def take(self, event: Any) -> int:
        request = event.request
        arrival = Arrival(
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
            request.DataSet.getvalue() if request.DataSet else b"",
            request.MoveOriginatorApplicationEntityTitle,
            request.MoveOriginatorMessageID,
            event.assoc.requestor.ae_title,
            id(event.assoc),
        )
        self.arrivals.append(arrival)
        return self.answer(arrival)

    @property
    def handlers(self) -> list[Any]:
        return [(evt.EVT_C_STORE, self.take)]

    @property
    def by_uid(self) -> dict[str, Arrival]:
        return {arrival.sop_instance: arrival for arrival in self.arrivals}


@contextmanager
def receiver(
    port: int,
    contexts: Sequence[tuple[str, Sequence[str]]],
    inbox: Inbox,
    *,
    title: str = "RECEIVER",
    max_pdu: int = 16382,
    handlers: Sequence[Any] = (),
    any_class: bool = False,
) -> Iterator[AE]:
    """A storage SCP on a port of loopback; `any_class` has it take everything, private classes too."""
    ae = AE(ae_title=title)
    ae.maximum_pdu_size = max_pdu
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    wanted: dict[str, list[str]] = {}
    for uid, syntaxes in contexts:
        wanted.setdefault(uid, []).extend(syntaxes)
    for uid, syntaxes in wanted.items():
        ae.add_supported_context(uid, list(dict.fromkeys(syntaxes)))
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[*inbox.handlers, *handlers])
    _config.UNRESTRICTED_STORAGE_SERVICE = any_class
    try:
        yield ae
    finally:
        _config.UNRESTRICTED_STORAGE_SERVICE = False
        server.shutdown()


def identifier(level: str, **keys: object) -> Dataset:
    """A query or retrieve identifier; a key of None is universal."""
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


def find(
    site: Site, asked: Dataset, *, model: str = FIND, relational: bool = False, **options: Any
) -> tuple[list[Dataset], int]:
    """C-FIND: the answers and the final status."""
    more = [model] if relational else []
    with associate(site, [(model, [EXPLICIT])], relational=more, **options) as association:
        return find_over(association, asked, model)


def find_over(association: Association, asked: Dataset, model: str = FIND) -> tuple[list[Dataset], int]:
    """C-FIND over an open association."""
    answers, status = [], -1
    settle(association)
    for response, answer in association.send_c_find(asked, model):
        assert response, "no response"
        status = response.Status
        if status in PENDING:
            assert answer is not None
            answers.append(answer)
    return answers, status


def get(
    site: Site, asked: Dataset, pairs: Sequence[Pair], inbox: Inbox, *, relational: bool = False, **options: Any
) -> tuple[list[Dataset], Dataset | None]:
    """C-GET with a context for each pair of class and syntax: all responses, and the final one's identifier."""
    contexts: list[tuple[str, Sequence[str]]] = [(GET, [EXPLICIT]), *((uid, [syntax]) for uid, syntax in pairs)]
    roles = sorted({uid for uid, _ in pairs})
    more = [GET] if relational else []
    with associate(site, contexts, roles=roles, relational=more, handlers=inbox.handlers, **options) as association:
        return responses_of(association.send_c_get(asked, GET))


def move(
    site: Site, asked: Dataset, destination: str, *, relational: bool = False, **options: Any
) -> tuple[list[Dataset], Dataset | None]:
    """C-MOVE: all responses, and the final one's identifier."""
    more = [MOVE] if relational else []
    with associate(site, [(MOVE, [EXPLICIT])], relational=more, **options) as association:
        return responses_of(association.send_c_move(asked, destination, MOVE, msg_id=77))


def responses_of(stream: Iterable[tuple[Dataset, Dataset | None]]) -> tuple[list[Dataset], Dataset | None]:
    """Drain a retrieve's responses."""
    responses, last = [], None
    for response, answer in stream:
        assert response, "no response"
        responses.append(response)
        last = answer
    return responses, last


def counts(response: Dataset) -> tuple[int, int, int]:
    """Completed, failed, warning."""
    return (
        response.get("NumberOfCompletedSuboperations", 0),
        response.get("NumberOfFailedSuboperations", 0),
        response.get("NumberOfWarningSuboperations", 0),
    )
