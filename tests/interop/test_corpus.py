"""Every published file travels to the site and back with the same bytes, whatever is wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.interop.objects import (
    DEFLATED,
    EXPLICIT,
    SECONDARY_CAPTURE,
    WireObject,
    nested,
    published_files,
    read_wire_object,
)
from tests.interop.peers import (
    FIND,
    Inbox,
    associate,
    counts,
    find_over,
    get,
    identifier,
    move,
    pairs_of,
    receiver,
    store,
)
from tests.live import Site, free_ports

pytestmark = pytest.mark.timeout(300)
PER_RETRIEVE = 100


def _generated() -> list[WireObject]:
    """What no published file shows: nesting that ends every recursive parser, and no data set at all."""
    deep = [
        WireObject(f"nested {levels}", SECONDARY_CAPTURE, f"2.25.{levels}", EXPLICIT, nested(levels))
        for levels in (1_200, 30_000)
    ]
    return [*deep, WireObject("empty", SECONDARY_CAPTURE, "2.25.1", EXPLICIT, b"")]


@dataclass
class Sent:
    """The site, what was sent to it, in order, and how that was answered."""

    site: Site
    objects: list[WireObject]
    statuses: list[int]

    @property
    def served(self) -> dict[str, WireObject]:
        """What must be given back: the first object of each UID."""
        first: dict[str, WireObject] = {}
        for item in self.objects:
            first.setdefault(item.sop_instance, item)
        return first


@pytest.fixture(scope="module")
def sent(tmp_path_factory) -> Iterator[Sent]:
    objects = [read_wire_object(path) for path in published_files()] + _generated()
    # One association, so that the objects arrive in this order and the first of a UID is known.
    assert len(pairs_of(objects)) <= 128
    with Site(tmp_path_factory.mktemp("corpus") / "site", workers=1) as site:
        yield Sent(site, objects, store(site, objects))


def _parts(items: list[str]) -> Iterator[list[str]]:
    for at in range(0, len(items), PER_RETRIEVE):
        yield items[at : at + PER_RETRIEVE]


def test_every_object_is_stored_with_success(sent):
    refused = {item.name: hex(status) for item, status in zip(sent.objects, sent.statuses, strict=True) if status}
    assert refused == {}


def test_every_file_in_the_pool_has_its_digest_for_a_name(sent):
    files = list((sent.site.pool / "objects").rglob("*.dcm"))
    wrong = [file.name for file in files if hashlib.sha256(file.read_bytes()).hexdigest() != file.stem]
    assert wrong == []
    assert len(files) >= len(sent.served)


def test_the_files_hold_the_data_sets_as_they_were_sent(sent):
    kept = {}
    for file in (sent.site.pool / "objects").rglob("*.dcm"):
        found = read_wire_object(file)
        kept.setdefault(found.sop_instance, set()).add(found.data)
    missing = [item.name for item in sent.objects if item.data not in kept.get(item.sop_instance, set())]
    assert missing == []


def test_each_is_found_at_the_image_level_with_its_class_and_syntax(sent):
    wrong = {}
    with associate(sent.site, [(FIND, [EXPLICIT])], relational=[FIND]) as association:
        for uid, item in sent.served.items():
            asked = identifier("IMAGE", SOPInstanceUID=uid, SOPClassUID=None, AvailableTransferSyntaxUID=None)
            answers, status = find_over(association, asked)
            told = [
                (answer.SOPInstanceUID, answer.SOPClassUID, answer.AvailableTransferSyntaxUID) for answer in answers
            ]
            if status or told != [(uid, item.sop_class, item.syntax)]:
                wrong[item.name] = (hex(status), told)
    assert wrong == {}


def _as_sent(item: WireObject) -> bytes:
    """A deflated data set of odd length goes out with the NUL that PS3.5 §A.5 asks for; every other one as it came."""
    return item.data + bytes(len(item.data) % 2) if item.syntax == DEFLATED else item.data


def _differing(served: dict[str, WireObject], inbox: Inbox) -> dict[str, str]:
    wrong = {}
    arrived = inbox.by_uid
    for uid, item in served.items():
        arrival = arrived.get(uid)
        if arrival is None:
            wrong[item.name] = "did not come"
        elif (arrival.sop_class, arrival.syntax) != (item.sop_class, item.syntax):
            wrong[item.name] = f"came as {arrival.sop_class} in {arrival.syntax}"
        elif arrival.data != _as_sent(item):
            wrong[item.name] = f"{len(arrival.data)} bytes came instead of {len(item.data)}"
    return wrong


def test_c_get_gives_back_the_bytes_that_were_sent(sent):
    inbox, served = Inbox(), sent.served
    for part in _parts(list(served)):
        pairs = pairs_of(served[uid] for uid in part)
        responses, failed = get(sent.site, identifier("IMAGE", SOPInstanceUID=part), pairs, inbox, relational=True)
        assert (failed, responses[-1].Status, counts(responses[-1])) == (None, 0, (len(part), 0, 0))
    assert _differing(served, inbox) == {}
    assert len(inbox.arrivals) == len(served)


def test_c_move_gives_away_the_bytes_that_were_sent(sent):
    inbox, served = Inbox(), sent.served
    (port,) = free_ports(1)
    sent.site.add_peer("RECEIVER", port)
    contexts = [(uid, [syntax]) for uid, syntax in pairs_of(served.values())]
    with receiver(port, contexts, inbox, any_class=True):
        for part in _parts(list(served)):
            asked = identifier("IMAGE", SOPInstanceUID=part)
            responses, failed = move(sent.site, asked, "RECEIVER", relational=True, calling="MOVER")
            assert (failed, responses[-1].Status, counts(responses[-1])) == (None, 0, (len(part), 0, 0))
    assert _differing(served, inbox) == {}
    assert {(arrival.originator, arrival.originator_message) for arrival in inbox.arrivals} == {("MOVER", 77)}
    assert {arrival.calling for arrival in inbox.arrivals} == {"PACSD"}


def test_other_bytes_under_a_uid_are_set_aside_once(sent):
    distinct = {(item.sop_instance, item.syntax, item.data) for item in sent.objects}
    kept = sent.site.metrics("pacsd_dicom_stored_total")
    assert kept['outcome="stored",station="PYNETDICOM"'] == len(sent.served)
    assert kept['outcome="kept-aside",station="PYNETDICOM"'] >= len(distinct) - len(sent.served)
    assert len(list((sent.site.pool / "objects").rglob("*.dcm"))) == len(distinct)


def test_the_same_again_is_answered_with_success_and_kept_once(sent):
    before = {file.name for file in (sent.site.pool / "objects").rglob("*.dcm")}
    again = store(sent.site, list(sent.served.values()))
    assert [hex(status) for status in again if status] == []
    assert {file.name for file in (sent.site.pool / "objects").rglob("*.dcm")} == before
    with associate(sent.site, [(FIND, [EXPLICIT])], relational=[FIND]) as association:
        for uid in list(sent.served)[:50]:
            answers, _ = find_over(association, identifier("IMAGE", SOPInstanceUID=uid))
            assert len(answers) == 1


def test_the_site_lives_through_all_this_without_a_crash(sent):
    events = list(sent.site.events())
    bad = [event for event in events if "crashed" in event["event"] or event["event"] == "worker-died"]
    assert bad == []
