"""The record of a PACS: equality, differences and meanings in words, and which records are kept."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.components import COMPONENTS
from gateway.i18n import words
from gateway.pacs import capability
from gateway.pacs.capability import Capability, Difference, differences, from_json, meanings, to_json
from gateway.pacs.probe import ProbeReport, report_facts, report_from, report_text
from security.store.port import ReadTx, Store
from tests.contract.store_parts.engines import BOTH, fresh
from tests.integration.outbox_lab import NOON

KNOWN = Capability(
    kind="dimse",
    product="OFFIS_DCMTK_367",
    contexts=("Study Root FIND: Implicit VR Little Endian",),
    features={"c-get": True, "relational-queries": False},
    counts=("NumberOfStudyRelatedInstances",),
    charset="ISO_IR 192",
    charset_fits=True,
    empty="empty",
    control="found",
    silence="kept",
    parallel=8,
    round_trip_ms=4,
)


def test_a_record_is_the_same_after_json():
    assert from_json(to_json(KNOWN)) == KNOWN
    assert from_json(to_json(KNOWN)).round_trip_ms == 4


def test_a_record_of_an_older_version_lacks_what_it_did_not_observe():
    old = {key: value for key, value in json.loads(to_json(KNOWN)).items() if key not in {"silence", "parallel"}}

    assert from_json(json.dumps(old)) == replace(KNOWN, silence="", parallel=None)


def test_a_slower_answer_is_no_difference():
    slow = replace(KNOWN, round_trip_ms=900)

    assert slow == KNOWN
    assert differences(KNOWN, slow) == ()


def test_differences_are_told_field_by_field_in_both_languages():
    changed = replace(
        KNOWN, charset="none", parallel=2, counts=(), features={"c-get": False, "relational-queries": False}
    )

    found = differences(KNOWN, changed)

    assert found == (
        Difference(what="counts", before="NumberOfStudyRelatedInstances", after="no"),
        Difference(what="charset", before="ISO_IR 192", after="none"),
        Difference(what="parallel", before="8", after="2"),
        Difference(what="c-get", before="yes", after="no"),
    )
    assert [one.said(words("en")) for one in found] == [
        "counts: was NumberOfStudyRelatedInstances, is no",
        "character set: was ISO_IR 192, is none stated",
        "questions at once: was 8, is 2",
        "c-get: was yes, is no",
    ]
    assert found[1].said(words("fr")) == "jeu de caractères : était ISO_IR 192, est non déclaré"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (KNOWN, []),
        (replace(KNOWN, charset="none"), ["answers without a character set: default_charset is used"]),
        (
            replace(KNOWN, charset="none", charset_fits=False),
            ["text does not read by the character set: correct it in the PACS, or default_charset here"],
        ),
        (replace(KNOWN, parallel=2), ["takes only 2 questions at once: set questions_max = 2"]),
        (replace(KNOWN, parallel=4), []),
        (replace(KNOWN, parallel=0), []),
        (
            replace(KNOWN, control="not-configured", counts=None),
            ["no control_study: an emptied PACS looks like one that never had the exams; name one"],
        ),
        (
            replace(KNOWN, control="missing"),
            ["the control study is missing: correct control_study, or the PACS was emptied or restored"],
        ),
        (replace(KNOWN, counts=()), ["gives no counts: nothing to do, the instances are listed one by one"]),
        (
            replace(KNOWN, kind="orthanc", features={"bulk-content": False, "changes": False}),
            [
                "/tools/bulk-content is missing: this adapter needs Orthanc 1.9.4 or later",
                "/changes is not readable: set changes = false, late images then need a new report",
            ],
        ),
    ],
)
def test_a_record_says_what_to_configure(record: Capability, expected: list[str]):
    assert [one.said(words("en")) for one in meanings(record, questions_max=4)] == expected


def test_a_pacs_that_never_answers_cleanly_empty_is_told_first():
    told = meanings(replace(KNOWN, empty="ignores-keys", parallel=1), questions_max=4)

    assert "(ignores-keys)" in told[0].said(words("en"))


def test_a_report_crosses_the_control_socket_whole_and_reads_in_french():
    report = ProbeReport(
        tenant="nord",
        pacs="main",
        at=NOON,
        capability=replace(KNOWN, parallel=2),
        previous=NOON - timedelta(days=3),
        differences=differences(KNOWN, replace(KNOWN, parallel=2)),
        meanings=meanings(replace(KNOWN, parallel=2), questions_max=4),
    )

    assert report_from(json.loads(json.dumps(report_facts(report)))) == report
    text = report_text(report, words("fr"))
    assert "n’accepte que 2 questions à la fois : mettez questions_max = 2" in text
    assert "questions à la fois : était 8, est 2" in text
    assert "examen inconnu : réponse vide sans ambiguïté" in text


def test_a_probe_without_an_answer_says_so():
    report = ProbeReport(tenant="nord", pacs="main", at=NOON, fault="refused", detail="the peer rejected us")

    assert report_text(report, words("en")) == "PACS main of nord: no record [refused] the peer rejected us"


@pytest.fixture(params=BOTH)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    made = await fresh(request.param, request).open(components=COMPONENTS)
    yield made
    await made.close()


async def test_a_record_is_kept_when_it_differs_or_is_a_week_old(store: Store):
    async def keep(record: Capability, after: timedelta) -> bool:
        return await store.write(
            lambda tx: capability.record(tx, tenant="nord", pacs="main", capability=record, now=NOON + after)
        )

    kept = [
        await keep(KNOWN, timedelta()),
        await keep(replace(KNOWN, round_trip_ms=80), timedelta(days=1)),
        await keep(replace(KNOWN, charset="none"), timedelta(days=2)),
        await keep(replace(KNOWN, charset="none"), timedelta(days=8)),
        await keep(replace(KNOWN, charset="none"), timedelta(days=9)),
    ]

    def look(tx: ReadTx) -> tuple[object, ...]:
        rows = tx.rows("SELECT at FROM pacs_capability ORDER BY at")
        audited = tx.rows("SELECT detail FROM audit_record WHERE event = 'pacs.probed' ORDER BY seq")
        return capability.latest(tx, tenant="nord", pacs="main"), len(rows), [row["detail"] for row in audited]

    last, rows, audited = await store.read(look)
    assert kept == [True, False, True, False, True]
    assert (last.capability, last.at, rows) == (replace(KNOWN, charset="none"), NOON + timedelta(days=9), 3)
    assert audited == ["first record", "charset"]


async def test_the_records_of_two_pacs_are_apart(store: Store):
    await store.write(lambda tx: capability.record(tx, tenant="nord", pacs="main", capability=KNOWN, now=NOON))

    assert await store.read(lambda tx: capability.latest(tx, tenant="nord", pacs="other")) is None
    assert await store.read(lambda tx: capability.latest(tx, tenant="sud", pacs="main")) is None
