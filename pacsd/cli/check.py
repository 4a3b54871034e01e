"""`pacsd check`: every mistake of a configuration at once."""

from __future__ import annotations

import argparse
import os

from pacsd.cli.arguments import Subparsers, add_config
from pacsd.config.decode import Problem
from pacsd.config.load import ConfigError, load
from pacsd.config.sections import Config


def add_parser(subparsers: Subparsers) -> None:
    """Describe the verb."""
    parser = subparsers.add_parser(
        "check",
        help="find every mistake in the configuration",
        description="Read the configuration as the daemons would and report every mistake with its key; "
        "exit status 78 if there is one.",
    )
    add_config(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load the configuration and look at the folders it names.

    Raises:
        ConfigError: It holds mistakes.
    """
    config = load(args.config)
    problems = _missing_folders(config)
    if problems:
        raise ConfigError(config.source, problems)
    print(f"{config.source}: correct")
    return os.EX_OK


def _missing_folders(config: Config) -> list[Problem]:
    problems = []
    if not config.state.is_dir():
        problems.append(Problem("site.state", f"{config.state} is not a folder; make it or run `pacsd init`"))
    for at, pool in enumerate(config.storage.pools):
        if not pool.path.is_dir():
            problems.append(
                Problem(
                    f"storage.pools[{at}].path",
                    f"{pool.path} is not a folder; make it or mount its file system",
                )
            )
    if config.dicom.enabled and not config.storage.pools:
        problems.append(Problem("storage.pools", "is empty, so no image can be stored; add a [[storage.pools]] table"))
    return problems
