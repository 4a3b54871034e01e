"""One object on its way in: received in pieces, written while more come, put in line for a commit when it is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pacsd.model.errors import OutOfResources, PacsError
from pacsd.model.objects import ObjectHeader, Outcome
from pacsd.workflow.ports import StagedObject

if TYPE_CHECKING:
    from pacsd.workflow.ingest import Ingest

Fragment = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object comes from."""

    source_ae: str = ""
    source_address: str = ""
    called_ae: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an acknowledged object has become; `outcome` is never CONFLICT or REFUSED."""

    outcome: Outcome
    instance_id: int
    flags: frozenset[str]


class Intake:
    """One object on its way in. Reactor's thread, save `write_rest` and `read_header`."""

    def __init__(
        self, ingest: Ingest, sop_class_uid: str, sop_instance_uid: str, syntax_uid: str, meta: bytes, origin: Origin
    ) -> None:
        self.origin = origin
        self.staged: StagedObject = ingest.storage.begin(meta)
        self.size_bytes = 0
        self._ingest = ingest
        self._uids = (sop_class_uid, sop_instance_uid, syntax_uid)
        self._waiting: list[Fragment] = []
        self._n_waiting = 0
        self._n_writing = 0
        self._header: ObjectHeader | None = None
        self._complete = False
        self._aborted = False
        self._failed: PacsError | None = None
        self._done: Callable[[Receipt | PacsError], None] | None = None
        self._resume: Callable[[], None] | None = None

    def add(self, fragment: Fragment) -> bool:
        """Take further bytes of the data set; False: the sender should pause until `when_writable` calls back."""
        self._waiting.append(fragment)
        n = len(fragment)
        self.size_bytes += n
        self._n_waiting += n
        if self._failed is not None:
            self._waiting.clear()
            self._n_waiting = 0
            return True
        if self._n_waiting >= self._ingest.limits.flush_bytes and not self._n_writing:
            self._flush()
        return self._n_waiting + self._n_writing < self._ingest.limits.high_bytes

    def when_writable(self, resume: Callable[[], None]) -> None:
        """Have `resume` called once when there is room again (at once if there is)."""
        if self._n_waiting + self._n_writing < self._ingest.limits.high_bytes:
            resume()
        else:
            self._resume = resume

    def finish(self, done: Callable[[Receipt | PacsError], None]) -> None:
        """The data set is complete: `done` is called with what became of it, durable or failed."""
        self._done = done
        self._complete = True
        if not self._n_writing:
            self._completed()

    def abort(self) -> None:
        """The sender is gone: nothing of the object stays."""
        self._aborted = True
        self._waiting.clear()
        if not self._n_writing and not self._complete:
            self._discard()

    def answered(self, answer: Receipt | PacsError) -> None:
        """Called by the commit when it has ended."""
        self._waiting = []
        self._n_waiting = 0
        done, self._done = self._done, None
        if done is not None:
            done(answer)
        resume, self._resume = self._resume, None
        if resume is not None:
            # The last piece was large enough to pause the sender, and no write of its own ended that pause.
            resume()

    def write_rest(self) -> None:
        """Write what wasn't yet. Worker thread of the commit; nothing adds to the object then."""
        self.staged.append(self._waiting)

    def _append(self, fragments: list[Fragment]) -> None:
        """Write, and read the header as soon as the head is there, while the rest is still coming. Worker thread."""
        self.staged.append(fragments)
        self.read_header()

    def read_header(self) -> ObjectHeader:
        """The header for the index, from what is written; once. Worker thread, one at a time."""
        header = self._header
        if header is None:
            header = self._header = self._ingest.storage.read_header(*self._uids, self.staged.head)
        return header

    def _completed(self) -> None:
        if self._failed is not None:
            self._discard()
            self.answered(self._failed)
        else:
            self._ingest.commit(self)

    def _flush(self) -> None:
        fragments, self._waiting = self._waiting, []
        self._n_writing, self._n_waiting = self._n_waiting, 0
        self._ingest.watch(self._ingest.offload.run(self._append, fragments), self._written)

    def _written(self, result: object) -> None:
        self._n_writing = 0
        if isinstance(result, BaseException):
            self._failed = as_error(result)
            self._waiting.clear()
            self._n_waiting = 0
        if self._aborted:
            self._discard()
        elif self._complete:
            self._completed()
        elif self._failed is None and self._n_waiting >= self._ingest.limits.flush_bytes:
            self._flush()
        resume = self._resume
        if resume is not None and self._n_waiting + self._n_writing < self._ingest.limits.high_bytes:
            self._resume = None
            resume()

    def _discard(self) -> None:
        def ended(result: object) -> None:
            if isinstance(result, BaseException):
                self.staged.discard()  # the thread pool was full: one unlink here is the smaller harm

        self._ingest.watch(self._ingest.offload.run(self.staged.discard), ended)


def as_error(cause: object) -> PacsError:
    """Any failure as one with a defined answer; the cause stays chained for the log."""
    if isinstance(cause, PacsError):
        return cause
    error = OutOfResources("the object could not be stored")
    if isinstance(cause, BaseException):
        error.__cause__ = cause
    return error
