from __future__ import annotations

import re
from pathlib import Path

import pytest

from pacsd.dicom import conformance_tables as tables
from pacsd.dicom.acceptor import SUPPORTED, Acceptor, Admission
from pacsd.dicom.conformance import render
from pacsd.dicom.conformance_keys import KINDS, SAMPLES, compiled, kinds_of, rows
from pacsd.dicom.dispatch import Services
from pacsd.dicom.storage_classes import STORAGE_SOP_CLASSES
from pacsd.dicom.wire import negotiate, pdu, sop_classes
from pacsd.dicom.wire.status import BY_SERVICE, GENERAL, Category, categorise
from pacsd.model.attributes import COLUMNS, COMPUTED, Level
from pacsd.model.charset import is_known_charset, normalised_term
from pacsd.model.syntax import TRANSFER_SYNTAXES
from pacsd.storage import transcode
from pacsd.workflow.commitment import Reason

ROOT = Path(__file__).resolve().parent.parent.parent
FILE = ROOT / "docs" / "dicom-conformance.md"
STATEMENT = render()


def section(title: str) -> str:
    """The text below a heading, up to the next one of its depth or higher."""
    marks, _, _ = title.partition(" ")
    begun = STATEMENT.split(f"\n{title}\n", 1)[1]
    return re.split(rf"\n#{{1,{len(marks)}}} ", begun, maxsplit=1)[0]


def cells(text: str) -> list[list[str]]:
    """The rows of all tables in a text, without heads."""
    lines = text.splitlines()
    heads = {at - 1 for at, line in enumerate(lines) if line.startswith("|---")} | {
        at for at, line in enumerate(lines) if line.startswith("|---")
    }
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for at, line in enumerate(lines)
        if line.startswith("|") and at not in heads
    ]


def accept(*proposals: tuple[str, tuple[str, ...]], roles=(), admission: Admission | None = None, known: bool = True):
    """Negotiate with the policy that a server of defaults makes."""
    admission = admission or Admission(frozenset({"PACSD"}), frozenset(STORAGE_SOP_CLASSES))
    acceptor = Acceptor(admission, Services(), None, None, None, None, None)
    contexts = tuple(
        pdu.PresentationContextProposal(2 * at + 1, uid, syntaxes) for at, (uid, syntaxes) in enumerate(proposals)
    )
    user = pdu.UserInformation(role_selections=tuple(roles))
    request = pdu.AssociateRequest("PACSD", "CT1", contexts, user)
    return negotiate.negotiate(request, acceptor.policy(("CT1", "10.0.0.1"), known=known))


def batches(items, size=128):
    listed = list(items)
    return [listed[at : at + size] for at in range(0, len(listed), size)]


def test_the_file_is_what_the_tables_give():
    assert FILE.read_text("utf-8") == STATEMENT, "make rendered"


def test_it_has_no_unfilled_place_and_no_dead_link_within():
    assert not re.search(r"\$[a-z_]+", STATEMENT)
    anchors = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in STATEMENT.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", STATEMENT)) <= anchors


def test_every_listed_service_is_accepted_in_every_listed_syntax():
    syntaxes = [row[1].strip("`") for row in cells(section("## 4 Services").split("###")[0])]
    assert syntaxes == list(negotiate.MESSAGE_TRANSFER_SYNTAXES)
    listed = [row[1].strip("`") for row in cells(section("## 1 Overview")) if row[1].startswith("`1.")]
    assert listed == list(SUPPORTED)
    for syntax in syntaxes:
        decision = accept(*((uid, (syntax,)) for uid in listed))
        assert [context.transfer_syntax for context in decision.contexts.values()] == [syntax] * len(listed)
        assert all(context.requestor_scu for context in decision.contexts.values())


def test_every_listed_storage_class_is_accepted_whatever_the_setting_and_is_storage():
    listed = [row[1].strip("`") for row in cells(section("### 9.1 Storage SOP classes"))]
    assert listed == list(STORAGE_SOP_CLASSES)
    assert all(sop_classes.is_storage(uid) for uid in listed)
    strict = Admission(frozenset({"PACSD"}), frozenset(STORAGE_SOP_CLASSES), accept_any_sop_class=False)
    for some in batches(listed):
        assert len(accept(*((uid, ("1.2.840.10008.1.2.1",)) for uid in some), admission=strict).contexts) == len(some)


def test_a_private_class_is_accepted_by_the_setting_alone():
    private = ("1.2.826.0.1.3680043.2.1", ("1.2.840.10008.1.2.1",))
    strict = Admission(frozenset({"PACSD"}), frozenset(STORAGE_SOP_CLASSES), accept_any_sop_class=False)
    assert accept(private).contexts
    assert not accept(private, admission=strict).contexts


def test_every_listed_transfer_syntax_is_accepted_for_storage():
    listed = [row[1].strip("`") for row in cells(section("### 9.2 Transfer syntaxes"))]
    assert listed == list(TRANSFER_SYNTAXES)
    decision = accept(*(("1.2.840.10008.5.1.4.1.1.2", (uid,)) for uid in listed))
    assert [context.transfer_syntax for context in decision.contexts.values()] == listed


def test_what_a_syntax_is_said_to_become_is_what_the_transcoder_offers():
    for uid in transcode.ROUTES:
        assert tables.becomes(uid) == transcode.targets(uid)


@pytest.mark.parametrize("uid", ["1.2.840.10008.5.1.4.1.1.2", sop_classes.STORAGE_COMMITMENT_PUSH])
def test_the_requestor_may_be_scp_of_storage_and_commitment(uid):
    role = pdu.RoleSelection(uid, scu=False, scp=True)
    decision = accept((uid, ("1.2.840.10008.1.2.1",)), roles=[role])
    (context,) = decision.contexts.values()
    assert (context.requestor_scu, context.requestor_scp) == (False, True)


def test_the_requestor_may_not_be_scp_of_queries():
    role = pdu.RoleSelection(sop_classes.STUDY_ROOT_FIND, scu=True, scp=True)
    (context,) = accept((sop_classes.STUDY_ROOT_FIND, ("1.2.840.10008.1.2",)), roles=[role]).contexts.values()
    assert not context.requestor_scp


def test_an_unknown_peer_gets_verification_alone_where_the_site_says_echo():
    echo = Admission(frozenset({"PACSD"}), frozenset(STORAGE_SOP_CLASSES), unknown_peers="echo")
    every = [(uid, ("1.2.840.10008.1.2",)) for uid in (*SUPPORTED, "1.2.840.10008.5.1.4.1.1.2")]
    decision = accept(*every, admission=echo, known=False)
    assert [context.abstract_syntax for context in decision.contexts.values()] == [sop_classes.VERIFICATION]


def test_a_calling_title_that_is_rejected_gets_the_listed_reason():
    reject = Admission(frozenset({"PACSD"}), frozenset())
    told = accept((sop_classes.VERIFICATION, ("1.2.840.10008.1.2",)), admission=reject, known=False)
    assert told.answer in [answer for answer, _ in tables.REJECTIONS]
    assert (told.answer.result, told.answer.source, told.answer.reason) == (1, 1, 3)


@pytest.mark.parametrize("level", Level)
def test_every_column_and_kept_count_of_a_level_is_a_listed_key(level):
    listed = {row[0] for row in cells(section(f"#### {level.name.capitalize()} level"))}
    held = {column.keyword for column in COLUMNS if column.level is level}
    kept = {keyword for keyword, _, top in COMPUTED.values() if top is level}
    assert listed == held | kept


@pytest.mark.parametrize("row", [row for level in Level for row in rows(level)], ids=lambda row: row.keyword)
def test_a_key_listed_as_matched_compiles_to_a_matcher_of_that_kind(row):
    samples = {
        "single": {"DA": "20240131", "TM": "101500.000000", "UI": "1.2.3", "IS": "7", "US": 7},
        "uid-list": {"UI": "1.2.3\\1.2.4"},
        "multiple": {"DA": "20240131\\20240201", "TM": "10\\12", "IS": "7\\8", "PN": "A*\\B*"},
        "range": {"DA": "20240101-20240131", "TM": "08-12"},
        "wildcard": {"PN": "Do?*^J"},
        "fuzzy": {"PN": "Jane Doe"},
        "empty": {},
    }
    defaults = {"single": "X", "multiple": "X\\Y", "wildcard": "X*Y", "empty": '""'}
    for kind in row.kinds:
        value = samples[kind].get(row.vr, defaults.get(kind))
        matcher = compiled(row.tag, row.vr, value, fuzzy=kind == "fuzzy")
        assert matcher is not None
        assert matcher.kind == kind
    listed = {cells_[0]: cells_[4] for cells_ in cells(section(f"#### {row.level.name.capitalize()} level"))}
    told = listed[row.keyword]
    assert all(KINDS[kind] in told for kind in row.kinds)
    assert ("range" in told) == ("range" in row.kinds)
    assert ("wildcard" in told) == ("wildcard" in row.kinds)


def test_retrieve_ae_title_is_returned_and_not_matched():
    assert compiled(0x00080054, "AE", "PACSD") is None
    assert ["RetrieveAETitle", "(0008,0054)", "AE", "kept", "returned only"] in cells(section("#### Patient level"))


@pytest.mark.parametrize("vr", SAMPLES)
def test_an_attribute_without_column_is_matched_as_its_vr_says(vr):
    (told,) = [row[1] for row in cells(section("#### Attributes without a column")) if row[0] == vr]
    assert all(KINDS[kind] in told for kind in kinds_of(0x00189999, vr))


@pytest.mark.parametrize(
    ("service", "cases"),
    [
        ("storage", tables.STORE_CASES),
        ("find", tables.FIND_CASES),
        ("move", tables.MOVE_CASES),
        ("get", tables.RETRIEVE_CASES),
        ("", tables.ACTION_CASES),
    ],
)
def test_every_status_that_is_sent_is_in_the_standards_tables(service, cases):
    known = (*BY_SERVICE.get(service, ()), *GENERAL)
    for code, _ in cases:
        rows_ = [row for row in known if code & row.mask == row.code]
        assert rows_, f"{code:04X}"
        assert rows_[0].category is categorise(code)
    assert categorise(cases[0][0]) is Category.SUCCESS


def test_every_failure_reason_of_commitment_is_listed():
    assert set(tables.REASON_CASES) == set(Reason)


def test_every_character_set_that_is_read_is_listed():
    listed = set(re.findall(r"`([^`]+)`", "".join(row[1] for row in cells(section("## 6 Character sets")))))
    terms = {normalised_term(f"{kind} {number}") for number in range(1, 400) for kind in ("ISO_IR", "ISO 2022 IR")}
    read = {term for term in (*terms, "GB18030", "GBK") if is_known_charset((term,))}
    assert listed == read


def test_that_there_is_no_security_is_said():
    assert section("## 8 Security").strip().startswith("None")
