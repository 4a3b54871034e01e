"""The command `pacsd`: finds its verbs, parses, runs one, and answers with an exit status of sysexits(3)."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

import pacsd
import pacsd.cli
from pacsd.config.load import ConfigError
from pacsd.model.errors import PacsError

_EXAMPLES = """\
examples:
  pacsd init --state /srv/pacsd --ae-title PACS1    make an empty site
  pacsd check --config /srv/pacsd/pacsd.toml        find every mistake in its configuration
  pacsd run --config /srv/pacsd/pacsd.toml          run all its roles in the foreground

exit status: 0 done, 64 wrong usage, 69 a service is unavailable, 70 an error in pacsd, 73 can't create,
74 input/output error, 75 try again later, 78 wrong configuration
"""


class Parser(argparse.ArgumentParser):
    """A parser that ends with EX_USAGE, as sysexits(3) has it, instead of 2."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and how it is right."""
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {message}\n")


def verbs(wanted: str = "") -> list[ModuleType]:
    """Import the modules of this package that are verbs: those that have `add_parser`.

    Args:
        wanted: The verb that will be run, if it is known; then only its module is imported, so that no verb
            waits for what another one needs. `index-rebuild` is in `index_rebuild.py`, `import` in `import_.py`.
    """
    names = [name for _, name, is_package in pkgutil.iter_modules(pacsd.cli.__path__) if not is_package]
    chosen = [name for name in names if name.rstrip("_").replace("_", "-") == wanted]
    modules = [importlib.import_module(f"pacsd.cli.{name}") for name in chosen or names if name != "main"]
    return [module for module in modules if hasattr(module, "add_parser")]


def make_parser(wanted: str = "") -> Parser:
    """Make the parser of the whole command, or of it with one verb only."""
    parser = Parser(
        prog="pacsd",
        description="A picture archiving and communication system for hospitals.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pacsd {pacsd.__version__}")
    subparsers = parser.add_subparsers(metavar="VERB", required=True, title="verbs")
    for module in verbs(wanted):
        module.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: Default: the process's own.

    Returns:
        The exit status.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    chosen = make_parser(given[0] if given else "").parse_args(given)
    try:
        status: int = chosen.run(chosen)
        sys.stdout.flush()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return os.EX_CONFIG
    except PacsError as error:
        print(f"pacsd: {error}", file=sys.stderr)
        return os.EX_TEMPFAIL if error.retryable else os.EX_SOFTWARE
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not complain about it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return os.EX_IOERR
    except OSError as error:
        print(f"pacsd: {error}", file=sys.stderr)
        return os.EX_IOERR
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
