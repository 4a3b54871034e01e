"""Matching keys of queries: what each asks for, and whether a stored value is it (PS3.4 §C.2.2.2).

Defined once for C-FIND, QIDO-RS, worklist and console. A matcher also says what a database can narrow by (kind,
prefix, interval, values); the matcher itself decides. Pure functions, any thread.

    kind       asks for                                              to narrow by
    single     one value, exactly                                    values
    uid-list   one of several UIDs                                   values
    multiple   one of several values of any kind                     values when none is a pattern, else nothing
    wildcard   a pattern; a person name by component                 prefix (folded for PN: `names.search_forms`)
    fuzzy      words of a person name, however spelt                 tokens (`names.tokens`)
    range      a moment in an interval, a partial date or time       low, high (as `datetime_range` writes them)
    sequence   an item whose attributes match                        keys
    empty      no value (a key of two quotation marks)               nothing
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from pacsd.model import names
from pacsd.model.dataset import Dataset, Element
from pacsd.model.datetime_range import Interval, RangeError, combined, is_range, parse_range
from pacsd.model.errors import DatasetMismatch
from pacsd.model.values import SINGLE_VALUED
from pacsd.model.wildcard import PatternRefused, Wildcard, has_wildcard, literal_prefix

WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
RANGE_VRS = frozenset({"DA", "DT", "TM"})
NUMBER_VRS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
MAX_VALUES = 10_000
EMPTY = '""'

TIME_OF_DATE = {
    0x00080020: 0x00080030,  # Study
    0x00080021: 0x00080031,  # Series
    0x00080022: 0x00080032,  # Acquisition
    0x00080023: 0x00080033,  # Content
    0x00100030: 0x00100032,  # Patient's Birth
    0x00400002: 0x00400003,  # Scheduled Procedure Step Start
    0x00400244: 0x00400245,  # Performed Procedure Step Start
    0x00400250: 0x00400251,  # Performed Procedure Step End
}
"""The time of each date with which it makes a pair for combined datetime matching (PS3.4 §C.2.2.2.5.2)."""


class KeyRefused(DatasetMismatch, ValueError):
    """A key that can't be matched: no date where one must be, or beyond the bounds. The text never holds the value.

    Attributes:
        tag: the attribute of the key.
        offending: the same, as Offending Element (0000,0901) takes it.
    """

    def __init__(self, tag: int, comment: str) -> None:
        super().__init__(f"({tag >> 16:04X},{tag & 0xFFFF:04X}): {comment}")
        self.tag = tag
        self.offending = (tag,)


@dataclass(frozen=True, slots=True)
class Matcher:
    """One compiled key; see the module for its kinds.

    Attributes:
        values: the exact values asked for, padding off.
        prefix: what each matching text begins with; '' says nothing.
        low, high: ends of the interval, both included; None: open.
        tokens: words of a fuzzy name.
        keys: matchers of a sequence's item by tag, without the universal ones.
    """

    kind: str
    vr: str
    _matches: Callable[[tuple[Any, ...]], bool] = field(repr=False, compare=False)
    values: tuple[str, ...] = ()
    prefix: str = ""
    low: str | None = None
    high: str | None = None
    tokens: tuple[names.FuzzyToken, ...] = ()
    keys: tuple[dict[int, Matcher], ...] = ()

    def matches(self, stored: tuple[Any, ...]) -> bool:
        """Whether the values of a stored attribute match; () or ('',) for an absent or empty one."""
        return self._matches(stored)


def compile_key(
    tag: int, vr: str, values: tuple[Any, ...], *, fuzzy: bool = False, utc_offset_minutes: int = 0
) -> Matcher | None:
    """The matcher of a key; None for universal matching: an empty key, only stars, or a VR that isn't matched.

    Args:
        values: as `Dataset` holds them; a backslash in a single text separates values too.
        fuzzy: person names match by their words, not by component (PS3.4 §C.2.2.2.1.1).
        utc_offset_minutes: of DT values that name no offset, in the key and as stored.

    Raises:
        KeyRefused: no date or time where one must be, too long, too many values, nested too deep.
    """
    if vr == "SQ":
        return _sequence(tag, values, 0, fuzzy=fuzzy, utc_offset_minutes=utc_offset_minutes)
    wanted = _texts(values, vr)
    if len(wanted) > MAX_VALUES:
        raise KeyRefused(tag, "too many values")
    wanted = tuple([text for text in wanted if text])
    if not wanted or vr in {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}:
        return None
    try:
        found = [_one(vr, text, fuzzy=fuzzy, utc_offset_minutes=utc_offset_minutes) for text in wanted]
    except (RangeError, PatternRefused) as refusal:
        raise KeyRefused(tag, str(refusal)) from None
    matchers = [matcher for matcher in found if matcher is not None]
    if len(matchers) < len(found):
        return None
    if len(matchers) == 1:
        return matchers[0]
    if vr == "UI" and all(matcher.kind == "single" for matcher in matchers):
        return _exact("uid-list", vr, wanted)
    return _any_of(vr, matchers)


def compile_keys(dataset: Dataset, *, fuzzy: bool = False, utc_offset_minutes: int = 0) -> dict[int, Matcher]:
    """The matchers of an identifier's keys, without the universal ones. Raises KeyRefused."""
    found = {
        tag: compile_key(tag, element.vr, element.value, fuzzy=fuzzy, utc_offset_minutes=utc_offset_minutes)
        for tag, element in dataset.items()
    }
    return {tag: matcher for tag, matcher in found.items() if matcher is not None}


def _texts(values: Iterable[Any], vr: str) -> tuple[str, ...]:
    texts: list[str] = []
    for value in values:
        if isinstance(value, str) and vr in SINGLE_VALUED:
            texts.append(value.strip(" \0"))
        elif isinstance(value, str):
            texts += [part.strip(" \0") for part in value.split("\\")]
        elif not isinstance(value, bytes | Dataset):
            texts.append(str(value))
    return tuple(texts)


def _one(vr: str, text: str, *, fuzzy: bool, utc_offset_minutes: int) -> Matcher | None:
    """The matcher of one value that isn't empty; None for universal."""
    if text == EMPTY:
        return Matcher("empty", vr, lambda stored: not any(_stored_texts(stored)))
    if not text.strip("*"):
        return None
    if vr == "PN":
        return _name(text, fuzzy=fuzzy)
    if vr in RANGE_VRS:
        return _range(vr, text, utc_offset_minutes)
    if vr in NUMBER_VRS:
        return _number(vr, text)
    if vr in WILDCARD_VRS and has_wildcard(text):
        pattern = Wildcard(text)
        return Matcher(
            "wildcard",
            vr,
            lambda stored: any(pattern.matches(value) for value in _stored_texts(stored)),
            prefix=literal_prefix(text),
        )
    return _exact("single", vr, (text,))


def _stored_texts(stored: tuple[Any, ...]) -> list[str]:
    """Values that aren't empty, as text, padding off."""
    texts = [value if isinstance(value, str) else str(value) for value in stored]
    return [text for text in (text.strip(" \0") for text in texts) if text]


def _exact(kind: str, vr: str, values: tuple[str, ...]) -> Matcher:
    wanted = frozenset(values)
    prefix = values[0] if len(values) == 1 else ""
    return Matcher(kind, vr, lambda stored: not wanted.isdisjoint(_stored_texts(stored)), values=values, prefix=prefix)


def _name(text: str, *, fuzzy: bool) -> Matcher | None:
    if fuzzy:
        tokens = names.fuzzy_tokens(text)
        if not tokens:
            return None

        def sounds_like(stored: tuple[Any, ...]) -> bool:
            held = [names.tokens(value) for value in _stored_texts(stored)]
            return any(all(token.matches(words) for token in tokens) for words in held)

        return Matcher("fuzzy", "PN", sounds_like, tokens=tokens)
    pattern = names.NamePattern(text)
    if pattern.is_universal:
        return None
    return Matcher(
        "wildcard",
        "PN",
        lambda stored: any(pattern.matches(value) for value in _stored_texts(stored)),
        prefix=pattern.prefix,
    )


def _range(vr: str, text: str, utc_offset_minutes: int) -> Matcher:
    wanted = parse_range(text, vr, utc_offset_minutes)
    single = not is_range(text, vr) and wanted.low == wanted.high

    def within(stored: tuple[Any, ...]) -> bool:
        for value in _stored_texts(stored):
            moment = _stored_moment(value, vr, utc_offset_minutes)
            if moment is not None and wanted.overlaps(moment):
                return True
        return False

    values = (wanted.low,) if single and wanted.low is not None else ()
    return Matcher("single" if single else "range", vr, within, values=values, low=wanted.low, high=wanted.high)


def _stored_moment(text: str, vr: str, utc_offset_minutes: int) -> Interval | None:
    """A stored date or time; None for what isn't one, which matches no range."""
    try:
        return parse_range(text, vr, utc_offset_minutes)
    except RangeError:
        return None


def _number(vr: str, text: str) -> Matcher:
    wanted = _number_of(text)
    return Matcher(
        "single",
        vr,
        lambda stored: any(_number_of(value) == wanted for value in _stored_texts(stored)),
        values=(text,),
    )


def _number_of(text: str) -> Decimal | str:
    """Its value, so that 1, 01 and +1.0 are the same; the text itself if it is no number."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def _any_of(vr: str, matchers: list[Matcher]) -> Matcher:
    exact = all(matcher.kind == "single" and matcher.values for matcher in matchers)
    values = tuple([value for matcher in matchers for value in matcher.values]) if exact else ()
    return Matcher("multiple", vr, lambda stored: any(m.matches(stored) for m in matchers), values=values)


MAX_SEQUENCE_DEPTH = 16


def _sequence(tag: int, items: tuple[Any, ...], depth: int, *, fuzzy: bool, utc_offset_minutes: int) -> Matcher | None:
    """A key has one item (PS3.4 §C.2.2.2.6); of several, each is tried."""
    if depth >= MAX_SEQUENCE_DEPTH:
        raise KeyRefused(tag, "sequences nest too deep")
    compiled: list[dict[int, Matcher]] = []
    for item in items:
        keys: dict[int, Matcher] = {}
        for inner, element in item.items():
            if element.vr == "SQ":
                matcher = _sequence(inner, element.value, depth + 1, fuzzy=fuzzy, utc_offset_minutes=utc_offset_minutes)
            else:
                matcher = compile_key(
                    inner, element.vr, element.value, fuzzy=fuzzy, utc_offset_minutes=utc_offset_minutes
                )
            if matcher is not None:
                keys[inner] = matcher
        if keys:
            compiled.append(keys)
    if not compiled:
        return None

    def some_item(stored: tuple[Any, ...]) -> bool:
        held = [item for item in stored if isinstance(item, Dataset)]
        return any(item_matches(item, keys) for item in held for keys in compiled)

    return Matcher("sequence", "SQ", some_item, keys=tuple(compiled))


_ABSENT = Element("UN")


def item_matches(item: Dataset, keys: dict[int, Matcher]) -> bool:
    """Whether every key matches the attribute of a data set or item."""
    return all(matcher.matches(item.get(tag, _ABSENT).value) for tag, matcher in keys.items())


@dataclass(frozen=True, slots=True)
class CombinedMatcher:
    """A date and a time key matched as one moment (PS3.4 §C.2.2.2.5.2).

    Attributes:
        low, high: `YYYYMMDDHHMMSS.FFFFFF`, both included; None: open.
    """

    low: str | None
    high: str | None

    def matches(self, dates: tuple[Any, ...], times: tuple[Any, ...]) -> bool:
        """Whether the stored date and time lie within; without a stored time, whether that day does in part."""
        date_texts, time_texts = _stored_texts(dates), _stored_texts(times)
        date = _stored_moment(date_texts[0], "DA", 0) if date_texts else None
        time = _stored_moment(time_texts[0], "TM", 0) if time_texts else None
        if date is None or date.low is None or date.high is None:
            return False
        return Interval(self.low, self.high).overlaps(combined(date, time))


def compile_pair(date_tag: int, dates: tuple[Any, ...], times: tuple[Any, ...]) -> CombinedMatcher | None:
    """The matcher of a pair of keys such as Study Date and Study Time.

    None where the two are to be matched each by itself: one is empty, a list, or asks for empty values.

    Raises:
        KeyRefused: one is no date or time.
    """
    date_texts = [text for text in _texts(dates, "DA") if text.strip("*")]
    time_texts = [text for text in _texts(times, "TM") if text.strip("*")]
    if len(date_texts) != 1 or len(time_texts) != 1 or EMPTY in date_texts + time_texts:
        return None
    try:
        date, time = parse_range(date_texts[0], "DA"), parse_range(time_texts[0], "TM")
    except RangeError as refusal:
        raise KeyRefused(date_tag, str(refusal)) from None
    low, high = combined(date, time)
    return CombinedMatcher(low, high)
