"""Group commit of complete objects: final names first, then one round of syncs for all (docs/adr/0002, 0003).

Order for a group: rename each to its digest, start to write all, fdatasync each, fsync each directory once. A name
that is a digest can be judged after a power cut, so the rename needs no sync before it, and it shares the file
system's transaction with the data. An object is visible when the index has its row, not when its name appears.

The two halves are apart, so that rows can be prepared while the disk works: `begin_seal` names, `Sealing.sync` waits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from pacsd.model.errors import PacsError
from pacsd.model.objects import StoredFile
from pacsd.storage.journal import OpenDirectory
from pacsd.storage.staging import StagedFile
from pacsd.storage.writeback import start_writeback


def seal(staged: Sequence[StagedFile]) -> list[StoredFile | Exception]:
    """Make each object durable under its final name. Blocks; several threads may seal different objects at once.

    An error at sync time moves the object to the next pool. What fails for good is an exception in its place, and
    nothing of it is left; it never spoils the others.
    """
    return begin_seal(staged).sync()


def begin_seal(staged: Sequence[StagedFile]) -> Sealing:
    """Give each object its final name and have the kernel begin to write. Blocks, but not for the disk."""
    results: list[StoredFile | Exception] = []
    waiting: list[int] = []
    for place, one in enumerate(staged):
        try:
            one.publish()
        except (PacsError, ValueError, OSError) as error:
            results.append(error)
        else:
            results.append(one.sealed_as())
            waiting.append(place)
    for place in waiting:
        start_writeback(staged[place].fd)
    return Sealing(staged, results, waiting)


class Sealing:
    """A group between its names and its syncs.

    Attributes:
        files: where each object lies, or why it doesn't; after `sync` what is true for good. A sync that fails moves
            its object to another pool, which shows as another entry here.
    """

    def __init__(self, staged: Sequence[StagedFile], files: list[StoredFile | Exception], waiting: list[int]) -> None:
        self.files = files
        self._staged = staged
        self._waiting = waiting

    def sync(self) -> list[StoredFile | Exception]:
        """Wait until each object and its directory entry are durable; to be called once, in any thread."""
        results = dict(enumerate(self.files))
        waiting = self._waiting
        while waiting:
            waiting = _sync_round(self._staged, waiting, results)
        self.files = [results[place] for place in range(len(results))]
        return self.files


def _sync_round(
    staged: Sequence[StagedFile], waiting: list[int], results: dict[int, StoredFile | Exception]
) -> list[int]:
    """Sync all that wait; returns the places of those that went to another pool and must be synced there.

    Ends in at most as many rounds as there are pools: a moved object never goes back.
    """
    again: list[int] = []

    def move(place: int, error: OSError) -> None:
        try:
            staged[place].relocate(error)
        except (PacsError, OSError) as final:
            results[place] = final
        else:
            again.append(place)

    by_directory: dict[OpenDirectory, list[int]] = {}
    for place in waiting:
        try:
            staged[place].sync()
        except OSError as error:
            move(place, error)
        else:
            by_directory.setdefault(staged[place].directory, []).append(place)
    for directory, places in by_directory.items():
        try:
            os.fsync(directory.fd)
        except OSError as error:
            for place in places:
                move(place, error)
        else:
            for place in places:
                results[place] = staged[place].close()
    return again
