from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import pytest

from pacsd.model.errors import DuplicateInstance, OutOfResources, PacsError
from pacsd.model.objects import NewInstance, ObjectHeader, Outcome, StoredFile, StoredInstance
from pacsd.workflow.importing import Importer, Unfit, UnfitFile
from pacsd.workflow.intake import Receipt


class Source:
    """A file of someone else's, in memory."""

    def __init__(self, uid: str, content: Sequence[bytes], unfit: Unfit | None = None) -> None:
        self.header = ObjectHeader("1.2", uid, "1.3", "1.4", "1.5", {}, flags=frozenset({"bad-date"}))
        self.source_ae = "OLD"
        self.content = content
        self.unfit = unfit
        self.is_open = True

    def file_meta(self) -> bytes:
        return f"meta-{self.header.sop_instance_uid}-".encode()

    def pieces(self) -> Iterator[bytes]:
        yield from self.content
        if self.unfit is not None:
            raise UnfitFile(self.unfit)

    def digest(self, file_meta: bytes) -> bytes:
        return hashlib.sha256(file_meta + b"".join(self.content)).digest()

    def close(self) -> None:
        self.is_open = False


class Staged:
    def __init__(self, disk: Disk, meta: bytes) -> None:
        self.disk, self.content, self.size_bytes, self.is_discarded = disk, meta, 0, False
        self.head = b""

    def append(self, fragments: Sequence[bytes | memoryview]) -> None:
        if self.disk.full:
            raise OutOfResources("full")
        self.content += b"".join(fragments)
        self.size_bytes += sum(map(len, fragments))

    def discard(self) -> None:
        self.is_discarded = True


class Sealing:
    def __init__(self, files: list[StoredFile | Exception]) -> None:
        self.files = files

    def sync(self) -> list[StoredFile | Exception]:
        return self.files


class Disk:
    """Storage, index and recorder in memory."""

    def __init__(self) -> None:
        self.full = False
        self.staged: list[Staged] = []
        self.files: dict[bytes, bytes] = {}
        self.rows: dict[str, NewInstance] = {}
        self.answers: dict[str, PacsError] = {}
        self.n_transactions = 0

    def begin(self, file_meta: bytes) -> Staged:
        self.staged.append(Staged(self, file_meta))
        return self.staged[-1]

    def begin_seal(self, staged: Sequence[Staged]) -> Sealing:
        return Sealing([self._seal(one) for one in staged])

    def _seal(self, one: Staged) -> StoredFile | Exception:
        if b"torn" in one.content:
            return OutOfResources("the disk failed")
        digest = hashlib.sha256(one.content).digest()
        self.files[digest] = one.content
        return StoredFile("p", "d", digest, len(one.content))

    def exists(self, file: StoredFile) -> bool:
        return file.digest in self.files

    def lookup(self, sop_instance_uids: Sequence[str]) -> list[StoredInstance]:
        return [
            StoredInstance(1, "1.2", uid, "1.5", "1.4", "1.3", (self.rows[uid].file,))
            for uid in sop_instance_uids
            if uid in self.rows
        ]

    def record(self, news: Sequence[NewInstance]) -> list[Receipt | PacsError]:
        self.n_transactions += 1
        answers: list[Receipt | PacsError] = []
        for new in news:
            uid = new.header.sop_instance_uid
            if uid in self.answers:
                answers.append(self.answers[uid])
            else:
                self.rows[uid] = new
                answers.append(Receipt(Outcome.STORED, 1, new.header.flags))
        return answers


Take = Callable[..., list[tuple[Outcome | None, Unfit | None, str]]]


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def sources() -> dict[str, Source | UnfitFile]:
    return {}


@pytest.fixture
def take(disk: Disk, sources: dict[str, Source | UnfitFile]) -> Iterator[Take]:
    def open_file(path: str) -> Source:
        source = sources[path]
        if isinstance(source, UnfitFile):
            raise source
        return source

    importer = Importer(disk, disk, disk, open_file, lambda: 7.0)  # type: ignore[arg-type]

    def call(*paths: str, dry: bool = False) -> list[tuple[Outcome | None, Unfit | None, str]]:
        taken = importer.take(paths, dry=dry)
        assert [one.path for one in taken] == list(paths)
        return [(one.outcome, one.unfit, str(one.error or "")) for one in taken]

    yield call
    assert not any(source.is_open for source in sources.values() if isinstance(source, Source))


STORED = (Outcome.STORED, None, "")
HELD = (Outcome.DUPLICATE, None, "")


def test_a_group_shares_one_transaction_and_keeps_its_order(
    disk: Disk, sources: dict[str, Source | UnfitFile], take: Take
) -> None:
    sources.update(a=Source("1", [b"x", b"y"]), b=UnfitFile(Unfit.NOT_DICOM), c=Source("3", [b"z"]))
    assert take("a", "b", "c") == [STORED, (None, Unfit.NOT_DICOM, ""), STORED]
    assert disk.n_transactions == 1
    assert set(disk.files.values()) == {b"meta-1-xy", b"meta-3-z"}
    assert (disk.rows["1"].source_ae, disk.rows["1"].received_at) == ("OLD", 7.0)


def test_what_is_held_with_the_same_bytes_is_not_written_again(
    disk: Disk, sources: dict[str, Source | UnfitFile], take: Take
) -> None:
    sources.update(a=Source("1", [b"x"]), again=Source("1", [b"x"]))
    assert take("a") == [STORED]
    assert take("again") == [HELD]
    assert len(disk.staged) == 1


def test_what_is_held_by_a_row_only_is_written(disk: Disk, sources: dict[str, Source | UnfitFile], take: Take) -> None:
    sources.update(a=Source("1", [b"x"]), again=Source("1", [b"x"]))
    take("a")
    disk.files.clear()
    take("again")
    assert list(disk.files.values()) == [b"meta-1-x"]


def test_a_dry_run_writes_nothing(disk: Disk, sources: dict[str, Source | UnfitFile], take: Take) -> None:
    sources.update(a=Source("1", [b"x"]))
    assert take("a", dry=True) == [STORED]
    assert (disk.staged, disk.n_transactions) == ([], 0)


def test_a_file_that_cannot_be_read_to_its_end_leaves_nothing(
    disk: Disk, sources: dict[str, Source | UnfitFile], take: Take
) -> None:
    sources.update(a=Source("1", [b"x"], Unfit.UNREADABLE), b=Source("2", [b"y"]))
    assert take("a", "b") == [(None, Unfit.UNREADABLE, ""), STORED]
    assert [one.is_discarded for one in disk.staged] == [True, False]


def test_a_full_disk_fails_each_file_and_leaves_nothing(
    disk: Disk, sources: dict[str, Source | UnfitFile], take: Take
) -> None:
    disk.full = True
    sources.update(a=Source("1", [b"x"]), b=Source("2", [b"y"]))
    assert take("a", "b") == [(None, None, "full")] * 2
    assert all(one.is_discarded for one in disk.staged)
    assert disk.n_transactions == 0


def test_one_object_s_failure_spoils_none_of_the_others(
    disk: Disk, sources: dict[str, Source | UnfitFile], take: Take
) -> None:
    disk.answers["3"] = OutOfResources("away")
    disk.answers["4"] = DuplicateInstance("held")
    sources.update(a=Source("1", [b"torn"]), b=Source("2", [b"y"]), c=Source("3", [b"z"]), d=Source("4", [b"w"]))
    assert take("a", "b", "c", "d") == [
        (None, None, "the disk failed"),
        STORED,
        (None, None, "away"),
        (None, Unfit.REFUSED, ""),
    ]
