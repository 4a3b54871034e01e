"""The head scan reads what pydicom reads, from every published file, and survives what pydicom doesn't."""

from __future__ import annotations

import os
import struct
import time
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.filereader import _read_file_meta_info, read_preamble

from pacsd.model.scan import MAX_PACKED_BYTES, packed_head, scan_object, scan_values
from pacsd.model.syntax import transfer_syntax

CORPUS = Path(os.environ.get("PACSD_CORPUS", Path(__file__).parents[3] / "shared" / "corpus"))
WANTED = frozenset(
    [
        0x00080005, 0x00080016, 0x00080018, 0x00080020, 0x00080030, 0x00080050, 0x00080060, 0x00080090,
        0x00081030, 0x0008103E, 0x00100010, 0x00100020, 0x00100030, 0x00100040, 0x0020000D, 0x0020000E,
        0x00200010, 0x00200011, 0x00200013, 0x00280008, 0x00280010, 0x00280011,
    ]
)  # fmt: skip
EXPLICIT, IMPLICIT = transfer_syntax("1.2.840.10008.1.2.1"), transfer_syntax("1.2.840.10008.1.2")
BIG, DEFLATED = transfer_syntax("1.2.840.10008.1.2.2"), transfer_syntax("1.2.840.10008.1.2.1.99")

# files in which pydicom and the scan rightly differ, and why
ARGUED = {
    "deep-nest-1200.dcm": "pydicom overflows its stack",
    "truncated-mid-element_CT_small.dcm": "the cut element has no value for us",
}


def published_files() -> list[Path]:
    ours = sorted(Path(pydicom.__file__).with_name("data").glob("test_files/**/*.dcm"))
    return ours + sorted(path for path in CORPUS.rglob("*") if path.is_file() and path.suffix in ("", ".dcm", ".dicom"))


def split(raw: bytes) -> tuple[str, bytes] | None:
    """(transfer syntax UID, data set) of a Part 10 file with a readable file meta group."""
    if raw[128:132] != b"DICM":
        return None
    with pydicom.filebase.DicomBytesIO(raw) as file:
        read_preamble(file, False)
        meta = _read_file_meta_info(file)
        start = file.tell()
    uid = meta.get("TransferSyntaxUID")
    return (str(uid), raw[start:]) if uid else None


def theirs(data: bytes, uid: str) -> dict[int, bytes]:
    """What pydicom reads as raw bytes of the wanted tags."""
    syntax = transfer_syntax(uid)
    plain = zlib.decompressobj(-15).decompress(data) if syntax.deflated else data
    with pydicom.filebase.DicomBytesIO(plain) as file:
        found = pydicom.filereader.read_dataset(
            file,
            syntax.implicit,
            not syntax.big_endian,
            stop_when=lambda tag, vr, length: tag in (0x7FE00008, 0x7FE00009, 0x7FE00010),
        )
    return {int(tag): bytes(found.get_item(tag).value or b"") for tag in WANTED if tag in found}


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    if vr in (b"SQ", b"OB", b"UN", b"UT"):
        return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def implicit_element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def nested(levels: int) -> bytes:
    """Sequences of undefined length inside one another."""
    opening = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    closing = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return opening * levels + closing * levels


def nested_defined(levels: int) -> bytes:
    """Sequences of defined length inside one another: each level is 20 bytes of headers around the next."""
    return b"".join(
        struct.pack("<HH2sHLHHL", 0x0040, 0xA730, b"SQ", 0, n + 8, 0xFFFE, 0xE000, n)
        for n in range(20 * (levels - 1), -1, -20)
    )


NAME = element(0x00100010, b"PN", b"A^B ")
SERIES = element(0x0020000E, b"UI", b"1.2\0")
PIXELS = element(0x7FE00010, b"OB", b"\1\2")


def test_every_published_file_gives_the_values_that_pydicom_reads() -> None:
    compared, differing = 0, []
    for path in published_files():
        parts = split(path.read_bytes())
        if parts is None or path.name in ARGUED:
            continue
        uid, data = parts
        compared += 1
        result = scan_values(data, transfer_syntax(uid), WANTED, max_inflated_bytes=1 << 24)
        if result.values != theirs(data, uid):
            differing.append((path.name, sorted(result.flags)))
    assert compared > 50
    assert differing == []


def test_published_pixel_data_is_where_the_scan_says() -> None:
    for path in published_files():
        parts = split(path.read_bytes())
        if parts is None:
            continue
        result = scan_values(parts[1], transfer_syntax(parts[0]), WANTED, max_inflated_bytes=1 << 24)
        if result.pixel_offset is not None:
            order = "big" if result.encoding.big_endian else "little"
            group = result.head[result.pixel_offset : result.pixel_offset + 2]
            assert int.from_bytes(group, order) == 0x7FE0, path.name  # type: ignore[arg-type]


@given(st.integers(0, 6000))
def test_a_head_cut_anywhere_gives_only_whole_values_and_says_where_to_go_on(cut: int) -> None:
    path = Path(pydicom.__file__).with_name("data") / "test_files" / "CT_small.dcm"
    uid, data = split(path.read_bytes()) or ("", b"")
    whole = scan_values(data, transfer_syntax(uid), WANTED)
    part = scan_values(data[:cut], transfer_syntax(uid), WANTED, total_bytes=len(data))
    assert part.values.items() <= whole.values.items()
    assert "truncated" not in part.flags
    assert "unparsable" not in part.flags
    if not part.complete and cut >= 8:
        assert part.resume_offset is not None
        rest = scan_values(data[part.resume_offset :], transfer_syntax(uid), WANTED)
        assert {**part.values, **rest.values} == whole.values


@pytest.mark.parametrize("make", [nested, nested_defined])
def test_thirty_thousand_nested_sequences_are_flagged_within_a_second(make: object) -> None:
    data = NAME + make(30_000) + PIXELS  # type: ignore[operator]
    started = time.perf_counter()
    result = scan_values(data, EXPLICIT, WANTED)
    assert time.perf_counter() - started < 1.0
    assert "deep-nesting" in result.flags
    assert result.complete
    assert result.values[0x00100010] == b"A^B "
    assert result.pixel_offset == len(data) - len(PIXELS)
    assert packed_head(result) == NAME


def test_nesting_cut_by_the_end_of_the_head_is_not_called_malformed() -> None:
    data = NAME + nested(500)
    result = scan_values(data[:3000], EXPLICIT, WANTED, total_bytes=len(data))
    assert not result.complete
    assert result.flags == {"deep-nesting"}


@pytest.mark.parametrize(
    ("odd", "flag"),
    [
        (element(0x00100020, b"LO", b"123"), "odd-length"),
        (element(0x00080060, b"CS", b"CT"), "out-of-order"),
        (element(0x00100020, b"lo", b"12"), "wrong-vr"),
        (element(0x00100020, b"ZZ", b"12"), "wrong-vr"),
        (implicit_element(0x00100020, b"12"), "wrong-encoding"),
        (struct.pack("<HH2sHL", 0x0010, 0x0020, b"??", 0, 2) + b"12", "wrong-encoding"),
        (struct.pack("<HH2sH", 0x0010, 0x4000, b"UT", 4) + b"1234", "wrong-vr"),
        (struct.pack("<HHL", 0xFFFE, 0xE00D, 0), "wrong-encoding"),
        (struct.pack("<HHL", 0xFFFE, 0xE0DD, 0), "wrong-encoding"),
    ],
)
def test_an_odd_element_is_flagged_and_the_following_ones_are_still_read(odd: bytes, flag: str) -> None:
    result = scan_values(NAME + odd + SERIES + PIXELS, EXPLICIT, WANTED)
    assert flag in result.flags or (odd[4:6] == b"??" and "wrong-vr" in result.flags)
    assert result.values[0x0020000E] == b"1.2\0"
    assert result.complete


def test_group_lengths_are_passed_over() -> None:
    data = element(0x00080000, b"UL", b"\4\0\0\0") + NAME + PIXELS
    result = scan_values(data, EXPLICIT, WANTED)
    assert result.values == {0x00100010: b"A^B "}
    assert not result.flags


def test_a_length_beyond_the_data_set_is_flagged_truncated() -> None:
    data = NAME + element(0x00100020, b"LO", b"12345678")[:-4]
    result = scan_values(data, EXPLICIT, WANTED)
    assert result.flags == {"truncated"}
    assert not result.complete
    assert result.values == {0x00100010: b"A^B "}


def test_pixel_data_longer_than_the_data_set_is_flagged_truncated() -> None:
    data = NAME + PIXELS[:-1]
    result = scan_values(data, EXPLICIT, WANTED)
    assert result.flags == {"truncated"}
    assert result.pixel_offset == len(NAME)


def test_zeros_behind_the_last_element_are_unparsable_but_cost_nothing_before() -> None:
    result = scan_values(NAME + bytes(100), EXPLICIT, WANTED)
    assert result.values == {0x00100010: b"A^B "}
    assert "unparsable" in result.flags


def test_an_implicit_data_set_under_an_explicit_syntax_is_read_and_flagged() -> None:
    data = implicit_element(0x00080060, b"CT") + implicit_element(0x00100010, b"A^B ")
    result = scan_values(data, EXPLICIT, WANTED)
    assert result.values == {0x00080060: b"CT", 0x00100010: b"A^B "}
    assert result.encoding.implicit
    assert result.flags == {"wrong-encoding"}


def test_an_explicit_data_set_under_the_implicit_syntax_is_read_and_flagged() -> None:
    result = scan_values(element(0x00080060, b"CS", b"CT") + NAME, IMPLICIT, WANTED)
    assert result.values == {0x00080060: b"CT", 0x00100010: b"A^B "}
    assert not result.encoding.implicit
    assert result.flags == {"wrong-encoding"}


def test_a_little_endian_data_set_under_the_big_endian_syntax_is_read_and_flagged() -> None:
    result = scan_values(element(0x00080060, b"CS", b"CT") + NAME, BIG, WANTED)
    assert result.values == {0x00080060: b"CT", 0x00100010: b"A^B "}
    assert result.flags == {"wrong-byte-order"}


def test_an_undefined_length_un_holds_an_implicit_sequence() -> None:
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + implicit_element(0x00100010, b"INNER^X ")
    unknown = struct.pack("<HH2sHL", 0x0019, 0x1010, b"UN", 0, 0xFFFFFFFF) + item
    unknown += struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    result = scan_values(NAME + unknown + SERIES, EXPLICIT, WANTED)
    assert result.values == {0x00100010: b"A^B ", 0x0020000E: b"1.2\0"}
    assert not result.flags


def test_a_missing_item_delimiter_does_not_swallow_the_rest() -> None:
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + NAME
    broken = (
        struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + item + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    )
    result = scan_values(broken + SERIES, EXPLICIT, WANTED)
    assert result.values == {0x0020000E: b"1.2\0"}
    assert result.complete


def deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


def test_a_deflated_head_is_inflated_only_as_far_as_the_bound() -> None:
    bomb = deflate(NAME + element(0x00120010, b"OB", bytes(50_000_000)) + SERIES)
    started = time.perf_counter()
    result = scan_values(bomb, DEFLATED, WANTED, max_inflated_bytes=1 << 20)
    assert time.perf_counter() - started < 0.5
    assert len(result.head) <= 1 << 20
    assert result.values == {0x00100010: b"A^B "}


@pytest.mark.parametrize(
    ("encode", "flags"),
    [(deflate, set()), (zlib.compress, {"wrong-deflate"}), (lambda data: data, {"not-deflated"})],
)
def test_deflated_data_sets_are_read_however_they_were_deflated(encode: object, flags: set[str]) -> None:
    data = NAME + SERIES + PIXELS
    values, packed, found, pixel_offset = scan_object(encode(data), DEFLATED, WANTED)  # type: ignore[operator]
    assert values == {0x00100010: b"A^B ", 0x0020000E: b"1.2\0"}
    assert found == flags
    assert packed == NAME + SERIES
    assert pixel_offset == len(NAME + SERIES)


def test_a_deflated_head_cut_by_its_bound_is_not_called_truncated() -> None:
    data = deflate(NAME + SERIES + element(0x7FE00010, b"OB", os.urandom(100_000)))
    result = scan_values(data[:4000], DEFLATED, WANTED, total_bytes=len(data))
    assert result.flags == frozenset()
    assert result.complete


def test_the_packed_head_leaves_large_elements_out_and_keeps_bytes_as_received() -> None:
    large = element(0x00091010, b"OB", bytes(5000))
    data = NAME + large + SERIES + PIXELS
    assert packed_head(scan_values(data, EXPLICIT, WANTED)) == NAME + SERIES


def test_an_oversize_packed_head_gives_up_private_elements_first() -> None:
    private = b"".join(element(0x00110000 | (0x1000 + n), b"LO", bytes(60)) for n in range(600))
    public = b"".join(element(0x00200000 | (0x3000 + n), b"LT", bytes(1000)) for n in range(40))
    packed = packed_head(scan_values(NAME + private + SERIES + public, EXPLICIT, WANTED))
    assert packed.startswith(NAME + SERIES)
    assert len(packed) <= MAX_PACKED_BYTES
    assert len(packed) > MAX_PACKED_BYTES - 1100


@given(st.binary(max_size=400), st.sampled_from([EXPLICIT, IMPLICIT, BIG, DEFLATED]))
def test_no_content_raises(data: bytes, syntax: object) -> None:
    _values, packed, flags, pixel_offset = scan_object(NAME + data, syntax, WANTED)  # type: ignore[arg-type]
    assert len(packed) <= len(NAME + data) * 1100
    assert isinstance(flags, frozenset)
    assert pixel_offset is None or pixel_offset >= 0
