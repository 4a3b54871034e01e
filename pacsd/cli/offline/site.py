"""The site's database and pools, opened for one command; servers may run beside it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from pacsd.config.sections import Config
from pacsd.index.database import Database
from pacsd.index.pacs_index import PacsIndex
from pacsd.index.places import places
from pacsd.model.errors import OutOfResources, PacsError
from pacsd.model.objects import ConflictRule, NewInstance, ObjectHeader, StoredFile
from pacsd.storage.pool import Pool, pool_of
from pacsd.storage.pools import Pools
from pacsd.storage.recover import RecoveryReport, recover
from pacsd.storage.server import FileServer
from pacsd.workflow.ingest import Ingest

A = ParamSpec("A")
R = TypeVar("R")


@dataclass(slots=True)
class Site:
    """What a command works with. Any thread."""

    config: Config
    index: PacsIndex
    pools: Pools
    files: FileServer
    ingest: Ingest
    """For `record` only: nothing is received in a command."""

    def places(self, digests: Sequence[bytes]) -> Mapping[bytes, Sequence[StoredFile]]:
        """Every file that some row names, by digest."""
        return self.index.database.read(lambda connection: places(connection, digests))

    def pool_by_name(self) -> dict[str, Pool]:
        """The configured pools."""
        return {pool.name: pool for pool in self.pools}

    def written_at(self, file: StoredFile) -> float:
        """When a stored file was written, seconds since the epoch; now if it has gone."""
        try:
            return os.stat(self.pools.path(file)).st_mtime  # noqa: PTH116 - one system call
        except OSError:
            return time.time()

    def instance_of(self, file: StoredFile, header: ObjectHeader) -> NewInstance:
        """What is to be recorded of a file that has no row: when and whence it came, as the file itself says.

        Raises: errors.IntegrityError, errors.OutOfResources.
        """
        return NewInstance(header, file, *self.files.came_from(file))

    def adopt(self, file: StoredFile, header: ObjectHeader) -> None:
        """Record a proven file that has no row. Raises errors.PacsError when it can't be."""
        (answer,) = self.ingest.record([self.instance_of(file, header)])
        if isinstance(answer, PacsError):
            raise answer

    def recover(self) -> RecoveryReport:
        """Bring the directories of dead processes and the index to one state, as a server does when it starts."""
        return recover(self.pools, self.index.missing, self.adopt, checkpoint=self.index.checkpoint, places=self.places)


class _Here:
    """Port `Offload` where calls may block: runs each at once."""

    def run(self, fn: Callable[A, R], *args: A.args, **kwargs: A.kwargs) -> Awaitable[R]:
        async def done() -> R:
            return fn(*args, **kwargs)

        return done()


@contextlib.contextmanager
def opened_site(config: Config, *, only_pool: str = "", database_url: str = "") -> Iterator[Site]:
    """Open database and pools; at the end everything recorded is durable and this process' journal is gone.

    Args:
        only_pool: leave the other pools out.
        database_url: another database than the configured one.

    Raises:
        OutOfResources: the database is away, or its schema is of another release.
    """
    database = Database(database_url or config.database_url)
    try:
        _check_schema(database)
        index = PacsIndex(database)
        pools = Pools([pool_of(pool) for pool in config.storage.pools if only_pool in ("", pool.name)])
        files = FileServer(pools)
        rule = ConflictRule(config.dicom.on_conflict)
        ingest = Ingest(files, index, _Here(), lambda awaited, done: None, time.time, rule=rule)
        try:
            yield Site(config, index, pools, files, ingest)
        finally:
            _close(files, index)
    finally:
        database.close()


def _check_schema(database: Database) -> None:
    try:
        database.ready()
    except OutOfResources as error:
        raise OutOfResources(f"{error.comment} (`pacsd index check` says more)") from error


def _close(files: FileServer, index: PacsIndex) -> None:
    """Retire what is settled; without the database the journal stays, and the next start recovers from it."""
    try:
        files.close(index.checkpoint)
    except (PacsError, OSError):
        files.close()
