"""Options of the twistd commands, and what each of them does first."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from twisted.python.usage import Options as TwistedOptions

from pacsd.config.load import ConfigError, load
from pacsd.config.sections import Config
from pacsd.runtime import logs


class Options(TwistedOptions):
    """Options that every role has."""

    optParameters: ClassVar[Sequence[Sequence[Any]]] = [
        ["config", "c", "pacsd.toml", "The configuration file of the site."]
    ]


class WorkerOptions(Options):
    """Options of a role that may run in several processes."""

    optParameters: ClassVar[Sequence[Sequence[Any]]] = [
        ["worker", "w", 1, "Which of the role's processes this is, from 1.", int]
    ]


def begin(options: Any, process: str) -> Config:
    """Read the configuration and start the log.

    Raises:
        SystemExit: 78 (EX_CONFIG) if the configuration has mistakes; they are on standard error.
    """
    try:
        config = load(options["config"])
    except ConfigError as error:
        print(error, file=sys.__stderr__)
        raise SystemExit(os.EX_CONFIG) from error
    logs.start(process, config.site.log_level, config.site.log_format)
    return config
