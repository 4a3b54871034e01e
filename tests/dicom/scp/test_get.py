"""What C-GET promises on the wire."""

from __future__ import annotations

from pacsd.dicom.dispatch import Services
from pacsd.dicom.scu.connect import Proposal
from pacsd.dicom.scu.retrieve import get, get_proposals
from pacsd.model.dataset import Dataset, Element
from pacsd.model.errors import Busy, OutOfResources
from pacsd.model.query import Root
from tests.dicom.fakes import CT, EXPLICIT, IMPLICIT, JPEG_LOSSLESS, MR
from tests.dicom.scp.retrieving import LEVEL, Site, study


def test_every_object_of_the_study_comes_back_bit_exact_in_its_stored_syntax() -> None:
    site = Site()
    site.add(3, dataset=b"\x08\x00\x60\x00CS\x02\x00CT" + bytes(100_000))
    site.add(2, sop_class=MR, syntax=IMPLICIT, dataset=b"\x08\x00\x60\x00\x02\x00\x00\x00MR")
    site.add(1, study="9.9")
    result = site.get(study("1.2.3"))
    assert result.status == 0x0000
    assert (result.n_completed, result.n_failed, result.n_warning) == (5, 0, 0)
    assert site.store.uids == ["1.0", "1.1", "1.2", "1.3", "1.4"]
    assert [syntax for _, syntax, _ in site.store.objects] == [EXPLICIT] * 3 + [IMPLICIT] * 2
    assert site.store.objects[0][2] == b"\x08\x00\x60\x00CS\x02\x00CT" + bytes(100_000)
    assert site.storage.n_open == 0


def test_the_first_pending_response_tells_how_many_will_come() -> None:
    site = Site()
    site.add(4)
    site.get(study("1.2.3"))
    assert (site.progress[0].status, site.progress[0].n_remaining) == (0xFF00, 4)


def test_no_match_is_success_with_nothing_sent() -> None:
    result = Site().get(study("1.2.3"))
    assert (result.status, result.n_completed) == (0x0000, 0)


def test_an_object_whose_syntax_is_not_accepted_is_converted_to_one_that_is() -> None:
    site = Site()
    site.add(2, syntax=JPEG_LOSSLESS)
    result = site.get(study("1.2.3"), syntaxes=(IMPLICIT,))
    assert result.status == 0x0000
    assert site.converter.converted == [IMPLICIT, IMPLICIT]
    assert [data for _, _, data in site.store.objects] == [b"converted!"] * 2
    assert all(reader.n_closed for reader in site.converter.readers)
    assert site.storage.n_open == 0


def test_an_object_that_cannot_be_converted_fails_alone_and_is_listed() -> None:
    site = Site()
    site.add(1)
    site.add(1, syntax=JPEG_LOSSLESS)
    site.converter.is_broken = True
    result = site.get(study("1.2.3"))
    assert result.status == 0xB000
    assert (result.n_completed, result.n_failed, result.failed_uids) == (1, 1, ("1.1",))


def test_a_class_that_the_requester_did_not_propose_fails_and_is_listed() -> None:
    site = Site()
    site.add(2, sop_class=MR)
    result = site.get(study("1.2.3"), classes=(CT,))
    assert result.status == 0xA702
    assert (result.n_failed, result.failed_uids) == (2, ("1.0", "1.1"))


def test_a_file_that_is_gone_fails_alone() -> None:
    site = Site()
    site.add(3)
    del site.storage.files[site.index.held[1].files[0].digest]
    result = site.get(study("1.2.3"))
    assert (result.status, result.n_completed, result.failed_uids) == (0xB000, 2, ("1.1",))


def test_an_object_that_the_requester_coerces_or_refuses_is_counted_so() -> None:
    site = Site()
    site.add(3)
    site.store.statuses = {"1.0": 0xB000, "1.1": 0xC000}
    result = site.get(study("1.2.3"))
    assert result.status == 0xB000
    assert (result.n_completed, result.n_failed, result.n_warning) == (1, 1, 1)
    assert result.failed_uids == ("1.1",)


def test_a_full_pool_delays_but_fails_nothing() -> None:
    site = Site()
    site.add(3)
    association = site.connect(get_proposals(Root.STUDY, (CT,), (EXPLICIT,)), Services(store=site.store))
    running = get(association, Root.STUDY, study("1.2.3"))
    n_before = site.net.offload.n_calls

    def refuse_the_next(*_: object) -> None:
        site.net.offload.refusals.extend([Busy("full")] * 3)

    site.storage_opened = site.storage.open  # type: ignore[attr-defined]
    opened = site.storage.open

    def open_then_refuse(file: object) -> object:
        if len(site.storage.readers) == 1:
            refuse_the_next()
        return opened(file)  # type: ignore[arg-type]

    site.storage.open = open_then_refuse  # type: ignore[method-assign, assignment]
    result = site.net.run(running, within_s=5.0)
    assert (result.status, result.n_completed) == (0x0000, 3)
    assert site.net.offload.n_calls > n_before


def test_a_database_that_is_away_at_the_start_is_a701() -> None:
    site = Site()
    site.index.failure = OutOfResources("database is away")
    result = site.get(study("1.2.3"))
    assert (result.status, result.comment) == (0xA701, "database is away")


def test_an_identifier_without_its_unique_key_is_a900() -> None:
    assert Site().get(Dataset({LEVEL: Element("CS", ("STUDY",))})).status == 0xA900


def test_cancel_stops_after_the_object_under_way_with_fe00_and_the_counts() -> None:
    site = Site()
    site.add(50)
    association = site.connect(get_proposals(Root.STUDY, (CT,), (EXPLICIT,)), Services(store=site.store))
    begin = site.store.begin

    def cancel_at_the_third(*args: object) -> object:
        if len(site.store.objects) == 2:
            association.cancel(association.contexts_for("1.2.840.10008.5.1.4.1.2.2.3")[0].id, 1)
        return begin(*args)  # type: ignore[arg-type]

    site.store.begin = cancel_at_the_third  # type: ignore[method-assign, assignment]
    result = site.net.run(get(association, Root.STUDY, study("1.2.3")))
    assert result.status == 0xFE00
    assert 3 <= result.n_completed < 50
    assert result.n_remaining == 50 - result.n_completed
    assert site.storage.n_open == 0


def test_a_requester_that_vanishes_leaves_nothing_open() -> None:
    site = Site()
    site.add(10)
    site.store.cut_at = {"1.4"}
    association = site.connect(get_proposals(Root.STUDY, (CT,), (EXPLICIT,)), Services(store=site.store))
    lost: list[object] = []
    from twisted.internet.defer import Deferred

    Deferred.fromCoroutine(get(association, Root.STUDY, study("1.2.3"))).addBoth(lost.append)
    site.net.wire.pump()
    assert len(lost) == 1
    assert site.store.uids == ["1.0", "1.1", "1.2", "1.3"]
    assert site.storage.n_open == 0
    site.net.clock.advance(2.0)
    assert not site.net.clock.getDelayedCalls()


def test_a_peer_that_only_proposes_itself_as_scu_gets_nothing_sent_to_it() -> None:
    site = Site()
    site.add(1)
    association = site.connect(
        [*get_proposals(Root.STUDY, (), ()), Proposal(CT, (EXPLICIT,))], Services(store=site.store)
    )
    result = site.net.run(get(association, Root.STUDY, study("1.2.3")))
    assert result.status == 0xA702
    assert site.store.objects == []
