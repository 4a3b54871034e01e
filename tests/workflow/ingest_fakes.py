"""Fakes of the ports that ingest uses: storage and index in memory, an offload that the test runs step by step."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pacsd.model.errors import Busy, OutOfResources
from pacsd.model.objects import (
    ConflictRule,
    NewInstance,
    ObjectHeader,
    Outcome,
    Recorded,
    StoredFile,
    StoredInstance,
)


class Call:
    """One call that was handed to the offload."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.fn, self.args = fn, args
        self.done: Callable[[object], None] | None = None
        self.failed: Exception | None = None


class StepOffload:
    """Runs nothing until `step` is called; `full` refuses as a full pool does."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque()
        self.full = False

    def run(self, fn: Callable[..., Any], *args: Any) -> Call:
        call = Call(fn, args)
        if self.full:
            call.failed = Busy("full")
        else:
            self.calls.append(call)
        return call

    def watch(self, call: Any, done: Callable[[object], None]) -> None:
        if call.failed is not None:
            done(call.failed)
        else:
            call.done = done

    def step(self) -> None:
        call = self.calls.popleft()
        try:
            result: object = call.fn(*call.args)
        except Exception as error:  # noqa: BLE001 - as the real one hands on whatever was raised
            result = error
        if call.done is not None:
            call.done(result)

    def run_all(self) -> None:
        while self.calls:
            self.step()


class MemoryStaged:
    def __init__(self, storage: MemoryStorage, meta: bytes) -> None:
        self.storage, self.meta, self.data = storage, meta, b""
        self.size_bytes = 0
        self.discarded = False

    @property
    def head(self) -> bytes:
        return self.data[:65536]

    def append(self, fragments: Sequence[bytes | memoryview]) -> None:
        if self.storage.append_error is not None:
            raise self.storage.append_error
        self.data += b"".join(fragments)
        self.size_bytes = len(self.data)

    def discard(self) -> None:
        self.discarded = True


class MemorySealing:
    def __init__(self, storage: MemoryStorage, files: list[StoredFile | Exception]) -> None:
        self.storage, self.files = storage, files

    def sync(self) -> list[StoredFile | Exception]:
        self.storage.n_synced += len(self.files)
        moved = self.storage.moved
        self.files = [moved.get(file.path, file) if isinstance(file, StoredFile) else file for file in self.files]
        return self.files


class MemoryStorage:
    """Files by path; the data set decides whether two are the same."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.datasets: dict[str, bytes] = {}
        self.settled: list[StoredFile] = []
        self.seal_errors: dict[bytes, Exception] = {}
        self.append_error: Exception | None = None
        self.staged: list[MemoryStaged] = []
        self.n_seals = self.n_synced = 0
        self.moved: dict[str, StoredFile | Exception] = {}
        self.heads: list[bytes] = []

    def begin(self, file_meta: bytes) -> MemoryStaged:
        staged = MemoryStaged(self, file_meta)
        self.staged.append(staged)
        return staged

    def begin_seal(self, staged: Sequence[MemoryStaged]) -> MemorySealing:
        self.n_seals += 1
        return MemorySealing(self, [self._seal(one) for one in staged])

    def _seal(self, one: MemoryStaged) -> StoredFile | Exception:
        if one.data in self.seal_errors:
            return self.seal_errors[one.data]
        whole = one.meta + one.data
        file = StoredFile("p", f"d{self.n_seals}", hashlib.sha256(whole).digest(), len(whole))
        self.files[file.path] = whole
        self.datasets[file.path] = one.data
        return file

    def read_header(self, sop_class_uid: str, sop_instance_uid: str, syntax_uid: str, head: bytes) -> ObjectHeader:
        self.heads.append(head)
        return ObjectHeader(sop_class_uid, sop_instance_uid, syntax_uid, "1.2", "1.2.3", {}, head)

    def settle(self, files: Sequence[StoredFile]) -> None:
        self.settled += files

    def remove(self, file: StoredFile) -> None:
        del self.files[file.path]

    def exists(self, file: StoredFile) -> bool:
        return file.path in self.files

    def same_dataset(self, a: StoredFile, b: StoredFile) -> bool:
        return self.datasets[a.path] == self.datasets[b.path]


class MemoryIndex:
    """One instance for each SOP Instance UID."""

    def __init__(self) -> None:
        self.rows: dict[str, NewInstance] = {}
        self.aside: list[NewInstance] = []
        self.locations: list[tuple[int, StoredFile]] = []
        self.batches: list[int] = []
        self.error: Exception | None = None

    def record(self, batch: Sequence[NewInstance], before_commit: Callable[[], None] | None = None) -> list[Recorded]:
        self.batches.append(len(batch))
        if self.error is not None:
            raise self.error
        before = dict(self.rows)
        recorded = [self._record(new) for new in batch]
        try:
            if before_commit is not None:
                before_commit()
        except Exception:
            self.rows = before
            raise
        return recorded

    def _record(self, new: NewInstance) -> Recorded:
        held = self.rows.get(new.header.sop_instance_uid)
        if held is None:
            self.rows[new.header.sop_instance_uid] = new
            return Recorded(Outcome.STORED, len(self.rows))
        outcome = Outcome.DUPLICATE if held.file.digest == new.file.digest else Outcome.CONFLICT
        header = held.header
        existing = StoredInstance(
            1, header.sop_class_uid, header.sop_instance_uid, "1.2.3", "1.2", header.transfer_syntax_uid, (held.file,)
        )
        return Recorded(outcome, 1, existing)

    def record_conflict(self, new: NewInstance, rule: ConflictRule) -> Recorded:
        if rule is ConflictRule.REFUSE:
            return Recorded(Outcome.REFUSED)
        self.aside.append(new)
        return Recorded(Outcome.KEPT_ASIDE if rule is ConflictRule.KEEP_BOTH else Outcome.REPLACED, 1)

    def add_location(self, instance_id: int, file: StoredFile) -> None:
        self.locations.append((instance_id, file))


__all__ = ["Busy", "MemoryIndex", "MemoryStorage", "OutOfResources", "StepOffload"]
