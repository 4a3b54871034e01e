from __future__ import annotations

import pytest
from pydicom.uid import UID_dictionary

from pacsd.dicom.wire.sop_classes import is_storage, is_uid

SOP_CLASSES = [(uid, entry[0]) for uid, entry in UID_dictionary.items() if entry[1].startswith("SOP Class")]
NOT_OBJECTS = ("Storage Commitment", "Media Storage Directory")


def test_every_standard_class_is_storage_exactly_when_its_name_says_so() -> None:
    for uid, name in SOP_CLASSES:
        if name.strip():
            assert is_storage(uid) == ("Storage" in name and not name.startswith(NOT_OBJECTS)), name


def test_private_and_future_classes_are_storage() -> None:
    assert is_storage("1.3.12.2.1107.5.9.1")
    assert is_storage("1.2.840.10008.5.1.4.1.1.999.1")


@pytest.mark.parametrize("text", ["", "abc", "1..2", "1.2.", "1" * 65, "1.²"])
def test_what_is_no_uid_is_no_class(text: str) -> None:
    assert not is_uid(text)
    assert not is_storage(text)
