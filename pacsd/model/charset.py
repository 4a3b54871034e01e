"""Specific Character Set: text of the field from bytes and back (PS3.5 §6.1, PS3.3 §C.12.1.1.2, Annexes H to K).

Decoding never fails. What the declared set can't explain is read as UTF-8 if it is strictly that, else as Latin-1,
and reported as repaired, so that a name is shown and the object flagged instead of refused. Misspelt terms
("ISO-IR 100", "UTF-8") are understood without being reported. Pure functions, any thread.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

UTF_8 = "ISO_IR 192"

# codecs whose low half is ASCII and whose high half is the set's G1
_SINGLE_BYTE = {
    100: "latin_1", 101: "iso8859_2", 109: "iso8859_3", 110: "iso8859_4", 144: "iso8859_5", 127: "iso8859_6",
    126: "iso8859_7", 138: "iso8859_8", 148: "iso8859_9", 203: "iso8859_15", 166: "tis_620", 13: "shift_jis",
}  # fmt: skip
_G1_DOUBLE_BYTE = {149: "euc_kr", 58: "gb2312"}
_G0_DOUBLE_BYTE = frozenset({87, 159})
_WHOLE = {UTF_8: "utf_8", "GB18030": "gb18030", "GBK": "gbk"}

# escape sequence -> set it designates (PS3.3 Tables C.12-3 and C.12-4), and forms seen from older Japanese stations
_ESCAPES = {
    b"\x1b(B": 6, b"\x1b(J": 14, b"\x1b(I": 13, b"\x1b)I": 13, b"\x1b$B": 87, b"\x1b$@": 87, b"\x1b$(D": 159,
    b"\x1b$)C": 149, b"\x1b$)A": 58, b"\x1b-A": 100, b"\x1b-B": 101, b"\x1b-C": 109, b"\x1b-D": 110,
    b"\x1b-F": 126, b"\x1b-G": 127, b"\x1b-H": 138, b"\x1b-L": 144, b"\x1b-M": 148, b"\x1b-T": 166,
    b"\x1b-b": 203,
}  # fmt: skip
_DESIGNATE = {
    6: b"\x1b(B", 14: b"\x1b(J", 13: b"\x1b)I", 87: b"\x1b$B", 159: b"\x1b$(D", 149: b"\x1b$)C", 58: b"\x1b$)A",
    100: b"\x1b-A", 101: b"\x1b-B", 109: b"\x1b-C", 110: b"\x1b-D", 126: b"\x1b-F", 127: b"\x1b-G",
    138: b"\x1b-H", 144: b"\x1b-L", 148: b"\x1b-M", 166: b"\x1b-T", 203: b"\x1b-b",
}  # fmt: skip
_G0_SETS = frozenset({6, 14, 87, 159})

_CONTROLS = "\t\n\f\r"
_TEXT_BLOCKS = frozenset({"LT", "ST", "UR", "UT"})
_RUNS = {
    kind: re.compile(rb"[^\x1b" + marks + rb"]+")
    for kind, marks in {"PN": rb"\t\n\f\r\\^=", "": rb"\t\n\f\r\\", "UT": rb"\t\n\f\r"}.items()
}
_DOUBLE_RUN = re.compile(rb"[\x21-\x7f]+|[\x80-\xff]+")
_ISO_TERM = re.compile(r"ISO[ _-]*(2022)?[ _-]*IR[ _-]*(\d+)")
_OTHER_TERMS = {
    "UTF8": UTF_8, "UNICODE": UTF_8, "ISO192": UTF_8, "ISO2022IR192": UTF_8, "LATIN1": "ISO_IR 100",
    "ISO88591": "ISO_IR 100", "ISO885915": "ISO_IR 203", "GB18030": "GB18030", "GBK": "GBK", "GB2312": "GBK",
    "ISO2022GBK": "GBK", "ISO2022GB18030": "GB18030", "ISO202258": "ISO 2022 IR 58", "ASCII": "ISO_IR 6",
    "USASCII": "ISO_IR 6", "EUCKR": "ISO 2022 IR 149", "SHIFTJIS": "ISO_IR 13",
}  # fmt: skip


class _Plan(NamedTuple):
    """What a value of Specific Character Set means: one codec for all, or a start state and declared extensions."""

    codec: str | None
    g0: int
    g1: int | None
    declared: tuple[int, ...]
    extended: bool


def normalised_term(term: str) -> str:
    """The defined term that a possibly misspelt one stands for; '' for the default set, the term if unknown."""
    bare = term.strip(" \0").upper()
    found = _ISO_TERM.fullmatch(bare)
    if found:
        number = int(found[2])
        if number == 192:
            return UTF_8
        return f"ISO 2022 IR {number}" if found[1] or number in (87, 159, 149, 58) else f"ISO_IR {number}"
    return _OTHER_TERMS.get(re.sub(r"[ _-]", "", bare), bare)


def is_known_charset(charsets: tuple[str, ...]) -> bool:
    """Whether every term is one that can be decoded."""
    return all(_number_of(term) is not None or term in _WHOLE for term in map(normalised_term, charsets))


def decode_text(raw: bytes, charsets: tuple[str, ...], vr: str = "LO") -> str:
    """Text of `raw`; see `decode_text_flagged`."""
    return decode_text_flagged(raw, charsets, vr)[0]


def decode_text_flagged(raw: bytes, charsets: tuple[str, ...], vr: str = "LO") -> tuple[str, bool]:
    """(text, whether the declared sets couldn't explain the bytes and they were read otherwise).

    Decode a whole value field before splitting it: a byte of a multi-byte character may look like a backslash.

    Args:
        charsets: values of Specific Character Set; () when absent.
        vr: says which delimiters return to the first set (PS3.5 §6.1.2.5.3).
    """
    if b"\x1b" not in raw and raw.isascii():
        return raw.decode("ascii"), False
    plan = _plan(charsets)
    if plan.codec is not None:
        try:
            return raw.decode(plan.codec), False
        except UnicodeDecodeError:
            return _repaired(raw, plan), True
    text = _decode_extended(raw, plan, vr)
    if text is None:
        return _repaired(raw, plan), True
    return text, b"\x1b" in raw and not plan.extended


def encode_text(text: str, charsets: tuple[str, ...], vr: str = "PN") -> bytes | None:
    """`text` in those sets, with the escapes that code extension needs; None if they can't hold it."""
    if text.isascii():
        return text.encode("ascii")
    plan = _plan(charsets)
    if plan.codec is not None:
        try:
            return text.encode(plan.codec)
        except UnicodeEncodeError:
            return None
    delimiters = _CONTROLS + ("\\^=" if vr == "PN" else "" if vr in _TEXT_BLOCKS else "\\")
    encoded = bytearray()
    for piece in re.split(f"([{re.escape(delimiters)}])", text):
        part = piece.encode("ascii") if piece.isascii() else _encode_extended(piece, plan)
        if part is None:
            return None
        encoded += part
    return bytes(encoded)


@lru_cache(maxsize=256)
def _plan(charsets: tuple[str, ...]) -> _Plan:
    terms = [normalised_term(term) for term in charsets]
    first = terms[0] if terms else ""
    if first in _WHOLE:
        return _Plan(_WHOLE[first], 6, None, (), False)
    numbers = [number for number in map(_number_of, terms) if number is not None]
    start = _number_of(first) or 6
    extended = any(term.startswith("ISO 2022") for term in terms)
    for term in terms:  # a set without code extensions where only extensions may stand
        if term in _WHOLE and not extended:
            return _Plan(_WHOLE[term], 6, None, (), False)
    g1 = start if start in _SINGLE_BYTE else None
    return _Plan(None, 14 if start == 13 else 6, g1, tuple(numbers), extended)


def _number_of(term: str) -> int | None:
    if not term:
        return 6
    if not term.startswith(("ISO_IR ", "ISO 2022 IR ")):
        return None
    number = int(term.rpartition(" ")[2])
    known = number == 6 or number in _SINGLE_BYTE or number in _G1_DOUBLE_BYTE or number in _G0_DOUBLE_BYTE
    return number if known else None


def _decode_extended(raw: bytes, plan: _Plan, vr: str) -> str | None:
    """Follow the escapes (ISO 2022); None when the bytes break the rules."""
    state = _State(plan, vr)
    text: list[str] = []
    pos, end = 0, len(raw)
    while pos < end:
        if raw[pos] == 0x1B:
            escape = next((raw[pos : pos + n] for n in (4, 3) if raw[pos : pos + n] in _ESCAPES), None)
            if escape is None:
                return None
            state.designate(escape)
            pos += len(escape)
            continue
        piece = state.run(raw, pos)
        pos += len(piece)
        decoded = state.decode(piece)
        if decoded is None:
            return None
        text.append(decoded)
    return "".join(text)


class _State:
    """Which sets are designated to G0 and G1 while one value field is read."""

    __slots__ = ("_delimiters", "_g0", "_g1", "_plan", "_runs")

    def __init__(self, plan: _Plan, vr: str) -> None:
        self._plan = plan
        self._g0, self._g1 = plan.g0, plan.g1
        kind = "PN" if vr == "PN" else "UT" if vr in _TEXT_BLOCKS else ""
        self._runs = _RUNS[kind]
        self._delimiters = _CONTROLS.encode() + {"PN": b"\\^=", "UT": b"", "": b"\\"}[kind]

    def designate(self, escape: bytes) -> None:
        number = _ESCAPES[escape]
        if number in _G0_SETS or escape == b"\x1b(I":
            self._g0 = number
        else:
            self._g1 = number

    def run(self, raw: bytes, pos: int) -> bytes:
        """The longest piece at `pos` to be decoded in one: up to an escape or a delimiter, or one of these."""
        if self._g0 in _G0_DOUBLE_BYTE:
            found = _DOUBLE_RUN.match(raw, pos)
            return found[0] if found else raw[pos : pos + 1]
        found = self._runs.match(raw, pos)
        return found[0] if found else raw[pos : pos + 1]

    def decode(self, piece: bytes) -> str | None:
        """Text of a run; a delimiter designates the first sets again (PS3.5 §6.1.2.5.3)."""
        double = self._g0 in _G0_DOUBLE_BYTE
        if len(piece) == 1 and piece in self._delimiters and (not double or piece[0] < 0x20):
            self._g0, self._g1 = self._plan.g0, self._plan.g1
            return piece.decode("ascii")
        if double and piece[0] <= 0x20:
            return piece.decode("ascii")
        return _decode_run(piece, 6 if double and piece[0] >= 0x80 else self._g0, self._g1)


def _decode_run(piece: bytes, g0: int, g1: int | None) -> str | None:
    try:
        if g0 in _G0_DOUBLE_BYTE:
            high = bytes(byte | 0x80 for byte in piece)
            if g0 == 159:
                high = b"".join(b"\x8f" + high[at : at + 2] for at in range(0, len(high), 2))
            return high.decode("euc_jp")
        if g0 == 13:
            return bytes(byte | 0x80 for byte in piece).decode("shift_jis")
        if piece.isascii():
            return piece.decode("ascii")
        if g1 is None or (g1 == 13 and any(0x80 <= byte < 0xA1 or byte > 0xDF for byte in piece)):
            return None
        return piece.decode(_SINGLE_BYTE.get(g1) or _G1_DOUBLE_BYTE[g1])
    except UnicodeDecodeError:
        return None


def _repaired(raw: bytes, plan: _Plan) -> str:
    """Bytes that the declared sets can't explain: escapes left out, UTF-8, the usual code pages, Latin-1."""
    if b"\x1b" not in raw:
        try:
            return raw.decode("utf_8")
        except UnicodeDecodeError as error:
            cut = error.start if error.reason == "unexpected end of data" else 0
        if cut:  # a field cut at its length limit, inside a character
            return raw[:cut].decode("utf_8") + "\N{REPLACEMENT CHARACTER}"
        for number, codec in ((149, "cp949"), (58, "gbk"), (87, "shift_jis"), (87, "euc_jp")):
            if number in plan.declared:
                try:
                    return raw.decode(codec)
                except UnicodeDecodeError:
                    continue
    return raw.decode("latin_1").replace("\x1b", "\N{REPLACEMENT CHARACTER}")


def _encode_extended(piece: str, plan: _Plan) -> bytes | None:
    """A run without delimiters, ending with the first set's G0 invoked again."""
    g0, g1 = plan.g0, plan.g1
    encoded = bytearray()
    for character in piece:
        if character.isascii():
            if g0 in _G0_DOUBLE_BYTE:
                g0 = plan.g0
                encoded += _DESIGNATE[g0]
            encoded += character.encode("ascii")
            continue
        for number in (g0, g1, plan.g1, *plan.declared):
            code = None if number is None else _encode_character(character, number)
            if code is not None and number is not None:
                break
        else:
            return None
        if number in _G0_DOUBLE_BYTE:
            if g0 != number:
                g0 = number
                encoded += _DESIGNATE[number]
        elif g1 != number:
            g1 = number
            encoded += _DESIGNATE[number]
        encoded += code
    if g0 != plan.g0:
        encoded += _DESIGNATE[plan.g0]
    return bytes(encoded)


def _encode_character(character: str, number: int) -> bytes | None:
    """The character's code in that set; None if it isn't in it."""
    try:
        if number in _G0_DOUBLE_BYTE:
            code = character.encode("euc_jp")
            if number == 87 and len(code) == 2 and code[0] != 0x8E:
                return bytes(byte & 0x7F for byte in code)
            if number == 159 and len(code) == 3:
                return bytes(byte & 0x7F for byte in code[1:])
            return None
        if number in _G1_DOUBLE_BYTE:
            code = character.encode(_G1_DOUBLE_BYTE[number])
            return code if len(code) == 2 else None
        codec = _SINGLE_BYTE.get(number)
        code = character.encode(codec) if codec else b""
        return code if len(code) == 1 and code[0] >= 0x80 else None
    except UnicodeEncodeError:
        return None
