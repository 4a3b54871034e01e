"""Files of any folder as objects to be sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pacsd.dicom.wire.part10 import ENOUGH_HEAD_BYTES, Part10Error, decode_file_meta
from pacsd.model.errors import IntegrityError, PacsError
from pacsd.storage.reader import FileReader
from pacsd.workflow.ports import Offload
from pacsd.workflow.retrieve import Opened

PAGE_SIZE: Final = 100


@dataclass(frozen=True, slots=True)
class FileObject:
    """What a file's meta says; empty UIDs with an `error` for a file that can't be sent."""

    path: Path
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    error: str = ""


def look_at(path: Path) -> FileObject:
    """Read a file's meta. Blocks; never raises for what the file is."""
    try:
        with path.open("rb") as file:
            meta = decode_file_meta(file.read(ENOUGH_HEAD_BYTES))
    except OSError as error:
        return FileObject(path, error=f"{path} can't be read: {error.strerror}")
    except Part10Error:
        return FileObject(path, error=f"{path} is no DICOM file")
    if not meta.sop_class or not meta.sop_instance:
        return FileObject(path, error=f"{path} is no DICOM file, or its file meta names no SOP instance")
    return FileObject(path, meta.sop_class, meta.sop_instance, meta.transfer_syntax)


def open_file(item: FileObject) -> Opened:
    """Open one file. Blocks; never raises for what the file is."""
    if item.error:
        return Opened(item, None, None, IntegrityError(item.error))
    try:
        return Opened(item, FileReader(str(item.path)))
    except PacsError as error:
        return Opened(item, None, None, error)


def _look_at_all(paths: Sequence[Path]) -> list[FileObject]:
    return [look_at(path) for path in paths]


class Files:
    """Files in the order given; a `retrieve.Source`."""

    def __init__(self, paths: Sequence[Path], offload: Offload) -> None:
        self._paths = deque(paths)
        self._offload = offload
        self._page: deque[FileObject] = deque()

    async def upcoming(self) -> Sequence[FileObject]:
        """See Source."""
        if not self._page and self._paths:
            paths = [self._paths[i] for i in range(min(PAGE_SIZE, len(self._paths)))]
            self._page.extend(await self._offload.run(_look_at_all, paths))
            for _ in paths:
                self._paths.popleft()
        return tuple(self._page)

    async def next(self) -> Opened | None:
        """See Source."""
        if not self._page and not await self.upcoming():
            return None
        opened = await self._offload.run(open_file, self._page[0])
        self._page.popleft()
        return opened

    def skip(self) -> int:
        """See Source."""
        n_skipped = len(self._page)
        self._page.clear()
        return n_skipped
