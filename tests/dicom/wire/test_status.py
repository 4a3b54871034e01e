from __future__ import annotations

import pytest
from pynetdicom.status import GENERAL_STATUS, code_to_category

from pacsd.dicom.wire.status import BY_SERVICE, GENERAL, Category, StatusMeaning, categorise, meaning


@pytest.mark.parametrize("row", [*GENERAL, *(row for rows in BY_SERVICE.values() for row in rows)])
def test_each_row_is_in_the_category_that_its_code_implies(row: StatusMeaning) -> None:
    assert categorise(row.code) is row.category


def test_the_general_codes_agree_with_an_independent_table() -> None:
    theirs = {code: code_to_category(code).lower() for code in GENERAL_STATUS}
    ours = {row.code: row.category.value for row in GENERAL}
    assert {code: ours[code] for code in theirs if code in ours} == {
        code: category for code, category in theirs.items() if code in ours
    }
    assert set(theirs) <= set(ours)


def test_a_service_says_more_than_the_general_table() -> None:
    assert meaning(0xA7FF, "storage").text == "Out of resources"
    assert meaning(0xB000, "storage").text == "Coercion of data elements"
    assert meaning(0xB000, "move").text.startswith("Sub-operations complete")
    assert meaning(0x0124, "find").text == "Not authorised"


def test_an_unlisted_code_still_has_a_category() -> None:
    assert meaning(0x1234).category is Category.FAILURE
    assert meaning(0xB123).category is Category.WARNING
