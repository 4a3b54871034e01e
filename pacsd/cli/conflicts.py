"""`pacsd conflicts`: files whose SOP Instance UID another file answers for."""

from __future__ import annotations

import argparse

from pacsd.cli.arguments import Subparsers, add_config
from pacsd.config.load import load


def add_parser(subparsers: Subparsers) -> None:
    """Describe the verb."""
    parser = subparsers.add_parser(
        "conflicts",
        help="list objects that were set aside",
        description="Objects that came under a SOP Instance UID which is held with other bytes ([dicom] on_conflict): "
        "kept-aside, or superseded by a later one.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="all that are set aside, oldest first")
    show = actions.add_parser("show", help="one of them beside the object that is served")
    show.add_argument("id", type=int, metavar="ID", help="its number in the list")
    for action, function in ((listing, _list), (show, _show)):
        add_config(action)
        action.add_argument("--json", action="store_true", help="print JSON, one object a line")
        action.set_defaults(run=function)


def _list(args: argparse.Namespace) -> int:
    from pacsd.cli.offline.conflict_list import print_list

    return print_list(load(args.config), as_json=args.json)


def _show(args: argparse.Namespace) -> int:
    from pacsd.cli.offline.conflict_list import print_one

    return print_one(load(args.config), args.id, as_json=args.json)
