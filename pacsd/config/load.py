"""Reading `pacsd.toml`: all of its mistakes at once, each with its key and what to do."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pacsd.config.decode import Problem, decode
from pacsd.config.sections import Config


class ConfigError(Exception):
    """The configuration can't be used; `problems` holds every mistake that was found."""

    def __init__(self, source: Path, problems: list[Problem]) -> None:
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))
        self.source = source
        self.problems = problems


def load(path: str | Path) -> Config:
    """Read a configuration file.

    Paths in it are taken relative to the file, whatever the current folder is.

    Raises:
        ConfigError: The file can't be read, or it holds mistakes.
    """
    source = Path(path).absolute()
    try:
        table = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(source, [Problem("", f"can't be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(source, [Problem("", f"is not UTF-8 at byte {error.start}")]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, [Problem("", f"is not TOML: {error}")]) from error
    return parse(table, source)


def parse(table: Mapping[str, Any], source: Path) -> Config:
    """Make a configuration of a parsed file.

    Args:
        table: The TOML document.
        source: The file's absolute path; relative paths of the document are meant relative to its folder.

    Raises:
        ConfigError: It holds mistakes.
    """
    problems: list[Problem] = []
    kinds = typing.get_type_hints(Config)
    names = [field.name for field in dataclasses.fields(Config) if dataclasses.is_dataclass(kinds[field.name])]
    problems.extend(
        Problem(name, "is not a section; the sections are " + ", ".join(f"[{known}]" for known in names))
        for name in table
        if name not in names
    )
    sections: dict[str, Any] = {}
    for name in names:
        part = table.get(name, {})
        if isinstance(part, Mapping):
            sections[name] = decode(kinds[name], part, source.parent, f"{name}.", problems)
        else:
            problems.append(Problem(name, f"must be a section, [{name}]"))
    if not problems:
        config = Config(source=source, **sections)
        problems.extend(_contradictions(config))
        if not problems:
            return config
    raise ConfigError(source, problems)


def _contradictions(config: Config) -> Iterator[Problem]:
    """Find what is legal by itself but not together."""
    seen: dict[int, str] = {}
    for role, section in (("dicom", config.dicom), ("web", config.web), ("hl7", config.hl7)):
        if section.enabled and section.port in seen:
            yield Problem(f"{role}.port", f"{section.port} is also {seen[section.port]}.port; give each role its own")
        elif section.enabled:
            seen[section.port] = role
    for what in ("name", "path"):
        times = Counter(getattr(pool, what) for pool in config.storage.pools)
        for at, pool in enumerate(config.storage.pools):
            if times[getattr(pool, what)] > 1:
                yield Problem(f"storage.pools[{at}].{what}", f"{getattr(pool, what)} is used by two pools")
    for at, pool in enumerate(config.storage.pools):
        if pool.low_water_percent > pool.high_water_percent:
            yield Problem(f"storage.pools[{at}].low_water_percent", "must not be above high_water_percent")
