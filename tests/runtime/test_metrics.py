from __future__ import annotations

import json

from prometheus_client import CollectorRegistry, Counter

from pacsd.runtime import metrics, status


def test_a_name_is_made_once_whoever_asks():
    first = metrics.counter("pacsd_test_twice", "Twice.", ["pool"])
    assert metrics.counter("pacsd_test_twice", "Twice.", ["pool"]) is first
    assert metrics.gauge("pacsd_test_gauge", "Once.") is metrics.gauge("pacsd_test_gauge", "Once.")
    assert metrics.histogram("pacsd_test_s", "Once.") is metrics.histogram("pacsd_test_s", "Once.")


def test_the_account_of_a_process_is_plain_json():
    metrics.counter("pacsd_test_counted", "Counted.").inc(3)
    account = json.loads(json.dumps(status.own_account("dicom-1", {"dicom": True})))
    assert account["roles"] == {"dicom": True}
    families = {family[0]: family for family in account["families"]}
    assert ["pacsd_test_counted_total", {}, 3.0] in families["pacsd_test_counted"][3]
    assert "pacsd_process_resident_memory_bytes" in families


def test_accounts_of_several_processes_are_joined_by_name_and_told_apart_by_label():
    accounts = []
    for process, value in (("dicom-1", 2), ("dicom-2", 3)):
        registry = CollectorRegistry()
        Counter("stored", "Stored.", registry=registry).inc(value)
        families = [
            [f.name, f.documentation, f.type, [[s.name, s.labels, s.value] for s in f.samples]]
            for f in registry.collect()
        ]
        accounts.append({"process": process, "families": families})
    (family,) = status.merge_families(accounts)
    totals = {sample.labels["process"]: sample.value for sample in family.samples if sample.name == "stored_total"}
    assert totals == {"dicom-1": 2.0, "dicom-2": 3.0}
