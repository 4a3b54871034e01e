"""Which presentation contexts to propose for objects, and which of the accepted ones takes which object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pacsd.dicom.association import Context
from pacsd.dicom.scu.connect import Proposal
from pacsd.dicom.wire.sop_classes import is_uid
from pacsd.model.syntax import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from pacsd.workflow.ports import ObjectReader
from pacsd.workflow.retrieve import Converter, Sendable

MAX_CONTEXTS: Final = 128

Pair = tuple[str, str]
"""SOP class and transfer syntax."""


def proposals_for(objects: Iterable[Sendable]) -> tuple[int, frozenset[Pair]]:
    """How many of the objects, in order, one association's contexts can carry, and the pairs these need."""
    pairs: set[Pair] = set()
    classes: set[str] = set()
    n_fitting = 0
    for item in objects:
        pair = (item.sop_class_uid, item.transfer_syntax_uid)
        if pair not in pairs and is_uid(pair[0]) and is_uid(pair[1]):
            if len(pairs) + len(classes) + 1 + (pair[0] not in classes) > MAX_CONTEXTS:
                break
            pairs.add(pair)
            classes.add(pair[0])
        n_fitting += 1
    return n_fitting, frozenset(pairs)


def proposals_of(pairs: Iterable[Pair]) -> list[Proposal]:
    """A context for each pair, so that the peer can't choose away the stored syntax, and one to fall back on."""
    ordered = sorted(pairs)
    own = [Proposal(sop_class, (syntax,)) for sop_class, syntax in ordered]
    classes = dict.fromkeys(sop_class for sop_class, _ in ordered)
    return own + [Proposal(sop_class, (EXPLICIT_LITTLE, IMPLICIT_LITTLE)) for sop_class in classes]


class Routes:
    """Which accepted context takes which object."""

    def __init__(self, contexts: Iterable[Context]) -> None:
        self._by_class: dict[str, dict[str, Context]] = {}
        for context in contexts:
            if context.scu:
                self._by_class.setdefault(context.abstract_syntax, {}).setdefault(context.transfer_syntax, context)

    def choose(self, sop_class_uid: str, syntax_uid: str, converter: Converter | None) -> Context | None:
        """The context in the object's own syntax, else in the best that it can become; None without any."""
        accepted = self._by_class.get(sop_class_uid)
        if not accepted:
            return None
        found = accepted.get(syntax_uid)
        if found is None and converter is not None:
            for target in converter.targets(syntax_uid):
                if target in accepted:
                    return accepted[target]
        return found


class Padded:
    """A deflated data set of odd length with the NUL that makes it even (PS3.5 §A.5); an `ObjectReader`.

    Archives get such files from disks and from devices that forget it; strict receivers abort at an odd fragment.
    """

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader
        self.transfer_syntax_uid = reader.transfer_syntax_uid
        self.dataset_offset = reader.dataset_offset
        self.size_bytes = reader.size_bytes + 1

    def readinto(self, offset: int, buffers: Sequence[memoryview]) -> int:
        """See ObjectReader."""
        n_wanted = sum(map(len, buffers))
        n_read = self._reader.readinto(offset, buffers)
        if n_read < n_wanted and offset + n_read == self.size_bytes - 1:
            at = n_read
            for buffer in buffers:
                if at < len(buffer):
                    buffer[at] = 0
                    break
                at -= len(buffer)
            n_read += 1
        return n_read

    def close(self) -> None:
        """See ObjectReader."""
        self._reader.close()
