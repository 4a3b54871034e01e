"""A modality of plain blocking sockets over the wire's own machines: sends, records what was acknowledged, survives.

One thread an association. It does what a real sender does when the connection goes: it connects again, and sends again
what had no answer.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from pydicom.dataset import Dataset

from pacsd.dicom.wire import dimse, pdu
from pacsd.dicom.wire.association import AssociationMachine
from pacsd.dicom.wire.dimse import Command, CommandReceived, DatasetFragment, MessageAssembler
from pacsd.dicom.wire.events import Aborted, AssociationAccepted, AssociationRejected, DataFragment, ReleaseConfirmed
from pacsd.dicom.wire.sop_classes import STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE, VERIFICATION
from tests.crash.made import Made
from tests.interop.objects import CT, EXPLICIT, IMPLICIT

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
PENDING = (0xFF00, 0xFF01)
ECHO_CONTEXT, FIND_CONTEXT, GET_CONTEXT, MOVE_CONTEXT, STORE_CONTEXT = 1, 3, 5, 7, 9
CONTEXTS: tuple[tuple[int, str, str], ...] = (
    (ECHO_CONTEXT, VERIFICATION, IMPLICIT),
    (FIND_CONTEXT, STUDY_ROOT_FIND, IMPLICIT),
    (GET_CONTEXT, STUDY_ROOT_GET, IMPLICIT),
    (MOVE_CONTEXT, STUDY_ROOT_MOVE, IMPLICIT),
    (STORE_CONTEXT, CT, EXPLICIT),
)
Address = tuple[str, int]


class Lost(ConnectionError):
    """The association is gone: closed, reset, aborted or rejected."""


def request(calling: str = "CRASH", *, called: str = "PACSD", max_pdu: int = 65536) -> pdu.AssociateRequest:
    """Ask for the contexts above, as requestor of everything and performer of C-GET's storage."""
    proposals = tuple(pdu.PresentationContextProposal(number, uid, (syntax,)) for number, uid, syntax in CONTEXTS)
    roles = (pdu.RoleSelection(CT, scu=True, scp=True),)
    user = pdu.UserInformation(max_pdu_length=max_pdu, implementation_class_uid="1.2.3", role_selections=roles)
    return pdu.AssociateRequest(called, calling, proposals, user)


class Scu:
    """One association as requestor. Blocks; one thread."""

    def __init__(
        self, address: Address, *, calling: str = "CRASH", max_pdu: int = 65536, timeout_s: float = 30.0
    ) -> None:
        try:
            self.socket = socket.create_connection(address, timeout_s)
        except OSError as cause:
            raise Lost("no connection") from cause
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._machine = AssociationMachine("requestor", max_pdu)
        self._assembler = MessageAssembler()
        self._came: deque[tuple[Command, bytes | None]] = deque()
        self._data: list[bytes] = []
        self._command: Command | None = None
        self._is_open = self._is_released = False
        self._message_id = 0
        self.peer_max_pdu = 16384
        try:
            self._machine.request(request(calling, max_pdu=max_pdu))
            self._machine.transport_connected()
            self._flush()
            while not self._is_open:
                self._read()
        except BaseException:
            self.socket.close()
            raise

    # -- messages ----------------------------------------------------------------------------------------------------

    def echo(self) -> int:
        """C-ECHO; the status."""
        return self._ask(ECHO_CONTEXT, dimse.C_ECHO_RQ, VERIFICATION, None)[0].Status

    def store(self, item: Made) -> int:
        """C-STORE of one object; the status."""
        return self.store_pieces(item.uid, [item.data], sop_class=item.sop_class)

    def store_pieces(self, uid: str, pieces: Iterable[bytes | memoryview], *, sop_class: str = CT) -> int:
        """C-STORE of a data set that comes in pieces, so that none has to be held whole; the status."""
        self.send_store_command(uid, sop_class=sop_class)
        for piece in pieces:
            self.send_data(piece)
        self.send_data(b"", is_last=True)
        return self.answer()[0].Status

    def send_store_command(self, uid: str, *, sop_class: str = CT) -> None:
        """Begin a C-STORE without its data set."""
        self._send_command(STORE_CONTEXT, dimse.C_STORE_RQ, sop_class, has_dataset=True, AffectedSOPInstanceUID=uid)

    def send_data(self, data: bytes | memoryview, *, is_last: bool = False, context: int = STORE_CONTEXT) -> None:
        """Send more of the data set, in PDUs as large as the peer takes."""
        view = memoryview(data)
        room = min(self.peer_max_pdu or 1 << 20, 1 << 20) - 6
        pieces = [view[at : at + room] for at in range(0, len(view), room)] or [view] * is_last
        for number, piece in enumerate(pieces, 1):
            control = 2 if is_last and number == len(pieces) else 0
            self.send_raw(struct.pack(">BxIIBB", 4, len(piece) + 6, len(piece) + 2, context, control) + piece)

    def find(self, level: str, **keys: object) -> list[Dataset]:
        """C-FIND; all answers. AssertionError unless it ends in success."""
        command, _ = self._ask(FIND_CONTEXT, dimse.C_FIND_RQ, STUDY_ROOT_FIND, _identifier(level, keys))
        answers = []
        while command.Status in PENDING:
            answers.append(_decoded(self._last_dataset))
            command, _ = self.answer()
        assert command.Status == SUCCESS, f"C-FIND ended with {command.Status:04X}"
        return answers

    def get(self, level: str, **keys: object) -> Iterator[tuple[str, bytes]]:
        """C-GET: UID and data set of each object as it comes. AssertionError unless it ends in success."""
        self.send_get(level, **keys)
        while True:
            command, data = self.answer()
            if command.CommandField == dimse.C_STORE_RQ:
                assert data is not None
                self._send(STORE_CONTEXT, dimse.encode_store_response(command, SUCCESS))
                yield command.AffectedSOPInstanceUID, data
            elif command.Status not in PENDING:
                assert command.Status == SUCCESS, f"C-GET ended with {command.Status:04X}"
                return

    def send_get(self, level: str, **keys: object) -> None:
        """Ask for a C-GET without reading what comes."""
        identifier = _identifier(level, keys)
        self._send_command(GET_CONTEXT, dimse.C_GET_RQ, STUDY_ROOT_GET, has_dataset=True)
        self.send_data(identifier, is_last=True, context=GET_CONTEXT)

    def send_move(self, destination: str, level: str, **keys: object) -> None:
        """Ask for a C-MOVE; its responses are read by `answer`."""
        self._send_command(
            MOVE_CONTEXT, dimse.C_MOVE_RQ, STUDY_ROOT_MOVE, has_dataset=True, MoveDestination=destination
        )
        self.send_data(_identifier(level, keys), is_last=True, context=MOVE_CONTEXT)

    def answer(self) -> tuple[Command, bytes | None]:
        """Wait for the next message of the peer."""
        while not self._came:
            self._read()
        command, self._last_dataset = self._came.popleft()
        return command, self._last_dataset

    # -- the end -----------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """End in good order."""
        self._machine.release()
        self._flush()
        while not self._is_released:
            self._read()
        self.socket.close()

    def close(self, *, reset: bool = False) -> None:
        """Close the connection without a word; `reset` sends RST instead of FIN."""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- bytes -------------------------------------------------------------------------------------------------------

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        try:
            self.socket.sendall(data)
        except OSError as cause:
            raise Lost("the connection is gone") from cause

    def _ask(self, context: int, field: int, sop_class: str, identifier: bytes | None) -> tuple[Command, bytes | None]:
        self._send_command(context, field, sop_class, has_dataset=identifier is not None)
        if identifier is not None:
            self.send_data(identifier, is_last=True, context=context)
        return self.answer()

    def _send_command(self, context: int, field: int, sop_class: str, *, has_dataset: bool, **more: str) -> None:
        self._message_id = self._message_id % 65535 + 1
        command = Command(
            AffectedSOPClassUID=sop_class, CommandField=field, MessageID=self._message_id, Priority=0,
            CommandDataSetType=dimse.HAS_DATASET if has_dataset else dimse.NO_DATASET, **more,
        )  # fmt: skip
        if field == dimse.C_ECHO_RQ:
            command.Priority = None
        self._send(context, dimse.encode_command(command))

    def _send(self, context: int, command: bytes) -> None:
        self.send_raw(dimse.message(context, command, None, self.peer_max_pdu))

    def _flush(self) -> None:
        out = self._machine.data_to_send()
        if out:
            self.send_raw(out)

    def _read(self) -> None:
        try:
            data = self.socket.recv(262144)
        except TimeoutError:
            raise
        except OSError as cause:
            raise Lost("the connection was reset") from cause
        if not data:
            raise Lost("the connection was closed")
        for event in self._machine.receive(data):
            self._happened(event)
        self._flush()

    def _happened(self, event: object) -> None:
        match event:
            case DataFragment():
                self._part(self._assembler.receive(event))
            case AssociationAccepted(accept=accept):
                self._is_open = True
                self.peer_max_pdu = accept.user_information.max_pdu_length
            case AssociationRejected(result=result, source=source, reason=reason):
                raise Lost(f"rejected: {result} {source} {reason}")
            case Aborted(source=source, reason=reason):
                raise Lost(f"aborted: {source} {reason}")
            case ReleaseConfirmed():
                self._is_released = True

    def _part(self, part: CommandReceived | DatasetFragment | None) -> None:
        if isinstance(part, CommandReceived):
            self._command = part.command
            if not part.has_dataset:
                self._came.append((part.command, None))
        elif isinstance(part, DatasetFragment):
            self._data.append(bytes(part.data))
            if part.is_last:
                assert self._command is not None
                self._came.append((self._command, b"".join(self._data)))
                self._data = []


def _identifier(level: str, keys: dict[str, object]) -> bytes:
    from pynetdicom.dsutils import encode

    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    raw = encode(dataset, is_implicit_vr=True, is_little_endian=True)
    assert raw is not None
    return raw


def _decoded(raw: bytes | None) -> Dataset:
    from io import BytesIO

    from pynetdicom.dsutils import decode

    return decode(BytesIO(raw or b""), is_implicit_vr=True, is_little_endian=True)


@dataclass
class Account:
    """What senders know at the end. Any thread.

    Attributes:
        acknowledged: UID → SHA-256 of the data set, for every object that was answered by Success.
        places: UID → (study, series).
        unanswered: sent at least in part, without an answer; a resend moves it to one of the others.
        statuses: how often each status was answered.
    """

    acknowledged: dict[str, bytes] = field(default_factory=dict)
    places: dict[str, tuple[str, str]] = field(default_factory=dict)
    unanswered: dict[str, Made] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    n_lost: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, item: Made, status: int) -> None:
        """Book an answer."""
        with self.lock:
            self.statuses[status] += 1
            if status == SUCCESS:
                self.unanswered.pop(item.uid, None)
                self.acknowledged[item.uid] = item.digest
                self.places[item.uid] = (item.study, item.series)


class Sender(threading.Thread):
    """Sends objects one after another over one association at a time, until told to stop or none is left.

    Args:
        resend_refused: send an object again that was answered by another status than Success.
    """

    def __init__(
        self,
        address: Address,
        objects: Iterable[Made],
        account: Account,
        stopping: threading.Event,
        *,
        calling: str = "CRASH",
        resend_refused: bool = False,
        pause_s: float = 0.0,
    ) -> None:
        super().__init__(name=f"sender-{calling}", daemon=True)
        self._address = address
        self._objects = iter(objects)
        self._account = account
        self._stopping = stopping
        self._calling = calling
        self._resend_refused = resend_refused
        self._pause_s = pause_s
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._send_all()
        except BaseException as error:  # noqa: BLE001 - told in the test's thread by `join_all`
            self.error = error

    def _send_all(self) -> None:
        scu: Scu | None = None
        for item in self._objects:
            is_settled = False
            while not is_settled and not self._stopping.is_set():
                try:
                    if scu is None:
                        scu = Scu(self._address, calling=self._calling, timeout_s=60.0)
                    self._account.unanswered[item.uid] = item
                    status = scu.store(item)
                except Lost:
                    self._account.n_lost += 1
                    if scu is not None:
                        scu.close()
                    scu = None
                    time.sleep(0.02)
                else:
                    self._account.answered(item, status)
                    is_settled = status == SUCCESS or not self._resend_refused
                    if status != SUCCESS:
                        time.sleep(0.1)
            if self._stopping.is_set():
                break
            time.sleep(self._pause_s)
        if scu is not None:
            scu.close()


def start_all(senders: Sequence[Sender]) -> None:
    """Start several senders."""
    for sender in senders:
        sender.start()


def join_all(senders: Sequence[Sender], limit_s: float = 60.0) -> None:
    """Wait until all have ended; AssertionError if one failed or hangs."""
    end = time.monotonic() + limit_s
    for sender in senders:
        sender.join(max(0.0, end - time.monotonic()))
        assert not sender.is_alive(), "a sender still waits for an answer"
        if sender.error is not None:
            raise sender.error
