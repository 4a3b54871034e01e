"""Making rows for files that the pools hold already: an index from the pools alone.

Nothing is ever removed here: a pool may be the only truth that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from pacsd.model.objects import ConflictRule, NewInstance, Outcome, Recorded, StoredFile


class Rows(Protocol):
    """What is asked of the index."""

    def record(self, batch: Sequence[NewInstance]) -> list[Recorded]: ...

    def record_conflict(self, new: NewInstance, rule: ConflictRule) -> Recorded: ...

    def add_location(self, instance_id: int, file: StoredFile) -> None: ...


class Files(Protocol):
    """What is asked of the pools."""

    def exists(self, file: StoredFile) -> bool: ...

    def same_dataset(self, a: StoredFile, b: StoredFile) -> bool: ...


class Adoption:
    """Collects sealed files and records them in groups. Blocks; one thread.

    Of two files under one SOP Instance UID with different data sets, the one that came first is what is found,
    whatever the order in which they are met; with the rule `replace` the one that came last. The other is set aside.

    Args:
        rule: the site's; REFUSE keeps both here, since neither file may be thrown away.
        came_at: when a file was written, seconds since the epoch.
    """

    def __init__(
        self,
        index: Rows,
        files: Files,
        rule: ConflictRule,
        came_at: Callable[[StoredFile], float],
        batch: int = 256,
    ) -> None:
        self._index = index
        self._files = files
        self._rule = rule
        self._came_at = came_at
        self._batch = batch
        self._waiting: list[NewInstance] = []
        self.n_new = 0
        self.n_known = 0
        """Files with bytes, or a data set, that a row had: further copies, or the same again."""
        self.n_set_aside = 0

    def add(self, new: NewInstance) -> None:
        """Take one more; records when a group is full. Raises errors.OutOfResources."""
        self._waiting.append(new)
        if len(self._waiting) >= self._batch:
            self.flush()

    def flush(self) -> None:
        """Record what waits. Raises errors.OutOfResources, after which the group still waits."""
        if not self._waiting:
            return
        for new, answer in zip(self._waiting, self._index.record(self._waiting), strict=True):
            if answer.outcome is Outcome.STORED:
                self.n_new += 1
            else:
                self._settle(new, answer)
        self._waiting = []

    def _settle(self, new: NewInstance, answer: Recorded) -> None:
        files = answer.existing.files if answer.existing is not None else ()
        held = next((file for file in files if self._files.exists(file)), None)
        same = answer.outcome is Outcome.DUPLICATE
        if same or (held is not None and self._files.same_dataset(held, new.file)):
            self._index.add_location(answer.instance_id, new.file)
            self.n_known += 1
            return
        replaces = self._rule is ConflictRule.REPLACE
        wanted = held is None or (new.received_at < self._came_at(held)) != replaces
        self._index.record_conflict(new, ConflictRule.REPLACE if wanted else ConflictRule.KEEP_BOTH)
        self.n_set_aside += 1
