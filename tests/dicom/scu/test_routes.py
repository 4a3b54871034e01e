"""What the choice of contexts promises: those that fit, and the stored syntax wherever it can be."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pacsd.dicom.association import Context
from pacsd.dicom.scu.routes import MAX_CONTEXTS, Padded, Routes, proposals_for
from tests.dicom.fakes import CT, EXPLICIT, IMPLICIT, JPEG_LOSSLESS, MR, MemoryConverter, MemoryReader, MemoryStorage


@dataclass(frozen=True)
class Item:
    sop_class_uid: str
    transfer_syntax_uid: str = EXPLICIT
    sop_instance_uid: str = "1.1"


@given(st.lists(st.tuples(st.integers(1, 120), st.integers(1, 5)), max_size=400))
def test_what_fits_one_association_is_the_longest_run_that_its_contexts_hold(kinds: list[tuple[int, int]]) -> None:
    items = [Item(f"{CT}.{kind}", f"{IMPLICIT}.4.{syntax}") for kind, syntax in kinds]
    n_fitting, pairs = proposals_for(items)
    assert pairs == {(item.sop_class_uid, item.transfer_syntax_uid) for item in items[:n_fitting]}
    assert len(pairs) + len({sop_class for sop_class, _ in pairs}) <= MAX_CONTEXTS
    assert n_fitting == len(items) or len(proposals_for(items[: n_fitting + 1])[1]) == len(pairs)


def test_a_class_that_is_no_uid_takes_no_context() -> None:
    assert proposals_for([Item("not a uid"), Item("")]) == (2, frozenset())


def test_the_stored_syntax_is_taken_where_it_is_accepted_whatever_else_is() -> None:
    contexts = [
        Context(1, CT, EXPLICIT, True, False),
        Context(3, CT, JPEG_LOSSLESS, True, False),
        Context(5, MR, IMPLICIT, True, False),
        Context(7, CT, IMPLICIT, False, True),
    ]
    routes, converter = Routes(contexts), MemoryConverter(MemoryStorage())
    assert routes.choose(CT, JPEG_LOSSLESS, converter) is contexts[1]
    assert routes.choose(CT, EXPLICIT, None) is contexts[0]
    assert routes.choose(CT, IMPLICIT, None) is None
    assert routes.choose(CT, IMPLICIT, converter) is contexts[0]
    assert routes.choose(MR, EXPLICIT, converter) is contexts[2]
    assert routes.choose("1.2.3", EXPLICIT, converter) is None


@given(st.binary(max_size=40), st.integers(0, 45), st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_a_padded_reader_is_the_file_and_one_nul(data: bytes, offset: int, sizes: list[int]) -> None:
    padded = Padded(MemoryReader(data, "1.2.840.10008.1.2.1.99", 0))
    buffers = [memoryview(bytearray(b"\xff" * size)) for size in sizes]
    n_read = padded.readinto(offset, buffers)
    assert b"".join(buffers)[:n_read] == (data + b"\x00")[offset : offset + sum(sizes)]
    assert padded.size_bytes == len(data) + 1
