"""What C-FIND promises on the wire; our own SCU asks over an association in memory."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pacsd.dicom.association import Association
from pacsd.dicom.dispatch import Services
from pacsd.dicom.scp.find import Find
from pacsd.dicom.scu.connect import Target, connect
from pacsd.dicom.scu.find import QueryFailed, find, matches, proposal
from pacsd.dicom.wire import dimse
from pacsd.dicom.wire.dimse import Command
from pacsd.dicom.wire.sop_classes import STUDY_ROOT_FIND
from pacsd.model.dataset import Dataset, Element, decode, encode
from pacsd.model.errors import OutOfResources
from pacsd.model.query import Root
from pacsd.model.syntax import transfer_syntax
from tests.dicom.fakes import MemoryIndex, Net

LEVEL, RETRIEVE_AE = 0x00080052, 0x00080054


class Site:
    def __init__(self, n_matches: int = 0, *, limit: int = 1000) -> None:
        self.net, self.index = Net(), MemoryIndex()
        self.index.matches = [Dataset.from_keywords(StudyID=str(number)) for number in range(n_matches)]
        handler = Find(self.index, self.net.offload, ae_title="PACSD", limit=limit)
        self.host = self.net.listen(104, Services({dimse.C_FIND_RQ: handler}))

    def connect(self, root: Root = Root.STUDY, **options: Any) -> Association:
        return self.net.run(
            connect(self.net.network(), Target("pacs", 104, "PACSD"), "WS1", [proposal(root)], **options)
        )

    def find(self, identifier: Dataset, **options: Any) -> list[Dataset]:
        return self.net.run(find(self.connect(**options), Root.STUDY, identifier))

    def raw(self, identifier: bytes) -> list[tuple[Command, bytes | None]]:
        """Every response to an identifier that is sent as it is."""
        association = self.connect()
        (context,) = association.contexts.values()
        command = Command(
            AffectedSOPClassUID=context.abstract_syntax, CommandField=dimse.C_FIND_RQ, MessageID=1, Priority=0,
            CommandDataSetType=1,
        )  # fmt: skip

        async def responses() -> list[tuple[Command, bytes | None]]:
            return [response async for response in association.responses(context.id, command, identifier)]

        return self.net.run(responses())


def study(**keywords: str) -> Dataset:
    return Dataset({LEVEL: Element("CS", ("STUDY",)), **Dataset.from_keywords(**keywords)})


def test_each_match_is_one_answer_in_order_with_level_and_where_to_retrieve_it() -> None:
    answers = Site(1234, limit=2000).find(study(StudyID=""))
    assert [answer.text(0x00200010) for answer in answers] == [str(number) for number in range(1234)]
    assert answers[0].text(LEVEL) == "STUDY"
    assert answers[0].text(RETRIEVE_AE) == "PACSD"


def test_no_match_is_success_without_answers() -> None:
    ((response, dataset),) = Site(0).raw(encode(study(StudyID=""), transfer_syntax("1.2.840.10008.1.2.1"), None))
    assert response.Status == 0x0000
    assert dataset is None


def test_a_key_that_is_not_supported_is_told_by_ff01() -> None:
    site = Site(2)
    site.index.unsupported = True
    responses = site.raw(encode(study(StudyID=""), transfer_syntax("1.2.840.10008.1.2.1"), None))
    assert [response.Status for response, _ in responses] == [0xFF01, 0xFF01, 0x0000]


def test_a_wrong_level_is_a900_with_the_element_at_fault_and_a_comment() -> None:
    bad = Dataset({LEVEL: Element("CS", ("PATIENT",))})
    ((response, _),) = Site(1).raw(encode(bad, transfer_syntax("1.2.840.10008.1.2.1"), None))
    assert response.Status == 0xA900
    assert response.OffendingElement == (LEVEL,)
    assert response.ErrorComment


def test_an_identifier_that_cannot_be_decoded_is_c000() -> None:
    ((response, _),) = Site(1).raw(b"\x08\x00\x52\x00CS\xff\x7fno")
    assert response.Status in (0xC000, 0xA900)
    assert response.ErrorComment


def test_more_matches_than_the_site_allows_end_in_a700_after_the_allowed_ones() -> None:
    responses = Site(11, limit=10).raw(encode(study(StudyID=""), transfer_syntax("1.2.840.10008.1.2.1"), None))
    assert [response.Status for response, _ in responses] == [0xFF00] * 10 + [0xA700]
    assert "10" in responses[-1][0].ErrorComment


def test_as_many_matches_as_the_site_allows_are_success() -> None:
    assert len(Site(10, limit=10).find(study(StudyID=""))) == 10


def test_a_database_that_is_away_is_a700_with_its_cause() -> None:
    site = Site(1)
    site.index.failure = OutOfResources("database is away")
    with pytest.raises(QueryFailed, match="A700 database is away"):
        site.find(study(StudyID=""))


def test_relational_fuzzy_and_timezone_reach_the_query_only_where_negotiated() -> None:
    site = Site(0)
    site.find(study(StudyID=""), extended={STUDY_ROOT_FIND: b"\x01\x00\x01\x01"})
    site.find(study(StudyID=""))
    negotiated, baseline = site.index.queries
    assert (negotiated.relational, negotiated.combined_datetime, negotiated.fuzzy) == (True, False, True)
    assert (baseline.relational, baseline.combined_datetime, baseline.fuzzy) == (False, False, False)


def test_cancel_ends_the_query_with_fe00_and_searches_no_further() -> None:
    site = Site(5000, limit=10_000)
    association = site.connect()
    seen: list[Dataset] = []

    async def two() -> None:
        async with aclosing(matches(association, Root.STUDY, study(StudyID=""))) as answers:
            async for answer in answers:
                seen.append(answer)
                if len(seen) == 2:
                    break

    site.net.run(two())
    site.net.wire.pump()
    assert len(seen) == 2
    assert len(site.index.queries) < 11
    site.net.run(association.release())
    assert not site.host.associations[0].is_open


def test_names_come_in_the_requesters_character_set_where_it_can_hold_them_else_in_utf_8() -> None:
    site = Site(0)
    site.index.matches = [
        Dataset({0x00100010: Element("PN", ("Müller^Jürgen",))}),
        Dataset({0x00100010: Element("PN", ("Yamada^Tarou=山田^太郎",))}),
    ]
    asked = encode(study(PatientName=""), transfer_syntax("1.2.840.10008.1.2.1"), None)
    responses = site.raw(b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + asked)
    first, second = (dataset or b"" for _, dataset in responses[:2])
    assert b"M\xfcller" in first
    assert b"ISO_IR 100" in first
    assert "山田".encode() in second
    assert b"ISO_IR 192" in second
    assert decode(second, transfer_syntax("1.2.840.10008.1.2.1")).text(0x00100010) == "Yamada^Tarou=山田^太郎"


def test_a_timezone_that_was_negotiated_reaches_the_query() -> None:
    site = Site(0)
    asked = study(StudyID="", TimezoneOffsetFromUTC="+0200")
    site.find(asked, extended={STUDY_ROOT_FIND: b"\x00\x00\x00\x01"})
    assert site.index.queries[0].utc_offset_minutes == 120


def test_a_requester_that_takes_no_answers_any_more_is_cut() -> None:
    site = Site(500)
    association = site.connect()
    (accepted,) = site.host.associations
    accepted.transport.is_stalled = True
    lost: list[object] = []
    Deferred.fromCoroutine(find(association, Root.STUDY, study(StudyID=""))).addBoth(lost.append)
    for _ in range(300):
        site.net.clock.advance(1.0)
        site.net.wire.pump()
    assert not accepted.transport.is_open
    assert len(lost) == 1
