"""Every transfer syntax of the standard is known by its traits; the others are assumed, not refused."""

from __future__ import annotations

import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID

from pacsd.model.syntax import TRANSFER_SYNTAXES, transfer_syntax

PYDICOM_UIDS = [uid for uid, row in UID_dictionary.items() if row[1] == "Transfer Syntax"]
NOT_ENCAPSULATED = ("1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.204",
                    "1.2.840.10008.1.2.4.205", "1.2.840.10008.1.2.6", "1.2.840.10008.1.2.7",
                    "1.2.840.10008.1.20")  # fmt: skip


@pytest.mark.parametrize("uid", PYDICOM_UIDS)
def test_each_registered_syntax_has_the_traits_that_pydicom_gives_it(uid: str) -> None:
    ours, theirs = transfer_syntax(uid), UID(uid)
    assert ours.known
    assert ours.name == theirs.name
    assert ours.big_endian == (not theirs.is_little_endian)
    if not uid.startswith(NOT_ENCAPSULATED):
        assert ours.implicit == theirs.is_implicit_VR
        assert ours.encapsulated == theirs.is_compressed or ours.deflated


@pytest.mark.parametrize("number", ["4.110", "4.111", "4.112", "4.107", "4.201", "8.1"])
def test_recent_syntaxes_are_encapsulated_and_not_deflated(number: str) -> None:
    syntax = transfer_syntax("1.2.840.10008.1.2." + number)
    assert syntax.known
    assert syntax.encapsulated
    assert not syntax.deflated


def test_the_three_syntaxes_whose_data_set_is_one_deflate_stream() -> None:
    assert {uid for uid, syntax in TRANSFER_SYNTAXES.items() if syntax.deflated} == {
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.4.95",
        "1.2.840.10008.1.2.4.205",
    }
    assert not transfer_syntax("1.2.840.10008.1.2.1.99").inflated.deflated


def test_an_unknown_syntax_is_read_as_explicit_little_endian_with_fragments() -> None:
    syntax = transfer_syntax("1.2.3.4.5 ")
    assert syntax.uid == "1.2.3.4.5"
    assert not syntax.known
    assert (syntax.implicit, syntax.big_endian, syntax.deflated, syntax.encapsulated) == (
        False,
        False,
        False,
        True,
    )


def test_ge_private_syntax_is_implicit_little_endian_with_swapped_pixels() -> None:
    syntax = transfer_syntax("1.2.840.113619.5.2")
    assert syntax.implicit
    assert not syntax.big_endian
    assert syntax.big_endian_pixels


def test_padded_uids_find_their_syntax() -> None:
    assert transfer_syntax("1.2.840.10008.1.2.1\0") is transfer_syntax("1.2.840.10008.1.2.1")
