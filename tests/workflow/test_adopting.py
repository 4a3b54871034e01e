from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from pacsd.model.errors import OutOfResources
from pacsd.model.objects import ConflictRule, NewInstance, ObjectHeader, Outcome, Recorded, StoredFile, StoredInstance
from pacsd.workflow.adopting import Adoption


class Index:
    """Rows in memory: by SOP Instance UID the file that is served, and what is set aside."""

    def __init__(self) -> None:
        self.served: dict[str, NewInstance] = {}
        self.aside: list[bytes] = []
        self.locations: list[StoredFile] = []
        self.away = False
        self.batches: list[int] = []

    def record(self, batch: Sequence[NewInstance]) -> list[Recorded]:
        if self.away:
            raise OutOfResources("away")
        self.batches.append(len(batch))
        return [self._record(new) for new in batch]

    def _record(self, new: NewInstance) -> Recorded:
        first = self.served.setdefault(new.header.sop_instance_uid, new)
        if first is new:
            return Recorded(Outcome.STORED, 1)
        outcome = Outcome.DUPLICATE if first.file.digest == new.file.digest else Outcome.CONFLICT
        return Recorded(outcome, 1, StoredInstance(1, "", "", "", "", "", (first.file,)))

    def record_conflict(self, new: NewInstance, rule: ConflictRule) -> Recorded:
        uid = new.header.sop_instance_uid
        if rule is ConflictRule.REPLACE:
            self.served[uid], new = new, self.served[uid]
        self.aside.append(new.file.digest)
        return Recorded(Outcome.KEPT_ASIDE, 1)

    def add_location(self, instance_id: int, file: StoredFile) -> None:
        self.locations.append(file)


class Files:
    def __init__(self) -> None:
        self.gone: set[bytes] = set()

    def exists(self, file: StoredFile) -> bool:
        return file.digest not in self.gone

    def same_dataset(self, a: StoredFile, b: StoredFile) -> bool:
        return a.digest[:1] == b.digest[:1]


def new(uid: str, digest: bytes, received_at: float = 0.0, directory: str = "d") -> NewInstance:
    return NewInstance(ObjectHeader("", uid, "", "", "", {}), StoredFile("p", directory, digest, 1), received_at)


def adoption(index: Index, files: Files | None = None, rule: ConflictRule = ConflictRule.KEEP_BOTH) -> Adoption:
    return Adoption(index, files or Files(), rule, lambda file: float(file.digest[1:]), batch=2)


def test_files_are_recorded_in_groups_and_the_rest_by_flush() -> None:
    index = Index()
    adopting = adoption(index)
    for number in range(5):
        adopting.add(new(f"1.{number}", b"a1"))
    assert index.batches == [2, 2]
    adopting.flush()
    adopting.flush()
    assert index.batches == [2, 2, 1]
    assert adopting.n_new == 5


def test_a_second_file_with_the_same_bytes_or_data_set_becomes_a_further_place() -> None:
    index = Index()
    adopting = adoption(index)
    for one in (new("1", b"a1"), new("1", b"a1", directory="e"), new("1", b"a2")):
        adopting.add(one)
    adopting.flush()
    assert [file.digest for file in index.locations] == [b"a1", b"a2"]
    assert (adopting.n_new, adopting.n_known, index.aside) == (1, 2, [])


@pytest.mark.parametrize("order", list(itertools.permutations([1, 2, 3])))
@pytest.mark.parametrize(
    ("rule", "served"), [(ConflictRule.KEEP_BOTH, 1), (ConflictRule.REFUSE, 1), (ConflictRule.REPLACE, 3)]
)
def test_which_of_several_objects_is_served_does_not_depend_on_the_order(
    order: tuple[int, ...], rule: ConflictRule, served: int
) -> None:
    index = Index()
    adopting = adoption(index, rule=rule)
    for number in order:
        adopting.add(new("1", f"{'abc'[number - 1]}{number}".encode(), number))
        adopting.flush()
    assert index.served["1"].received_at == served
    assert len(index.aside) == adopting.n_set_aside == 2


@pytest.mark.parametrize("rule", list(ConflictRule))
def test_a_file_takes_the_place_of_one_that_is_gone(rule: ConflictRule) -> None:
    index, files = Index(), Files()
    adopting = adoption(index, files, rule)
    adopting.add(new("1", b"a2", 2))
    adopting.flush()
    files.gone.add(b"a2")
    adopting.add(new("1", b"b1", 1))
    adopting.flush()
    assert index.served["1"].file.digest == b"b1"


def test_what_could_not_be_recorded_still_waits() -> None:
    index = Index()
    adopting = adoption(index)
    adopting.add(new("1", b"a1"))
    index.away = True
    with pytest.raises(OutOfResources):
        adopting.flush()
    index.away = False
    adopting.flush()
    assert list(index.served) == ["1"]
