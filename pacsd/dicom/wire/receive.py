"""Walk what a peer sends: association PDUs whole, P-DATA-TF in place and in part.

P-DATA-TF (PS3.8 §9.3.5) after the PDU's header, any number of times:

    0-3   length of what follows, big endian
    4     presentation context id
    5     message control header: bit 0 command, bit 1 last fragment (PS3.8 §E.2)
    6-    fragment

Cost: each received byte is looked at once; a fragment is a view into the bytes that were fed, so it costs no
copy and keeps those bytes alive as long as it lives. What is held between two feeds is at most one
association PDU.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from pacsd.dicom.wire.items import REASON_UNRECOGNISED_PDU, PduError, invalid
from pacsd.dicom.wire.pdu import A_ABORT, A_ASSOCIATE_AC, A_ASSOCIATE_RQ, P_DATA_TF, Pdu, decode_pdu

DEFAULT_MAX_PDU_LENGTH: Final = 1 << 20
DEFAULT_MAX_ASSOCIATION_PDU: Final = 256 << 10

_HEADER_BYTES: Final = 6
_PDU_HEADER = Struct(">BxI")
_PDV_HEADER = Struct(">IBB")
_NOTHING: Final = memoryview(b"")


class DataFragment(NamedTuple):
    """A piece of a message came, perhaps only a part of what the peer framed as one piece.

    `is_last` is true on the final part of a message's last fragment. `data` is a view: use it, copy it or
    write it before the next read, to keep memory bounded. A named tuple, as thousands a second are made.
    """

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


class PduReader:
    """Cut a byte stream into PDUs and message fragments; one reader an association.

    Args:
        max_pdu_length: the limit that we announced for P-DATA-TF, in bytes after the header; 0 for none.
        max_association_pdu: the same for A-ASSOCIATE, which must be held whole.
    """

    def __init__(
        self,
        max_pdu_length: int = DEFAULT_MAX_PDU_LENGTH,
        max_association_pdu: int = DEFAULT_MAX_ASSOCIATION_PDU,
    ) -> None:
        self.max_pdu_length = max_pdu_length
        self.max_association_pdu = max_association_pdu
        self._held = bytearray()
        self._pdu_type = 0
        self._body_bytes = 0
        self._data_left = 0
        self._fragment_left = 0
        self._context_id = 0
        self._control = 0
        self._failed = False

    @property
    def n_held_bytes(self) -> int:
        """Bytes that wait for the rest of their header or association PDU."""
        return len(self._held)

    @property
    def is_inside_pdu(self) -> bool:
        """Whether the peer owes the rest of something: a closing or a pause now is not between two PDUs."""
        return bool(self._held or self._body_bytes or self._data_left)

    def feed(self, data: bytes | memoryview) -> Iterator[DataFragment | Pdu]:
        """Take the next bytes and give what they complete. Exhaust it before the next feed.

        Raises:
            PduError: reason 1 for an unknown type, 6 for a length over the limit or one that contradicts
                another, both as soon as the header is there; what `decode_pdu` raises. The reader then takes
                no more bytes.
        """
        view = memoryview(data)
        end = len(view)
        at = 0
        while at < end and not self._failed:
            if self._fragment_left:
                piece = view[at : at + self._fragment_left]
                n_bytes = len(piece)
                at += n_bytes
                self._data_left -= n_bytes
                self._fragment_left -= n_bytes
                control = self._control
                is_last = control & 2 != 0 and not self._fragment_left
                yield DataFragment(self._context_id, control & 1 == 1, is_last, piece)
                continue
            if self._body_bytes:
                at = self._hold(view, at, self._body_bytes)
                if len(self._held) == self._body_bytes:
                    yield self._decode_held()
                continue
            if end - at >= _HEADER_BYTES and not self._held:
                header, offset = view, at
                at += _HEADER_BYTES
            else:
                at = self._hold(view, at, _HEADER_BYTES)
                if len(self._held) < _HEADER_BYTES:
                    self._judge_type(self._held[0])
                    return
                header, offset = memoryview(bytes(self._held)), 0
                self._held.clear()
            if not self._data_left:
                self._open_pdu(*_PDU_HEADER.unpack_from(header, offset))
            elif not self._open_fragment(*_PDV_HEADER.unpack_from(header, offset)):
                control = self._control
                yield DataFragment(self._context_id, control & 1 == 1, control & 2 != 0, _NOTHING)

    def _hold(self, view: memoryview, at: int, until_bytes: int) -> int:
        piece = view[at : at + until_bytes - len(self._held)]
        self._held += piece
        return at + len(piece)

    def _decode_held(self) -> Pdu:
        body = bytes(self._held)
        self._held.clear()
        self._body_bytes = 0
        try:
            return decode_pdu(self._pdu_type, body)
        except PduError:
            self._failed = True
            raise

    def _judge_type(self, pdu_type: int) -> None:
        if not self._data_left and not A_ASSOCIATE_RQ <= pdu_type <= A_ABORT:
            raise self._fail(PduError(f"PDU type {pdu_type:#04x} is unknown", REASON_UNRECOGNISED_PDU))

    def _open_pdu(self, pdu_type: int, length: int) -> None:
        self._judge_type(pdu_type)
        if pdu_type == P_DATA_TF:
            if self.max_pdu_length and length > self.max_pdu_length:
                raise self._fail(invalid(f"P-DATA-TF of {length} bytes, the limit is {self.max_pdu_length}"))
            if length < _HEADER_BYTES:
                raise self._fail(invalid("P-DATA-TF too short for a presentation data value"))
            self._data_left = length
            return
        is_associate = pdu_type <= A_ASSOCIATE_AC
        if length > self.max_association_pdu:
            raise self._fail(invalid(f"PDU of {length} bytes, the limit is {self.max_association_pdu}"))
        if length < 4 or (length > 4 and not is_associate):
            raise self._fail(invalid(f"PDU type {pdu_type:#04x} of {length} bytes"))
        self._pdu_type = pdu_type
        self._body_bytes = length

    def _open_fragment(self, length: int, context_id: int, control: int) -> int:
        rest = self._data_left - 4 - length
        if length < 2 or rest < 0 or 0 < rest < _HEADER_BYTES:
            raise self._fail(invalid("presentation data value's length contradicts its PDU's"))
        self._data_left -= _HEADER_BYTES
        self._fragment_left = length - 2
        self._context_id = context_id
        self._control = control
        return self._fragment_left

    def _fail(self, error: PduError) -> PduError:
        self._failed = True
        self._held.clear()
        return error
