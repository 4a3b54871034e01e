"""The PACS database as the workflows see it (port `Index`), and what crash recovery and `pacsd verify`
need besides.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

import psycopg2  # type: ignore[import-untyped]
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from pacsd.index import conflicts, locations, selection
from pacsd.index.database import Database
from pacsd.index.ingest import record_prepared
from pacsd.index.ingest_parents import Parents
from pacsd.index.ingest_statements import IngestStatements
from pacsd.index.known import Known
from pacsd.index.locations import START, FilesCursor, LocatedFile, SetAside
from pacsd.index.query import search
from pacsd.index.rows import Prepared, prepare
from pacsd.index.statements import Script
from pacsd.index.stored import load_stored
from pacsd.model.objects import ConflictRule, NewInstance, Outcome, Recorded, StoredFile, StoredInstance
from pacsd.model.query import Page, Query, Selector

T = TypeVar("T")
_BROKEN_REFERENCE = (IntegrityError, sqlite3.IntegrityError, psycopg2.IntegrityError)


class PacsIndex:
    """Every method blocks and may raise errors.OutOfResources; any thread, any number of processes."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._statements = IngestStatements(database.engine.dialect)
        self._known = Known()

    def record(
        self, batch: Sequence[NewInstance], before_commit: Callable[[], None] | None = None
    ) -> list[Recorded]:
        """ONE transaction for a batch of sealed objects; answers in order.

        STORED rows are committed with location, counts and outbox. Of a DUPLICATE (equal digest;
        `existing` says where its file lies) or a CONFLICT nothing was written, its outbox neither.
        """
        if not batch:
            return []
        prepared = [prepare(new) for new in batch]

        def write(connection: Connection) -> tuple[list[Recorded], Parents]:
            written = record_prepared(connection, self._statements, self._known, prepared)
            if before_commit is not None:
                before_commit()
            return written

        recorded, parents = self._write(write)
        parents.learn()
        return recorded

    def record_conflict(self, new: NewInstance, rule: ConflictRule) -> Recorded:
        """Apply the site's rule to an object whose SOP Instance UID is held with other bytes.

        KEPT_ASIDE: the first stays what is found, the new file is listed. REPLACED: the new one is found,
        the old files are listed. REFUSED: nothing is written, the caller removes the file. STORED or
        DUPLICATE when the held one has gone, or has become equal, meanwhile.
        """
        item = prepare(new)
        if rule is ConflictRule.REFUSE:
            existing, _ = self.database.read(lambda connection: load_stored(connection, item.sop_instance_uid))
            return Recorded(Outcome.REFUSED, existing.instance_id, existing)
        if rule is ConflictRule.KEEP_BOTH:
            kept = self._write(lambda c: conflicts.keep_both(c, self._statements, self._known, item))
            return kept or self.record([new])[0]
        replaced = self._write(lambda c: self._replace(c, item))
        if replaced is None:
            return self.record([new])[0]
        recorded, parents = replaced
        self._known.clear()
        parents.learn()
        return recorded

    def add_location(self, instance_id: int, file: StoredFile) -> None:
        """A further file with the same bytes, or the same data set, as the instance has.

        Raises: errors.NoSuchInstance.
        """

        def add(connection: Connection) -> None:
            script = Script(connection)
            try:
                directory = Parents(script, self._statements, self._known).number_of_directory(file)
            finally:
                script.close()
            locations.add_location(connection, instance_id, file, directory)

        self._write(add)

    def forget_location(self, instance_id: int, file: StoredFile) -> bool:
        """A file of an instance is gone; False if the index didn't name it. The instance stays."""
        return self.database.write(lambda connection: locations.forget_location(connection, instance_id, file))

    def missing(self, digests: Sequence[bytes]) -> set[bytes]:
        """Those of some digests that no file of an instance and none set aside has: for crash recovery,
        orphans.
        """
        return self.database.read(lambda connection: locations.missing(connection, digests))

    def files(
        self, after: FilesCursor | None = START, limit: int = 1000
    ) -> tuple[list[LocatedFile], FilesCursor | None]:
        """Walk over all files of all instances: some, and the cursor to go on with; None at the end."""
        return self.database.read(lambda connection: locations.files(connection, after or START, limit))

    def set_aside(self, after_id: int = 0, limit: int = 1000) -> list[SetAside]:
        """Files set aside, oldest first, keyset-paged; [] at the end."""
        return self.database.read(lambda connection: locations.set_aside(connection, after_id, limit))

    def search(self, query: Query, cursor: tuple[int | str, ...] | None, page_size: int) -> Page:
        """One page of at most `page_size` answers; maybe an empty one with a cursor, where no index serves the keys.

        Raises: errors.DatasetMismatch: a unique key above the level is missing, a key is no date where one must be.
        """
        return self.database.read(lambda connection: search(connection, query, cursor, page_size))

    def instances(self, selector: Selector, after_id: int, limit: int) -> list[StoredInstance]:
        """Instances in the order of their series and id, keyset-paged; [] at the end.

        Raises: errors.DatasetMismatch: the selector names nothing.
        """
        return self.database.read(lambda connection: selection.instances(connection, selector, after_id, limit))

    def count_instances(self, selector: Selector) -> int:
        """How many instances a selector names, from kept counts where it can.

        Raises: errors.DatasetMismatch: the selector names nothing.
        """
        return self.database.read(lambda connection: selection.count_instances(connection, selector))

    def lookup(self, sop_instance_uids: Sequence[str]) -> list[StoredInstance]:
        """Those of some instances that are held, in no promised order."""
        return self.database.read(lambda connection: selection.lookup(connection, sop_instance_uids))

    def copy_back(self) -> None:
        """Spare writers the database's own housekeeping; see `Database.copy_back`. To be called every second."""
        self.database.copy_back()

    def checkpoint(self) -> None:
        """Make every committed row survive a loss of power."""
        self.database.checkpoint()

    def _replace(self, connection: Connection, item: Prepared) -> tuple[Recorded, Parents] | None:
        return conflicts.replace(connection, self._statements, self._known, item)

    def _write(self, fn: Callable[[Connection], T]) -> T:
        """A transaction; once more with nothing remembered if a remembered row is gone."""
        try:
            return self.database.write(fn)
        except _BROKEN_REFERENCE:
            self._known.clear()
            return self.database.write(fn)
