"""`pacsd run`: all roles of the site in the foreground."""

from __future__ import annotations

import argparse
import os
import sys

from pacsd.cli.arguments import Subparsers, add_config
from pacsd.config.load import load


def add_parser(subparsers: Subparsers) -> None:
    """Describe the verb."""
    parser = subparsers.add_parser(
        "run",
        help="run all roles in the foreground",
        description="Run all roles of the site in the foreground, until SIGINT or SIGTERM. Prints the line "
        "`pacsd ready` when every port listens; the log goes to standard error.",
    )
    add_config(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check the configuration, then become twistd."""
    # supervise brings Twisted along, which the other verbs don't need.
    from pacsd.runtime.supervise import twistd_command

    config = load(args.config)
    command = twistd_command("pacsd", "--config", str(config.source))
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted
