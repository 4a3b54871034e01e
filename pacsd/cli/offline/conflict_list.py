"""What `pacsd conflicts` prints: files whose SOP Instance UID another file answers for."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime

from pacsd.cli.offline.site import Site, opened_site
from pacsd.config.sections import Config
from pacsd.index.locations import SetAside
from pacsd.model.attributes import BY_TAG
from pacsd.model.errors import IntegrityError
from pacsd.model.objects import StoredFile
from pacsd.storage.header import read_file_header

_PAGE = 1000


def print_list(config: Config, *, as_json: bool) -> int:
    """Print all that are set aside, oldest first. Raises errors.PacsError."""
    with opened_site(config) as site:
        after, n = 0, 0
        while page := site.index.set_aside(after, _PAGE):
            after = page[-1].set_aside_id
            n += len(page)
            for one in page:
                print(json.dumps(_row(one)) if as_json else _words(one))
    if not as_json:
        print(f"{n:,} set aside")
    return os.EX_OK


def print_one(config: Config, set_aside_id: int, *, as_json: bool) -> int:
    """Print one beside the object that is served. Raises errors.PacsError."""
    with opened_site(config) as site:
        found = next(iter(site.index.set_aside(set_aside_id - 1, 1)), None)
        if found is None or found.set_aside_id != set_aside_id:
            print(f"pacsd: nothing is set aside under the number {set_aside_id}", file=sys.stderr)
            return os.EX_NOINPUT
        served = next(iter(site.index.lookup([found.sop_instance_uid])), None)
        files = served.files if served is not None else ()
        row = _row(found)
        row["served"] = [site.pools.path(file) for file in files]
        row["differs_in"] = _differences(site, found.file, files[0]) if files else []
    if as_json:
        print(json.dumps(row))
    else:
        for name, value in row.items():
            print(f"{name:18}{', '.join(map(str, value)) if isinstance(value, list) else value}")
    return os.EX_OK


def _row(one: SetAside) -> dict[str, object]:
    return {
        "id": one.set_aside_id,
        "sop_instance_uid": one.sop_instance_uid,
        "reason": one.reason,
        "received_at": _time(one.received_at),
        "source_ae": one.source_ae,
        "source_address": one.source_address,
        "pool": one.file.pool,
        "path": one.file.path,
        "size_bytes": one.file.size_bytes,
    }


def _words(one: SetAside) -> str:
    source = one.source_ae or one.source_address or "-"
    return f"{one.set_aside_id:>8}  {_time(one.received_at)}  {one.reason:10}  {source:16}  {one.sop_instance_uid}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _differences(site: Site, aside: StoredFile, served: StoredFile) -> list[str]:
    """Keywords of indexed attributes that differ; no values, which may be a patient's."""
    try:
        one, _ = read_file_header(site.pools.path(aside))
        other, _ = read_file_header(site.pools.path(served))
    except (IntegrityError, OSError) as error:
        return [f"not known: {error}"]
    tags = sorted(tag for tag in BY_TAG if one.values.get(tag, "") != other.values.get(tag, ""))
    found = [BY_TAG[tag].keyword for tag in tags]
    if one.transfer_syntax_uid != other.transfer_syntax_uid:
        found.insert(0, "TransferSyntaxUID")
    return found or ["attributes that the index has no column for, or pixel data"]
