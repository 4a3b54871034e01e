"""Names in every character set of the standard, and in the wrong ones that devices declare."""

from __future__ import annotations

import pydicom.charset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacsd.model.charset import decode_text, decode_text_flagged, encode_text, is_known_charset, normalised_term

# (charsets, encoded, text): PS3.5 Annexes H, I, J, K
STANDARD_EXAMPLES = [
    (
        ("", "ISO 2022 IR 87"),
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        ("ISO 2022 IR 13", "ISO 2022 IR 87"),
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    (
        ("", "ISO 2022 IR 149"),
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    (("ISO_IR 192",), "Wang^XiaoDong=王^小东=".encode(), "Wang^XiaoDong=王^小东="),
    (("GB18030",), b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
    (("GBK",), b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
    (
        ("", "ISO 2022 IR 58"),
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
    ),
]
SINGLE_BYTE = {
    "ISO_IR 100": "Buc^Jérôme", "ISO_IR 101": "Wałęsa", "ISO_IR 109": "Ĉiam", "ISO_IR 110": "Ķēniņš",
    "ISO_IR 144": "Люкceмбypг", "ISO_IR 127": "قباني^لنزار", "ISO_IR 126": "Διονυσιος", "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 148": "Çavuşoğlu", "ISO_IR 203": "Œuvre^Š", "ISO_IR 166": "นามสกุล", "ISO_IR 13": "ﾔﾏﾀﾞ^ﾀﾛｳ",
}  # fmt: skip


@pytest.mark.parametrize(("charsets", "encoded", "text"), STANDARD_EXAMPLES)
def test_the_standards_examples_are_read(charsets: tuple[str, ...], encoded: bytes, text: str) -> None:
    assert decode_text_flagged(encoded, charsets, "PN") == (text, False)


@pytest.mark.parametrize(("charsets", "encoded", "text"), STANDARD_EXAMPLES)
def test_the_standards_examples_are_written(charsets: tuple[str, ...], encoded: bytes, text: str) -> None:
    assert encode_text(text, charsets, "PN") == encoded


# pydicom leaves the escapes of ISO 2022 IR 58, the last example, in the text
@pytest.mark.parametrize(("charsets", "encoded", "text"), STANDARD_EXAMPLES[:-1])
def test_pydicom_reads_the_same(charsets: tuple[str, ...], encoded: bytes, text: str) -> None:
    codecs = pydicom.charset.convert_encodings(list(charsets))
    theirs = pydicom.charset.decode_bytes(encoded, codecs, pydicom.charset.TEXT_VR_DELIMS | {0x5E, 0x3D})
    assert theirs == text


@pytest.mark.parametrize(("term", "text"), SINGLE_BYTE.items())
def test_single_byte_sets_go_both_ways_alone_and_as_extension(term: str, text: str) -> None:
    extension = term.replace("ISO_IR", "ISO 2022 IR")
    for charsets in ((term,), (extension,), ("", extension)):
        encoded = encode_text(text, charsets)
        assert encoded is not None
        assert decode_text_flagged(encoded, charsets, "PN") == (text, False)


def test_two_sets_in_one_name_are_escaped_where_they_change() -> None:
    charsets = ("ISO 2022 IR 100", "ISO 2022 IR 144")
    text = "Müller^Люк"
    encoded = encode_text(text, charsets)
    assert encoded == b"M\xfcller^\x1b-L\xbb\xee\xda"
    assert decode_text(encoded, charsets, "PN") == text


def test_a_delimiter_returns_to_the_first_set() -> None:
    raw = b"\x1b-L\xbb^\xe9"
    assert decode_text(raw, ("ISO 2022 IR 100", "ISO 2022 IR 144"), "PN") == "Л^é"
    assert decode_text(b"\x1b-L\xbb\\\xe9", ("ISO 2022 IR 100", "ISO 2022 IR 144"), "LO") == "Л\\é"
    assert decode_text(b"\x1b-L\xbb\\\xbb", ("ISO 2022 IR 100", "ISO 2022 IR 144"), "LT") == "Л\\Л"


def test_a_backslash_inside_a_two_byte_character_is_no_delimiter() -> None:
    text = "表^乗"
    encoded = encode_text(text, ("GB18030",)) or b""
    assert decode_text(encoded, ("GB18030",), "PN") == text
    raw = b"\x1b$B\x30\x5c\x1b(B"
    assert decode_text(raw, ("", "ISO 2022 IR 87"), "LO") == raw[3:5].translate(
        bytes(n | 0x80 for n in range(256))
    ).decode("euc_jp")


@pytest.mark.parametrize(
    ("spelt", "term"),
    [
        ("ISO-IR 100", "ISO_IR 100"), ("ISO IR 192", "ISO_IR 192"), ("UTF-8", "ISO_IR 192"), ("utf8", "ISO_IR 192"),
        ("ISO_IR_100 ", "ISO_IR 100"), ("ISO 2022 IR 87", "ISO 2022 IR 87"), ("ISO2022 IR 149", "ISO 2022 IR 149"),
        ("ISO_IR 87", "ISO 2022 IR 87"), ("iso_ir 144", "ISO_IR 144"), ("", ""), ("KLINGON", "KLINGON"),
    ],
)  # fmt: skip
def test_misspelt_terms_are_understood(spelt: str, term: str) -> None:
    assert normalised_term(spelt) == term


def test_unknown_terms_are_known_to_be_unknown() -> None:
    assert is_known_charset(("", "ISO 2022 IR 87"))
    assert is_known_charset(("utf-8",))
    assert not is_known_charset(("KLINGON",))


@pytest.mark.parametrize(
    ("raw", "charsets", "text"),
    [
        ("Müller".encode(), (), "Müller"),
        ("Müller".encode("latin_1"), (), "Müller"),
        ("Müller".encode("latin_1"), ("ISO_IR 192",), "Müller"),
        ("Müller".encode(), ("KLINGON",), "Müller"),
        ("Müller".encode(), ("ISO_IR 6",), "Müller"),
        ("王小东".encode()[:-1], ("ISO_IR 192",), "王小\N{REPLACEMENT CHARACTER}"),
        ("홍길동".encode("euc_kr"), ("", "ISO 2022 IR 149"), "홍길동"),
        (b"A\x1bZB", ("ISO_IR 100",), "A\N{REPLACEMENT CHARACTER}ZB"),
        (b"\x1b$B;3ED\x1b(B", ("ISO_IR 100",), "山田"),
    ],
)
def test_what_the_declared_set_cannot_explain_is_repaired_and_reported(
    raw: bytes, charsets: tuple[str, ...], text: str
) -> None:
    assert decode_text_flagged(raw, charsets, "PN") == (text, True)


@pytest.mark.parametrize("charsets", [(), ("ISO_IR 100",), ("ISO 2022 IR 100", "ISO 2022 IR 126")])
def test_text_that_a_set_cannot_hold_is_not_written_in_it(charsets: tuple[str, ...]) -> None:
    assert encode_text("山田", charsets) is None


CHARSETS = st.lists(
    st.sampled_from(["", "ISO_IR 100", "ISO 2022 IR 87", "ISO 2022 IR 149", "ISO_IR 192", "GB18030", "x", "ISO_IR 13"]),
    max_size=3,
).map(tuple)


@given(st.binary(max_size=80), CHARSETS, st.sampled_from(["PN", "LO", "UT", "CS"]))
def test_no_bytes_fail(raw: bytes, charsets: tuple[str, ...], vr: str) -> None:
    text, repaired = decode_text_flagged(raw, charsets, vr)
    assert isinstance(text, str)
    assert repaired or text is not None


@given(st.text(alphabet="aZ 9^=\\éЛ山田ダﾔ홍洪张東丂", max_size=30), CHARSETS)
def test_what_is_written_is_read_back(text: str, charsets: tuple[str, ...]) -> None:
    encoded = encode_text(text, charsets, "PN")
    if encoded is not None:
        assert decode_text(encoded, charsets, "PN") == text
