from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsd.storage.part10 import MetaIncompleteError, parse_meta
from tests.storage.conftest import CT_STORAGE, EXPLICIT_LITTLE, dataset, element, file_meta


def test_a_plain_file_says_what_it_is() -> None:
    whole = file_meta("1.2.3") + dataset()
    meta = parse_meta(whole, len(whole))
    assert meta == (CT_STORAGE, "1.2.3", EXPLICIT_LITTLE, "MODALITY", len(file_meta("1.2.3")), frozenset())


@pytest.mark.parametrize("stated", [b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\x05\0\0\0"])
def test_a_wrong_group_length_does_not_mislead(stated: bytes) -> None:
    good = file_meta()
    whole = good[:140] + stated + good[144:] + dataset()
    meta = parse_meta(whole, len(whole))
    assert meta is not None
    assert meta.dataset_offset == len(good)
    assert meta.flags == {"wrong-meta-length"}


def test_a_file_without_preamble_is_read() -> None:
    whole = file_meta()[132:] + dataset()
    meta = parse_meta(whole, len(whole))
    assert meta is not None
    assert (meta.dataset_offset, meta.transfer_syntax_uid) == (len(file_meta()) - 132, EXPLICIT_LITTLE)
    assert "no-preamble" in meta.flags


@pytest.mark.parametrize(
    ("start", "syntax"),
    [
        (element(0x00080016, "UI", b"1.2\0"), EXPLICIT_LITTLE),
        (b"\x08\0\x16\0\x04\0\0\x001.2\0", "1.2.840.10008.1.2"),
        (b"\0\x08\0\x16UI\0\x041.2\0", "1.2.840.10008.1.2.2"),
    ],
)
def test_a_bare_data_set_tells_its_syntax(start: bytes, syntax: str) -> None:
    meta = parse_meta(start, len(start))
    assert meta is not None
    assert (meta.dataset_offset, meta.transfer_syntax_uid) == (0, syntax)
    assert "no-transfer-syntax" in meta.flags


@pytest.mark.parametrize("content", [b"", b"%PDF-1.4 and so on", b"\x89PNG\r\n\x1a\n" + b"\0" * 200, b"\0" * 300])
def test_other_files_are_no_dicom_files(content: bytes) -> None:
    assert parse_meta(content, len(content)) is None


def test_a_start_that_ends_inside_the_group_asks_for_more() -> None:
    whole = file_meta() + dataset()
    with pytest.raises(MetaIncompleteError) as more:
        parse_meta(whole[:180], len(whole))
    assert 180 < more.value.needed <= len(whole)


@given(st.binary(max_size=300), st.integers(0, 200))
def test_no_content_raises_when_the_file_is_whole(tail: bytes, cut: int) -> None:
    for content in (tail, file_meta()[:cut] + tail, b"\0" * 128 + b"DICM" + tail):
        meta = parse_meta(content, len(content))
        assert meta is None or 0 <= meta.dataset_offset <= len(content)
