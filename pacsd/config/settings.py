"""How a section declares its settings: a dataclass field that carries its own manual entry and limits.

The loader, the annotated example and the manual's table are all made from these declarations, so a
setting is described in exactly one place.
"""

from __future__ import annotations

import dataclasses
from typing import Any

_KEY = "pacsd.setting"


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """What is known of a setting beside its type and default.

    Args:
        about: What it decides and, where it isn't plain, when to change it; one or two sentences.
        least, most: Legal range of a number, both inclusive; the unit is in the setting's name.
        choices: The legal words, if it is one of a few.
        pattern: A regular expression that the whole text must match.
        pattern_about: The same rule in words, for the one who broke it.
        path: The text is a path; a relative one is meant relative to the configuration file.
        unset: How to say in the manual what an empty default stands for.
    """

    about: str
    least: int | float | None = None
    most: int | float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    pattern_about: str = ""
    path: bool = False
    unset: str = ""


def setting(default: Any, about: str, **limits: Any) -> Any:
    """Declare a field of a section; see `Setting` for the limits.

    Args:
        default: An immutable value, or `dataclasses.MISSING` if the site has to say it.
    """
    metadata = {_KEY: Setting(about, **limits)}
    return dataclasses.field(default=default, metadata=metadata)


def setting_of(field: dataclasses.Field[Any]) -> Setting:
    """Return the declaration behind a field of a section."""
    declared: Setting = field.metadata[_KEY]
    return declared
