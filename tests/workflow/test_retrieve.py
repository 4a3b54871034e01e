"""What a retrieve promises: the selection the identifier names, and a count that adds up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsd.model.attributes import Level
from pacsd.model.dataset import Dataset, Element
from pacsd.model.errors import Busy, IntegrityError
from pacsd.model.objects import StoredFile, StoredInstance
from pacsd.model.query import Root, Selector
from pacsd.workflow.query import IdentifierRefused
from pacsd.workflow.retrieve import MAX_FAILED_UIDS, Instances, SubOperations, open_instance, selector_of
from tests.dicom.fakes import MemoryIndex, MemoryStorage
from tests.workflow.immediate import ImmediateOffload, finish

LEVEL, PATIENT_ID, STUDY_UID, SERIES_UID, SOP_UID = 0x00080052, 0x00100020, 0x0020000D, 0x0020000E, 0x00080018


def identifier(level: str, **named: tuple[str, ...]) -> Dataset:
    tags = {"patient": PATIENT_ID, "study": STUDY_UID, "series": SERIES_UID, "sop": SOP_UID}
    elements = {tags[name]: Element("LO" if name == "patient" else "UI", values) for name, values in named.items()}
    return Dataset({LEVEL: Element("CS", (level,)), **elements})


def test_a_list_of_uids_at_the_level_selects_each() -> None:
    level, selector = selector_of(Root.STUDY, identifier("SERIES", study=("1.2",), series=("1.3", "1.4")))
    assert level is Level.SERIES
    assert selector == Selector(study_uids=("1.2",), series_uids=("1.3", "1.4"))


def test_all_four_levels_of_patient_root_narrow_the_selection() -> None:
    keys = identifier("IMAGE", patient=("P",), study=("1.2",), series=("1.3",), sop=("1.4", "1.5"))
    assert selector_of(Root.PATIENT, keys)[1] == Selector(("P",), "", ("1.2",), ("1.3",), ("1.4", "1.5"))


def test_keys_below_the_level_do_not_narrow_it() -> None:
    keys = identifier("STUDY", study=("1.2",), series=("1.3",))
    assert selector_of(Root.STUDY, keys)[1] == Selector(study_uids=("1.2",))


@pytest.mark.parametrize("root", [Root.STUDY, Root.PATIENT])
def test_without_the_levels_own_key_nothing_is_selected(root: Root) -> None:
    keys = identifier("STUDY", patient=("P",), study=("",))
    for relational in (False, True):
        with pytest.raises(IdentifierRefused) as refused:
            selector_of(root, keys, relational=relational)
        assert refused.value.offending == (STUDY_UID,)


def test_keys_above_the_level_may_be_missing_only_where_relational_retrieval_was_negotiated() -> None:
    keys = identifier("IMAGE", sop=("1.4",))
    with pytest.raises(IdentifierRefused):
        selector_of(Root.STUDY, keys)
    assert selector_of(Root.STUDY, keys, relational=True)[1] == Selector(sop_instance_uids=("1.4",))


@given(st.lists(st.sampled_from(["succeed", "warn", "fail"]), max_size=60), st.booleans())
def test_every_object_is_counted_once_and_decides_the_status(results: list[str], cancelled: bool) -> None:
    counts = SubOperations(remaining=60)
    for number, result in enumerate(results):
        getattr(counts, result)(*([f"1.{number}"] if result == "fail" else []))
    n_failed, n_warned, n_completed = (results.count(kind) for kind in ("fail", "warn", "succeed"))
    assert (counts.failed, counts.warning, counts.completed) == (n_failed, n_warned, n_completed)
    assert counts.remaining == 60 - len(results)
    assert counts.failed_uids == [f"1.{i}" for i, result in enumerate(results) if result == "fail"]
    if cancelled:
        expected = 0xFE00
    elif n_failed and n_failed == len(results):
        expected = 0xA702
    else:
        expected = 0xB000 if n_failed or n_warned else 0x0000
    assert counts.status(cancelled=cancelled) == expected


def test_the_list_of_failed_uids_is_bounded_and_the_count_is_not() -> None:
    counts = SubOperations(remaining=MAX_FAILED_UIDS)
    for number in range(MAX_FAILED_UIDS + 5):
        counts.fail(f"1.{number}")
    assert len(counts.failed_uids) == MAX_FAILED_UIDS
    assert counts.failed == MAX_FAILED_UIDS + 5
    assert counts.remaining == 0


def test_the_next_copy_is_opened_where_the_first_is_gone() -> None:
    storage = MemoryStorage()
    whole = storage.put("1.2.840.10008.5.1.4.1.1.2", "1.1", "1.2.840.10008.1.2", b"data")
    gone = StoredFile("b", "objects", bytes(32), 10)
    instance = StoredInstance(1, "c", "1.1", "1.2", "1.3", "1.2.840.10008.1.2", (gone, whole))
    opened = open_instance(storage, instance)
    assert opened.file == whole
    assert opened.reader is not None
    assert opened.error is None


def test_an_instance_without_a_readable_copy_is_opened_as_an_error() -> None:
    instance = StoredInstance(1, "c", "1.1", "1.2", "1.3", "t", (StoredFile("b", "objects", bytes(32), 10),))
    opened = open_instance(MemoryStorage(), instance)
    assert opened.reader is None
    assert isinstance(opened.error, IntegrityError)


def test_instances_come_in_order_across_pages_each_once() -> None:
    storage, index = MemoryStorage(), MemoryIndex()
    for number in range(25):
        index.add(storage, f"1.{number}")
    source = Instances(Selector(study_uids=("1.2.3",)), index, storage, ImmediateOffload(), page_size=10)
    uids = []
    while (opened := finish(source.next())) is not None:
        uids.append(opened.instance.sop_instance_uid)
        opened.close()
    assert uids == [f"1.{number}" for number in range(25)]
    assert storage.n_open == 0


def test_a_full_pool_costs_no_instance() -> None:
    storage, index, offload = MemoryStorage(), MemoryIndex(), ImmediateOffload()
    index.add(storage, "1.1")
    source = Instances(Selector(study_uids=("1.2.3",)), index, storage, offload)
    finish(source.upcoming())
    offload.refusals.append(Busy("full"))
    with pytest.raises(Busy):
        finish(source.next())
    assert finish(source.next()).instance.sop_instance_uid == "1.1"


def test_skipping_goes_on_behind_the_known_instances() -> None:
    storage, index = MemoryStorage(), MemoryIndex()
    for number in range(5):
        index.add(storage, f"1.{number}")
    source = Instances(Selector(study_uids=("1.2.3",)), index, storage, ImmediateOffload(), page_size=2)
    finish(source.upcoming())
    assert source.skip() == 2
    assert [known.sop_instance_uid for known in finish(source.upcoming())] == ["1.2", "1.3"]
