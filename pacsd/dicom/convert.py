"""Objects in another transfer syntax, for receivers that don't take the stored one.

The codecs run in worker processes (a crash there ends one job, not the server); the result lies in a scratch folder
only until it is opened.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred

from pacsd.model.objects import StoredFile
from pacsd.runtime.processes import ProcessPool
from pacsd.storage import transcode
from pacsd.storage.pools import Pools
from pacsd.storage.reader import FileReader
from pacsd.workflow.ports import ObjectReader

TIMEOUT_S = 600.0


class ProcessConverter:
    """Port `workflow.retrieve.Converter` over a pool of processes.

    Args:
        scratch: folder for converted objects; emptied at the start, on a disk with room for the largest object.
    """

    def __init__(self, pools: Pools, processes: ProcessPool, scratch: Path) -> None:
        self._pools = pools
        self._processes = processes
        self._scratch = scratch
        self._n_made = 0

    def prepare(self) -> None:
        """Make the scratch folder and remove what a killed process left there. Blocks."""
        self._scratch.mkdir(mode=0o750, parents=True, exist_ok=True)
        for left in self._scratch.iterdir():
            left.unlink(missing_ok=True)

    def targets(self, transfer_syntax_uid: str) -> Sequence[str]:
        """See Converter."""
        return transcode.targets(transfer_syntax_uid)

    def convert(self, file: StoredFile, target_uid: str) -> Awaitable[ObjectReader]:
        """See Converter."""
        self._n_made += 1
        out_path = str(self._scratch / f"{os.getpid()}-{self._n_made}.dcm")

        async def converted() -> ObjectReader:
            source = self._pools.path(file)
            made = await self._processes.run(transcode.convert, source, target_uid, out_path, timeout_s=TIMEOUT_S)
            try:
                return FileReader(made.path, made.size_bytes)
            finally:
                with contextlib.suppress(OSError):  # what stays is removed by the next start
                    Path(made.path).unlink()  # noqa: ASYNC240 - one unlink of a file that is held open

        return Deferred.fromCoroutine(converted())
