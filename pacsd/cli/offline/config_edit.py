"""Changing `pacsd.toml` for a person: a few lines of text, everything else as it was, comments too."""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from pathlib import Path

from pacsd.config.decode import Problem
from pacsd.config.load import ConfigError, parse
from pacsd.config.sections import Config

_POOL_HEADER = re.compile(r"^\s*\[\[\s*storage\s*\.\s*pools\s*\]\]\s*(#.*)?$")
_ANY_HEADER = re.compile(r"^\s*\[")
_NAME = re.compile(r"""^\s*name\s*=\s*(?:"([^"]*)"|'([^']*)')\s*(#.*)?$""")
_READ_ONLY = re.compile(r"^(\s*read_only\s*=\s*)(true|false)(.*)$")


def with_pool(text: str, name: str, path: Path) -> str:
    """The file with one more pool at its end."""
    gap = "" if text.endswith("\n") or not text else "\n"
    return f"{text}{gap}\n[[storage.pools]]\nname = {json.dumps(name)}\npath = {json.dumps(str(path))}\n"


def with_read_only(text: str, name: str, *, on: bool) -> str | None:
    """The file with a pool's `read_only` set; None when the pool's table isn't found as text."""
    lines = text.splitlines(keepends=True)
    span = _table_of(lines, name)
    if span is None:
        return None
    start, end, name_at = span
    value = "true" if on else "false"
    for at in range(start, end):
        found = _READ_ONLY.match(lines[at].rstrip("\r\n"))
        if found:
            lines[at] = f"{found[1]}{value}{found[3]}\n"
            return "".join(lines)
    if not lines[name_at].endswith("\n"):
        lines[name_at] += "\n"
    lines.insert(name_at + 1, f"read_only = {value}\n")
    return "".join(lines)


def _table_of(lines: list[str], name: str) -> tuple[int, int, int] | None:
    """First line, end, and line of the name, of a pool's table."""
    for start, line in enumerate(lines):
        if not _POOL_HEADER.match(line.rstrip("\r\n")):
            continue
        end = next((at for at in range(start + 1, len(lines)) if _ANY_HEADER.match(lines[at])), len(lines))
        for at in range(start + 1, end):
            found = _NAME.match(lines[at].rstrip("\r\n"))
            if found and name in (found[1], found[2]):
                return start, end, at
    return None


def check(text: str, source: Path) -> Config:
    """The configuration that a changed file gives. Raises ConfigError."""
    try:
        return parse(tomllib.loads(text), source)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            source, [Problem("", f"can't be changed by this command: {error}; edit it by hand")]
        ) from error


def replace(path: Path, text: str) -> None:
    """Write the file anew with its rights and owner, whole or not at all; a link's target is what is replaced.

    Raises: OSError.
    """
    target = path.resolve()
    before = target.stat()
    fd, part = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fchmod(fd, before.st_mode & 0o7777)
            if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(fd, before.st_uid, before.st_gid)
            os.fsync(fd)
        Path(part).replace(target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
