"""Group commit of complete objects: final names first, then one round of syncs for all (docs/adr/0002, 0003).

Order for a group: rename each to its digest, start to write all, fdatasync each, fsync each directory once.
A name that is a digest can be judged after a power cut, so the rename needs no sync before it, and it
shares the file system's transaction with the data. An object is visible when the index has its row, not
when its name appears.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from pacsd.model.errors import PacsError
from pacsd.model.objects import StoredFile
from pacsd.storage.journal import OpenDirectory
from pacsd.storage.staging import StagedFile
from pacsd.storage.writeback import start_writeback

Results = dict[int, StoredFile | Exception]


def seal(staged: Sequence[StagedFile]) -> list[StoredFile | Exception]:
    """Make each object durable under its final name. Blocks; threads may seal different objects at once.

    An error at sync time moves the object to the next pool. What fails for good is an exception in its
    place, and nothing of it is left; it never spoils the others.
    """
    results: Results = {}
    waiting: list[int] = []
    for place, one in enumerate(staged):
        try:
            one.publish()
        except (PacsError, ValueError) as error:
            results[place] = error
        else:
            waiting.append(place)
    while waiting:
        waiting = _sync_round(staged, waiting, results)
    return [results[place] for place in range(len(staged))]


def _sync_round(staged: Sequence[StagedFile], waiting: list[int], results: Results) -> list[int]:
    """Sync all that wait; returns the places of those that went to another pool and must be synced there.

    Ends in at most as many rounds as there are pools: a moved object never goes back.
    """
    if len(waiting) > 1:
        for place in waiting:
            start_writeback(staged[place].fd)
    failed: list[tuple[int, OSError]] = []
    by_directory: dict[OpenDirectory, list[int]] = {}
    for place in waiting:
        try:
            staged[place].sync()
        except OSError as error:
            failed.append((place, error))
        else:
            by_directory.setdefault(staged[place].directory, []).append(place)
    for directory, places in by_directory.items():
        try:
            os.fsync(directory.fd)
        except OSError as error:
            failed += [(place, error) for place in places]
        else:
            for place in places:
                results[place] = staged[place].close()
    return [place for place, error in failed if _relocate(staged[place], place, error, results)]


def _relocate(one: StagedFile, place: int, error: OSError, results: Results) -> bool:
    try:
        one.relocate(error)
    except PacsError as final:
        results[place] = final
        return False
    return True
