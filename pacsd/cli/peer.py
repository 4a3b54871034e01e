"""`pacsd peer`: the DICOM stations around us: register them, try them, query them, pull from them, send to them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pacsd.cli.arguments import Subparsers, add_config, port_number
from pacsd.cli.main import Parser
from pacsd.config.load import load
from pacsd.config.sections import Config
from pacsd.index.database import Database
from pacsd.index.peers import PeerRefused, PeerTable
from pacsd.model.objects import Peer

_EXIT = "Exit status: 0 done, 64 wrong usage, 69 the peer can't be reached or refuses, 75 some objects failed."


class _Intermixed(Parser):
    """Takes options between the arguments of a list too: `find AE --level SERIES KEY=VALUE`."""

    _is_inside = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See argparse; what it is made of calls it again."""
        if self._is_inside:
            return super().parse_known_args(args, namespace)
        self._is_inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_inside = False


def add_parser(subparsers: Subparsers) -> None:
    """Describe the verb."""
    parser = subparsers.add_parser(
        "peer", help="register DICOM peers, and talk to them", description=f"DICOM stations around us. {_EXIT}"
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions", parser_class=_Intermixed)
    _add_registry(actions)
    _add_calls(actions)


def _add_registry(actions: Subparsers) -> None:
    add = actions.add_parser("add", help="register a peer, or change it")
    add.add_argument("ae", metavar="AE", help="its application entity title")
    add.add_argument("host", metavar="HOST")
    add.add_argument("port", metavar="PORT", type=port_number)
    add.add_argument("--description", default="", metavar="TEXT")
    add.add_argument(
        "--max-associations", type=int, default=4, metavar="N", help="at once towards it; 0: any (default: 4)"
    )
    add.add_argument(
        "--bytes-per-s", type=int, default=0, metavar="N", help="throttle of what it is sent; 0: none (default)"
    )
    _finish(add, run_add)
    remove = actions.add_parser("remove", help="forget a peer")
    remove.add_argument("ae", metavar="AE")
    _finish(remove, run_remove)
    _finish(actions.add_parser("list", help="all registered peers"), run_list)


def _add_calls(actions: Subparsers) -> None:
    echo = actions.add_parser("echo", help="ask whether it is alive (C-ECHO)")
    echo.add_argument("ae", metavar="AE")
    _finish(echo, _run_call)
    find = actions.add_parser(
        "find", help="query it (C-FIND)", description="Without keys the usual ones of the level are asked for."
    )
    find.add_argument("ae", metavar="AE")
    find.add_argument("keys", nargs="*", metavar="KEY=VALUE", help="a keyword of DICOM and what it must match")
    find.add_argument("--level", default="STUDY", choices=("PATIENT", "STUDY", "SERIES", "IMAGE"))
    find.add_argument("--limit", type=int, default=None, metavar="N", help="cancel after so many answers")
    _finish(find, _run_call)
    pull = actions.add_parser(
        "pull", help="have it send studies to us (C-MOVE, C-GET)",
        description="By C-MOVE the server of this site receives; it must run, and the peer must know its title.",
    )  # fmt: skip
    pull.add_argument("ae", metavar="AE")
    pull.add_argument("--study", action="append", required=True, metavar="UID", help="may be given several times")
    pull.add_argument("--get", action="store_true", help="by C-GET, straight into this site's pools")
    _finish(pull, _run_call)
    send = actions.add_parser("send", help="send it studies of ours, or files (C-STORE)")
    send.add_argument("ae", metavar="AE")
    send.add_argument("files", nargs="*", type=Path, metavar="FILE")
    send.add_argument("--study", action="append", default=[], metavar="UID", help="may be given several times")
    _finish(send, _run_call)


def _finish(parser: argparse.ArgumentParser, run: object) -> None:
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="answer with JSON")
    parser.set_defaults(run=run, action=parser.prog.rsplit(" ", 1)[-1])


def say(text: str) -> None:
    """Tell the person, apart from the answer."""
    print(f"pacsd peer: {text}", file=sys.stderr)


def run_add(args: argparse.Namespace) -> int:
    """Register a peer. Raises OutOfResources."""
    wanted = Peer(args.ae, args.host, args.port, args.description, args.max_associations, args.bytes_per_s)
    with closing(Database(load(args.config).database_url)) as database:
        try:
            kept = PeerTable(database).add(wanted)
        except PeerRefused as error:
            say(error.comment)
            return os.EX_USAGE
    print(json.dumps(asdict(kept)) if args.json else f"{kept.ae_title} is {kept.host} port {kept.port}")
    return os.EX_OK


def run_remove(args: argparse.Namespace) -> int:
    """Forget a peer. Raises OutOfResources."""
    with closing(Database(load(args.config).database_url)) as database:
        removed = PeerTable(database).remove(args.ae)
    if not removed:
        return _unknown(args.ae)
    print(json.dumps({"removed": args.ae}) if args.json else f"{args.ae} is forgotten")
    return os.EX_OK


def run_list(args: argparse.Namespace) -> int:
    """Show all peers. Raises OutOfResources."""
    with closing(Database(load(args.config).database_url)) as database:
        peers = list(PeerTable(database).all())
    if args.json:
        print(json.dumps([asdict(peer) for peer in peers]))
        return os.EX_OK
    for line in _table([("AE", "HOST", "PORT", "LIMITS", "DESCRIPTION"), *map(_row, peers)]):
        print(line)
    return os.EX_OK


def _row(peer: Peer) -> tuple[str, ...]:
    limits = f"{peer.max_associations or 'any'} associations"
    if peer.bytes_per_s:
        limits += f", {peer.bytes_per_s} bytes/s"
    return peer.ae_title, peer.host, str(peer.port), limits, peer.description


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _unknown(ae_title: str) -> int:
    say(f"{ae_title} is not registered; see `pacsd peer list`, register it by `pacsd peer add AE HOST PORT`")
    return os.EX_USAGE


def _run_call(args: argparse.Namespace) -> int:
    """Look the peer up, then talk to it in a reactor that lives as long as the command. Raises OutOfResources."""
    # The network brings Twisted along, which the registry doesn't need.
    from pacsd.cli import peer_calls

    config: Config = load(args.config)
    if args.action == "send" and not args.study and not args.files:
        say("name studies by --study, or files")
        return os.EX_USAGE
    database = Database(config.database_url)
    with closing(database):
        peer = PeerTable(database).get(args.ae)
        if peer is None:
            return _unknown(args.ae)
        return peer_calls.run(args.action, peer_calls.Call(args, config, database, peer))
