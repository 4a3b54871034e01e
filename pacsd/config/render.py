"""The annotated example of `pacsd.toml` and the manual's tables, made from the declarations of the sections.

`python -m pacsd.config.render > etc/pacsd.toml`
`python -m pacsd.config.render manual > docs/configuration.md`
"""

from __future__ import annotations

import dataclasses
import json
import sys
import textwrap
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pacsd.config.sections import Config
from pacsd.config.settings import Setting, setting_of

_HEAD = """\
# The configuration of a pacsd site. Every setting is listed; one that is commented out shows its default.
# Paths are meant relative to this file. `pacsd check --config FILE` finds every mistake at once.
"""
_MANUAL_HEAD = """\
# Configuration

Every setting of `pacsd.toml`. This page and the annotated example `etc/pacsd.toml` are rendered from
`pacsd/config/sections.py`. Paths are meant relative to the file. Unknown keys are errors; `pacsd check --config FILE`
reports every mistake at once. Settings are read at start.
"""
_SAMPLE_POOL = {"name": "images", "path": "images"}


def example(values: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Return an annotated `pacsd.toml`.

    Args:
        values: Section → key → value of what shall be set; all else appears commented out, with its default.
    """
    values = values or {}
    parts = [_HEAD]
    for name, section in sections():
        parts.append(_table(f"[{name}]", section, values.get(name, {})))
        for field in dataclasses.fields(section):
            kind = _table_kind(section, field)
            if kind is not None:
                rows = values.get(name, {}).get(field.name)
                parts.extend(_table(f"[[{name}.{field.name}]]", kind, row) for row in rows or ())
                if not rows:
                    parts.append(_commented(_table(f"[[{name}.{field.name}]]", kind, _SAMPLE_POOL)))
    return "\n".join(parts)


def manual() -> str:
    """Return the settings as a page of Markdown, one table per section."""
    parts = [_MANUAL_HEAD]
    for name, section in sections():
        parts.append(_markdown(f"[{name}]", section))
        for field in dataclasses.fields(section):
            kind = _table_kind(section, field)
            if kind is not None:
                parts.append(_markdown(f"[[{name}.{field.name}]]", kind))
    return "\n".join(parts)


def sections() -> Iterator[tuple[str, Any]]:
    """Give the sections of the file in order: name, class."""
    kinds = typing.get_type_hints(Config)
    for field in dataclasses.fields(Config):
        if dataclasses.is_dataclass(kinds[field.name]):
            yield field.name, kinds[field.name]


def _table_kind(section: Any, field: dataclasses.Field[Any]) -> Any:
    """Return the class of a list of tables, None for any other field."""
    kind = typing.get_args(typing.get_type_hints(section)[field.name])[:1]
    return kind[0] if kind and dataclasses.is_dataclass(kind[0]) else None


def _about(kind: Any) -> str:
    return str(kind.__doc__).strip().splitlines()[0]


def _table(head: str, kind: Any, values: Mapping[str, Any]) -> str:
    lines = [
        *textwrap.wrap(_about(kind), 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False),
        head,
    ]
    for field in dataclasses.fields(kind):
        if _table_kind(kind, field) is not None:
            continue
        declared = setting_of(field)
        lines.append("")
        told = f"{declared.about}{_limits(declared)}"
        lines += textwrap.wrap(told, 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        if field.name in values:
            lines.append(f"{field.name} = {toml_value(values[field.name])}")
        elif declared.unset:
            lines.append(f"# {field.name} =   # default: {declared.unset}")
        else:
            lines.append(f"# {field.name} = {toml_value(field.default)}")
    return "\n".join(lines) + "\n"


def _commented(table: str) -> str:
    return "".join(line if line.startswith(("#", "\n")) else f"# {line}" for line in table.splitlines(keepends=True))


def _limits(declared: Setting) -> str:
    if declared.choices:
        return f" One of: {', '.join(declared.choices)}."
    if declared.least is not None or declared.most is not None:
        return f" From {declared.least} to {declared.most}."
    return f" Written as {declared.pattern_about}." if declared.pattern_about else ""


def _markdown(head: str, kind: Any) -> str:
    lines = [
        f"### `{head}`",
        "",
        _about(kind),
        "",
        "| setting | default | what it decides |",
        "|---|---|---|",
    ]
    for field in dataclasses.fields(kind):
        if _table_kind(kind, field) is not None:
            continue
        declared = setting_of(field)
        if field.default is dataclasses.MISSING:
            default = "(needed)"
        else:
            default = declared.unset or f"`{toml_value(field.default)}`"
        about = f"{declared.about}{_limits(declared)}".replace("|", "\\|")
        lines.append(f"| `{field.name}` | {default} | {about} |")
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """Write a value as TOML; text is written as JSON writes it, which TOML's basic strings allow."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, Path)):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return repr(value)


if __name__ == "__main__":
    sys.stdout.write(manual() if sys.argv[1:] == ["manual"] else example())
