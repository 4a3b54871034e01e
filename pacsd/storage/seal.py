"""Group commit of complete objects: the seal log or final names first, then one round of syncs (docs/adr/0002, 0003).

Order for a group without a log: rename each to its digest, start to write all, fdatasync each, fsync each directory
once. A name that is a digest can be judged after a power cut, so the rename needs no sync before it, and it shares the
file system's transaction with the data. An object is visible when the index has its row, not when its name appears.

Small objects are written to the seal log first, if there is one (docs/adr/0010): the log's sync is all that is waited
for, and their files get their names meanwhile.

The two halves are apart, so that rows can be prepared while the disk works: `begin_seal` names, `Sealing.sync` waits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from pacsd.model.errors import PacsError
from pacsd.model.objects import StoredFile
from pacsd.storage.journal import OpenDirectory
from pacsd.storage.seallog import LogGroup, SealLog
from pacsd.storage.sealrecord import Record
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
    sealing = Sealing(staged)
    sealing.begin()
    return sealing


class _Logged:
    """Objects of one group in one log.

    Attributes:
        directories: by place, where each file was to be made when the log was written.
        places: of those whose files are there; the others found another pool, or none.
    """

    __slots__ = ("directories", "group", "places")

    def __init__(self, group: LogGroup, directories: dict[int, OpenDirectory]) -> None:
        self.group = group
        self.directories = directories
        self.places: list[int] = []


class Sealing:
    """A group between its names and its syncs.

    Attributes:
        files: where each object lies, or why it doesn't; after `sync` what is true for good. A sync that fails moves
            its object to another pool, which shows as another entry here.
    """

    def __init__(self, staged: Sequence[StagedFile]) -> None:
        self.files: list[StoredFile | Exception] = []
        self._staged = staged
        self._waiting: list[int] = []
        self._results: dict[int, StoredFile | Exception] = {}
        self._logged: list[_Logged] = []
        self._over = False

    def begin(self) -> None:
        """Log, name, begin to write; called once, by `begin_seal`."""
        self._log()
        logged = {place: way for way in self._logged for place in way.directories}
        for place, one in enumerate(self._staged):
            try:
                one.publish()
            except (PacsError, ValueError, OSError) as error:
                self.files.append(error)
            else:
                self.files.append(one.sealed_as())
                way = logged.get(place)
                if way is not None and way.directories[place] is one.directory:
                    way.places.append(place)
                else:
                    self._waiting.append(place)
        for place in self._waiting:
            start_writeback(self._staged[place].fd)
        self._results.update(enumerate(self.files))

    def sync(self) -> list[StoredFile | Exception]:
        """Wait until each object and its directory entry are durable.

        In any thread, by one at a time; it may be called again. To be called for each group, or its log is never
        flushed.
        """
        if not self._over:
            self._over = True
            self._sync_files(self._waiting)
            self._sync_logs()
            self.files = [self._results[place] for place in range(len(self._results))]
        return self.files

    def _log(self) -> None:
        """Write what is small to the log of the pool where its file will be."""
        by_log: dict[SealLog, list[tuple[int, Record]]] = {}
        for place, one in enumerate(self._staged):
            try:
                logged = one.logged()
            except PacsError:
                continue  # `publish` meets it again
            if logged is not None:
                log, record = logged
                by_log.setdefault(log, []).append((place, record))
        for log, entries in by_log.items():
            group = log.append([record for _, record in entries])
            if group is not None:
                directories = {place: self._staged[place].directory for place, _ in entries}
                self._logged.append(_Logged(group, directories))

    def _sync_logs(self) -> None:
        """Wait for the logs; where one failed the files themselves are synced."""
        for way in self._logged:
            placed: list[tuple[OpenDirectory, bytes]] = []
            try:
                way.group.sync()
                for place in way.places:
                    file = self._results[place] = self._staged[place].close()
                    placed.append((way.directories[place], file.digest))
            except OSError:
                self._sync_files(way.places)
            finally:
                way.group.end(placed)

    def _sync_files(self, waiting: list[int]) -> None:
        while waiting:
            waiting = _sync_round(self._staged, waiting, self._results)


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
