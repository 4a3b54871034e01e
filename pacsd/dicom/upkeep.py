"""What keeps files and rows at one state: recovery before the port opens and when a worker has died, and checkpoints.

Recovery takes the directories of dead processes only; those of a worker that dies later are taken by whichever process
looks next, its successor or a neighbour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from pacsd.index.pacs_index import PacsIndex
from pacsd.index.places import places
from pacsd.model.errors import PacsError
from pacsd.model.objects import NewInstance, ObjectHeader, StoredFile
from pacsd.runtime.logs import get_logger
from pacsd.runtime.offload import Offload
from pacsd.storage.recover import recover
from pacsd.storage.server import FileServer
from pacsd.workflow.ingest import Ingest

log = get_logger("pacsd.dicom")

CHECKPOINT_S = 60.0
FLUSH_S = 1.0


class Upkeep:
    """A part of the DICOM role.

    Args:
        prepare: anything else to be done once before the port opens; blocks.
    """

    name = "pools"

    def __init__(
        self,
        files: FileServer,
        index: PacsIndex,
        ingest: Ingest,
        offload: Offload,
        clock: Any,
        prepare: Callable[[], None],
    ) -> None:
        self._files = files
        self._index = index
        self._ingest = ingest
        self._offload = offload
        self._prepare = prepare
        self._loops = ((self._loop(self._checkpoint, clock), CHECKPOINT_S), (self._loop(self._flush, clock), FLUSH_S))

    async def start(self) -> None:
        """Return when files and rows agree. Raises errors.OutOfResources when the database can't be asked."""
        await self._offload.run(self._open)
        for loop, interval_s in self._loops:
            loop.start(interval_s, now=False)

    async def stop(self, limit_s: float) -> None:
        """Leave no journal behind where everything is settled."""
        for loop, _ in self._loops:
            loop.stop()
        await self._offload.run(self._files.close, self._index.checkpoint)

    def adopt(self, file: StoredFile, header: ObjectHeader) -> None:
        """Record a proven file that has no row. Raises errors.PacsError when it can't be. Worker thread."""
        received_at, source_ae = self._files.came_from(file)
        (answer,) = self._ingest.record([NewInstance(header, file, received_at, source_ae)])
        if isinstance(answer, PacsError):
            raise answer

    def _open(self) -> None:
        self._prepare()
        self._recover()
        for pool in self._files.pools:
            if not pool.read_only and not pool.writable():
                log.error("pool-unavailable", pool=pool.name, cause=pool.reason)

    def _recover(self) -> None:
        index = self._index
        report = recover(
            self._files.pools, index.missing, self.adopt, checkpoint=index.checkpoint,
            places=lambda digests: index.database.read(lambda connection: places(connection, digests)),
        )  # fmt: skip
        if report.n_directories or report.n_restored:
            log.info(
                "recovered",
                n_directories=report.n_directories,
                n_files=report.n_files,
                n_adopted=report.n_adopted,
                n_restored=report.n_restored,
                n_quarantined=report.n_quarantined,
                n_parts_removed=report.n_parts_removed,
            )

    def _loop(self, work: Callable[[], None], clock: Any) -> LoopingCall:
        """Call blocking work again and again, once its last turn has ended, whether that went well or not."""

        def failed(failure: Failure) -> None:
            log.warning("upkeep-failed", work=work.__name__.strip("_"), error=failure.value)

        loop = LoopingCall(lambda: self._offload.run(work).addErrback(failed))
        loop.clock = clock
        return loop

    def _checkpoint(self) -> None:
        self._files.checkpoint(self._index.checkpoint)
        self._ingest.decide()
        self._recover()

    def _flush(self) -> None:
        self._files.flush_sealed()
        self._index.copy_back()
