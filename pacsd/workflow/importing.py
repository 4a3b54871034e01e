"""Taking files from elsewhere into the archive: a folder, a CD, the disk of an older system.

Each file goes the way of a received object: our file meta, the data set's bytes as they are, sealed and recorded in
groups. What is held already isn't written again, so an import that broke off is simply run once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from pacsd.model.errors import DuplicateInstance, PacsError
from pacsd.model.objects import NewInstance, ObjectHeader, Outcome, StoredFile, StoredInstance
from pacsd.workflow.ports import Clock, StagedObject, Storage


class Unfit(Enum):
    """Why a file is not imported."""

    NOT_DICOM = "not DICOM"
    DICOMDIR = "a DICOMDIR, the index of a medium"
    NO_SOP_INSTANCE_UID = "no SOP Instance UID that could be kept"
    NO_SOP_CLASS_UID = "no SOP Class UID"
    UNREADABLE = "can't be read"
    ABSENT = "listed in a DICOMDIR, but not there"
    REFUSED = "another object is held under its SOP Instance UID"

    @property
    def is_loss(self) -> bool:
        """Whether an image may be lost by it: the medium is damaged or incomplete."""
        return self in (Unfit.UNREADABLE, Unfit.ABSENT)


class UnfitFile(Exception):
    """A file can't be imported."""

    def __init__(self, why: Unfit) -> None:
        super().__init__(why.value)
        self.why = why


class ForeignObject(Protocol):
    """An opened file of someone else's."""

    header: ObjectHeader
    source_ae: str
    """As its file meta says; ''."""

    def file_meta(self) -> bytes:
        """The beginning (preamble and file meta) that our file gets. Raises UnfitFile."""

    def pieces(self) -> Iterator[bytes]:
        """The data set's bytes from the start, in pieces of bounded size. Raises UnfitFile."""

    def digest(self, file_meta: bytes) -> bytes:
        """SHA-256 of `file_meta` and the data set: the file's name if it were kept. Raises UnfitFile."""

    def close(self) -> None: ...


class Held(Protocol):
    """What an import asks the index."""

    def lookup(self, sop_instance_uids: Sequence[str]) -> list[StoredInstance]:
        """Those of some instances that are held, in no promised order."""


class Recorder(Protocol):
    """What writes rows: `ingest.Ingest`."""

    def record(self, news: Sequence[NewInstance]) -> Sequence[object]:
        """The rows of sealed files, in one transaction; a Receipt or an error for each, in order."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one file.

    Attributes:
        outcome: None when it wasn't taken; then either `unfit` (it can't be) or `error` (not now) says why.
        size_bytes: of its data set; 0 when unknown.
        flags: what is odd about it (see `ObjectHeader`).
    """

    path: str
    outcome: Outcome | None = None
    unfit: Unfit | None = None
    error: PacsError | None = None
    size_bytes: int = 0
    flags: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Staged:
    place: int
    source: ForeignObject
    staged: StagedObject


class Importer:
    """Takes groups of files. Blocks; several threads may take different groups at once.

    Args:
        open_file: opens one path. Raises UnfitFile.
    """

    def __init__(
        self,
        storage: Storage,
        held: Held,
        recorder: Recorder,
        open_file: Callable[[str], ForeignObject],
        clock: Clock,
    ) -> None:
        self._storage = storage
        self._held = held
        self._recorder = recorder
        self._open_file = open_file
        self._clock = clock

    def take(self, paths: Sequence[str], *, dry: bool = False) -> list[Taken]:
        """Import some files with one round of syncs and one transaction; answers in order.

        Memory: one piece of one file, and the heads of all.

        Args:
            dry: write nothing; STORED says that it would be stored or, with other bytes under its UID, judged.

        Raises:
            errors.OutOfResources: the database can't be asked; nothing was done.
        """
        answers: list[Taken] = [Taken(path) for path in paths]
        sources: dict[int, ForeignObject] = {}
        try:
            for place, path in enumerate(paths):
                try:
                    sources[place] = self._open_file(path)
                except UnfitFile as unfit:
                    answers[place] = Taken(path, unfit=unfit.why)
            held = self._held_files([source.header.sop_instance_uid for source in sources.values()])
            staged: list[_Staged] = []
            for place, source in sources.items():
                answer = self._hold_or_stage(paths[place], place, source, held, staged, dry=dry)
                if answer is not None:
                    answers[place] = answer
            for place, answer in self._commit(paths, staged):
                answers[place] = answer
        finally:
            for source in sources.values():
                source.close()
        return answers

    def _held_files(self, uids: Sequence[str]) -> dict[str, tuple[StoredFile, ...]]:
        if not uids:
            return {}
        return {instance.sop_instance_uid: instance.files for instance in self._held.lookup(uids)}

    def _hold_or_stage(
        self,
        path: str,
        place: int,
        source: ForeignObject,
        held: dict[str, tuple[StoredFile, ...]],
        staged: list[_Staged],
        *,
        dry: bool,
    ) -> Taken | None:
        """Find it held already, or write it into a pool; None when it was written."""
        size, flags = 0, source.header.flags
        try:
            meta = source.file_meta()
            candidates = held.get(source.header.sop_instance_uid, ())
            if candidates:
                digest = source.digest(meta)
                if any(file.digest == digest and self._storage.exists(file) for file in candidates):
                    return Taken(path, Outcome.DUPLICATE, flags=flags)
            if dry:
                return Taken(path, Outcome.STORED, flags=flags)
            one = self._storage.begin(meta)
        except UnfitFile as unfit:
            return Taken(path, unfit=unfit.why)
        except PacsError as error:
            return Taken(path, error=error)
        try:
            for piece in source.pieces():
                one.append([piece])
                size += len(piece)
        except UnfitFile as unfit:
            one.discard()
            return Taken(path, unfit=unfit.why)
        except PacsError as error:
            one.discard()
            return Taken(path, error=error, size_bytes=size)
        except BaseException:
            one.discard()
            raise
        staged.append(_Staged(place, source, one))
        return None

    def _commit(self, paths: Sequence[str], staged: Sequence[_Staged]) -> Iterator[tuple[int, Taken]]:
        if not staged:
            return
        received_at = self._clock()
        news: list[tuple[_Staged, NewInstance]] = []
        for one, sealed in zip(staged, self._storage.begin_seal([each.staged for each in staged]).sync(), strict=True):
            if isinstance(sealed, StoredFile):
                source = one.source
                news.append((one, NewInstance(source.header, sealed, received_at, source.source_ae)))
            elif isinstance(sealed, PacsError):
                yield one.place, Taken(paths[one.place], error=sealed, size_bytes=one.staged.size_bytes)
            else:
                raise sealed
        for (one, new), answer in zip(news, self._recorder.record([new for _, new in news]), strict=True):
            path, size = paths[one.place], one.staged.size_bytes
            if isinstance(answer, DuplicateInstance):
                yield one.place, Taken(path, unfit=Unfit.REFUSED, size_bytes=size)
            elif isinstance(answer, PacsError):
                yield one.place, Taken(path, error=answer, size_bytes=size)
            else:
                outcome: Outcome = getattr(answer, "outcome", Outcome.STORED)
                yield one.place, Taken(path, outcome, size_bytes=size, flags=new.header.flags)
