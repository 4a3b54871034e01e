"""Tables of TOML into sections: every mistake is collected, none is guessed around."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pacsd.config.settings import Setting, setting_of

S = TypeVar("S")


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration file.

    Args:
        key: The dotted key, `dicom.port` or `storage.pools[1].path`; empty for the file as a whole.
        advice: What is wrong and what to write instead.
    """

    key: str
    advice: str

    def __str__(self) -> str:
        return f"{self.key}: {self.advice}" if self.key else self.advice


def decode(section: type[S], table: Mapping[str, Any], base: Path, prefix: str, problems: list[Problem]) -> S | None:
    """Make a section of a table of the file.

    Args:
        section: A dataclass whose fields were declared by `setting`.
        table: The parsed TOML table.
        base: The folder that relative paths are meant relative to, absolute.
        prefix: The dotted key of the table, with a trailing dot; empty for a list's own report.
        problems: Gets one entry for each mistake.

    Returns:
        The section, or None if it has a mistake.
    """
    before = len(problems)
    hints = typing.get_type_hints(section)
    fields = {field.name: field for field in dataclasses.fields(section)}  # type: ignore[arg-type]  # S is a dataclass
    problems.extend(Problem(prefix + key, _unknown(key, fields)) for key in table if key not in fields)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        declared = setting_of(field)
        if name in table:
            values[name] = _value(hints[name], table[name], declared, base, prefix + name, problems)
        elif field.default is dataclasses.MISSING:
            problems.append(Problem(prefix + name, f"is needed. {declared.about}"))
        elif declared.path:
            values[name] = base / field.default
    return section(**values) if len(problems) == before else None


def _unknown(key: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"is not a setting; did you mean {near[0]!r}?"
    return "is not a setting; remove it. Known here: " + ", ".join(known)


def _value(kind: Any, value: Any, declared: Setting, base: Path, key: str, problems: list[Problem]) -> Any:
    if typing.get_origin(kind) is tuple:
        return _sequence(typing.get_args(kind)[0], value, declared, base, key, problems)
    assert not isinstance(kind, types.UnionType)
    advice = ""
    if kind is bool:
        advice = "" if isinstance(value, bool) else "must be true or false"
    elif kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole and not (kind is float and isinstance(value, float)):
            advice = "must be a whole number" if kind is int else "must be a number"
        advice = advice or _out_of_range(value, declared)
    elif not isinstance(value, str):
        advice = "must be text in quotes"
    elif kind is Path:
        advice = "" if value and "\0" not in value else "must be a path"
    elif declared.choices and value not in declared.choices:
        advice = "must be one of " + ", ".join(declared.choices)
    elif declared.pattern and not re.fullmatch(declared.pattern, value):
        advice = "must be " + declared.pattern_about
    if advice:
        problems.append(Problem(key, f"{advice}, but it is {_shown(value)}"))
        return None
    return base / value if kind is Path else kind(value)


def _shown(value: Any) -> str:
    """Write a value so that it can be recognised; the password of a URL isn't repeated."""
    return re.sub(r"(://[^/@]*:)[^@]*@", r"\1…@", repr(value))[:200]


def _out_of_range(value: float, declared: Setting) -> str:
    least, most = declared.least, declared.most
    if (least is not None and not value >= least) or (most is not None and not value <= most):
        return f"must be from {least} to {most}"
    return ""


def _sequence(kind: Any, value: Any, declared: Setting, base: Path, key: str, problems: list[Problem]) -> Any:
    if not isinstance(value, list):
        problems.append(Problem(key, f"must be a list, but it is {_shown(value)}"))
        return ()
    items = []
    for at, item in enumerate(value):
        place = f"{key}[{at}]"
        if not dataclasses.is_dataclass(kind):
            items.append(_value(kind, item, declared, base, place, problems))
        elif isinstance(item, dict):
            assert isinstance(kind, type)
            items.append(decode(kind, item, base, place + ".", problems))
        else:
            problems.append(Problem(place, f"must be a table, but it is {_shown(item)}"))
    return tuple(items)
