"""Grids, the rules of answers, findings, and their FHIR form."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampler.grids.answers import Answer, answer_of, checked, complete, problems
from sampler.grids.findings import Finding, decide
from sampler.grids.grid import COLUMNS, document_of, grid_of, grid_of_table, rows_of
from sampler.grids.questionnaire import questionnaire_of, response_of
from sampler.grids.structure import faults
from security.conf import conf_dir
from security.errors import BadInput, Refused
from security.parse.csv import CELL_MAX, FORMULA, parse_csv, written
from security.parse.json import parse_json
from tests.corpus import corpus

LEADS = frozenset({"lead-1"})
HASH = "sha256:" + "a" * 64


def load(name):
    return grid_of(parse_json((conf_dir() / "grids" / name).read_bytes(), what=name))


RAD, RT = load("rad-1.json"), load("rt-1.json")


def test_the_two_grids_have_the_published_structure():
    assert (len(RAD.items), len(RAD.of_level("case")), len(RAD.of_level("service"))) == (55, 41, 14)
    assert (len(RT.items), len(RT.of_level("case")), len(RT.of_level("service"))) == (36, 24, 12)
    assert Counter(one.section for one in RAD.items) == {"DEM": 10, "JUS": 7, "REA": 8, "CR": 13, "TRA": 3, "ORG": 14}
    assert list(RAD.indicators) == ["DEM", "JUS", "REA", "CR", "TRA"]
    assert list(RT.indicators) == ["IND", "VOL", "DOSI", "REAL"]
    assert all(one.indicator for grid in (RAD, RT) for one in grid.of_level("case"))


@pytest.mark.corpus
@pytest.mark.parametrize(("ours", "name"), [(RAD, "grid-rad-1.json"), (RT, "grid-rt-1.json")])
def test_our_grids_agree_with_the_drafts_in_all_but_words(ours, name):
    theirs = json.loads(corpus("audit", name).read_text(encoding="utf-8"))
    assert {one["code"] for one in theirs["indicators"]} == set(ours.indicators)
    assert [
        (one.code, one.section, one.level, one.indicator or None, one.is_mandatory, list(one.evidence))
        for one in ours.items
    ] == [
        (one["code"], one["section"], one["level"], one["indicator"], one["mandatory"], one["evidence"])
        for one in theirs["items"]
    ]


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["grid-rad-1.json", "grid-rt-1.json"])
def test_the_draft_of_a_body_is_imported(name):
    document = json.loads(corpus("audit", name).read_text(encoding="utf-8"))
    grid = grid_of(document | {"status": {"fr": document["status"], "en": document["status"]}})
    assert len(grid.items) == len(document["items"])


@pytest.mark.parametrize("grid", [RAD, RT])
def test_a_grid_survives_json_and_csv_under_one_digest(grid):
    document = document_of(grid)
    assert grid_of(document) == grid
    table = parse_csv(written(COLUMNS, rows_of(grid)), what="grid", required=COLUMNS)
    again = grid_of_table(
        {name: document[name] for name in ("code", "version", "title", "status", "indicators")}, table
    )
    assert again == grid
    assert again.digest == grid.digest
    document["items"][0]["fr"] += "."
    assert grid_of(document).digest != grid.digest


def test_a_grid_saved_by_a_french_spreadsheet_is_read():
    rows = [COLUMNS, *rows_of(RT)]
    text = "\r\n".join(";".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows) + "\r\n"
    table = parse_csv(b"\xef\xbb\xbf" + text.encode(), what="grid", required=COLUMNS)
    assert [row["fr"] for row in table] == [one.text["fr"] for one in RT.items]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["items"].append(dict(d["items"][0])), "DEM-01 stands twice"),
        (lambda d: d["items"][3].pop("en"), "items[3]: en is no text"),
        (lambda d: d["items"][3].update(level="patient"), "items[3]: level"),
        (lambda d: d["items"][3].update(mandatory="yes"), "items[3]: mandatory"),
        (lambda d: d["items"][3].update(evidence=[]), "items[3]: evidence"),
        (lambda d: d["items"][3].update(code="=CMD"), "items[3]: code"),
        (lambda d: d["items"][3].update(indicator="XXX"), "DEM-04: indicator XXX"),
        (lambda d: d["items"][54].update(indicator="DEM"), "ORG-14: indicator DEM"),
        (lambda d: d["indicators"].append({"code": "NEW", "fr": "x", "en": "x"}), "indicator NEW has no item"),
        (lambda d: d.update(items=[]), "0 items"),
        (lambda d: d.update(title="x"), "title is no object"),
    ],
)
def test_a_grid_that_breaks_a_rule_is_refused_with_its_place(change, said):
    document = document_of(RAD)
    change(document)
    with pytest.raises(BadInput) as refused:
        grid_of(document)
    assert refused.value.code == "grid-shape"
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "codes"),
    [
        (Answer(item="CR-07", verdict="C"), []),
        (Answer(item="CR-07", verdict="NC", comment="left and right differ", evidence=("dicom:2.25.7#3",)), []),
        (Answer(item="CR-07", verdict="NC"), ["comment-missing", "evidence-missing"]),
        (Answer(item="CR-07", verdict="NC", comment="x", evidence=("Dr Martin",)), ["evidence-form"]),
        (Answer(item="CR-07", verdict="NC", comment="x", evidence=("dicom:1.2.840.1",)), ["evidence-form"]),
        (Answer(item="CR-07", verdict="NC", comment="x", evidence=("note:12", HASH)), []),
        (Answer(item="CR-07", verdict="NA"), ["reason-missing"]),
        (Answer(item="CR-07", verdict="NA", reason="CONTEXT"), []),
        (Answer(item="CR-07", verdict="NA", reason="OTHER"), ["approval-missing"]),
        (Answer(item="CR-07", verdict="NA", reason="OTHER", approved_by="auditor-2"), ["approval-missing"]),
        (Answer(item="CR-07", verdict="NA", reason="OTHER", approved_by="lead-1"), []),
        (Answer(item="CR-05", verdict="NA", reason="OTHER"), []),
        (Answer(item="CR-07", verdict="C", reason="CONTEXT"), ["reason-without-na"]),
        (Answer(item="CR-07", verdict="YES"), ["no-such-answer"]),
        (Answer(item="ORG-01", verdict="C"), ["unknown-item"]),
        (Answer(item="CR-07", verdict="C", comment="a\x1b[2Jb"), ["comment-too-long"]),
        (Answer(item="CR-07", verdict="C", comment="a\u202eb"), ["comment-too-long"]),
        (Answer(item="CR-07", verdict="C", comment="à revoir\N{NO-BREAK SPACE}: côté\net niveau"), []),
    ],
)
def test_what_an_answer_needs(answer, codes):
    assert [one.code for one in problems(RAD, "case", [answer], leads=LEADS)] == codes


def test_an_item_is_answered_once_and_every_other_is_not_evaluated():
    twice = [Answer(item="CR-01", verdict="C"), Answer(item="CR-01", verdict="C")]
    assert [one.code for one in problems(RAD, "case", twice, leads=LEADS)] == ["answered-twice"]
    whole = complete(RAD, "case", twice[:1])
    assert [one.item for one in whole] == [one.code for one in RAD.of_level("case")]
    assert Counter(one.verdict for one in whole) == {"NE": 40, "C": 1}


def test_answers_that_break_a_rule_are_refused_as_a_whole_and_named():
    with pytest.raises(BadInput) as refused:
        checked(RAD, "case", [Answer(item="CR-01", verdict="C"), Answer(item="CR-07", verdict="NC")], leads=LEADS)
    assert refused.value.code == "answers-rules"
    assert "CR-07: NC needs a comment" in str(refused.value)
    assert "CR-01" not in str(refused.value)


def test_a_row_becomes_an_answer():
    cells = {
        "item": " CR-07 ",
        "answer": "NC",
        "reason": "",
        "comment": "x",
        "evidence": f"note:1  {HASH}",
        "approved_by": "",
    }
    assert answer_of(cells) == Answer(item="CR-07", verdict="NC", comment="x", evidence=("note:1", HASH))


FINDING = Finding(id="f1", requirement="ORG-03", origin="document", text="no register", severity="major")


def test_the_commission_maintains_requalifies_or_withdraws_with_a_motive():
    kept = decide(FINDING, "maintained", motive="seen")
    assert (kept.state, kept.severity, kept.final) == ("maintained", "major", "major")
    other = decide(FINDING, "requalified", severity="minor", motive="seen")
    assert (other.state, other.severity, other.final) == ("requalified", "major", "minor")
    assert decide(FINDING, "withdrawn", motive="seen").final == ""
    with pytest.raises(Refused) as refused:
        decide(kept, "withdrawn", motive="again")
    assert refused.value.code == "already-decided"


@pytest.mark.parametrize(
    ("decision", "severity", "motive"),
    [
        ("maintained", "", " "),
        ("maintained", "minor", "x"),
        ("requalified", "", "x"),
        ("requalified", "major", "x"),
        ("requalified", "huge", "x"),
        ("withdrawn", "minor", "x"),
        ("open", "", "x"),
    ],
)
def test_a_decision_without_motive_or_with_the_wrong_severity_is_refused(decision, severity, motive):
    with pytest.raises(BadInput) as refused:
        decide(FINDING, decision, severity=severity, motive=motive)
    assert refused.value.code == "bad-decision"


def test_only_an_open_critical_finding_calls_the_site_now():
    critical = Finding(id="f2", requirement="CR-11", origin="interview", text="x", severity="critical")
    assert critical.calls_now
    assert not FINDING.calls_now
    assert not decide(critical, "maintained", motive="x").calls_now


@pytest.mark.parametrize("grid", [RAD, RT])
@pytest.mark.parametrize("level", ["case", "service"])
def test_a_grid_is_a_questionnaire_of_fhir(grid, level):
    made = questionnaire_of(grid, level)
    assert faults(made) == []
    asked = [one["linkId"] for section in made["item"] for one in section["item"]]
    assert asked == [one.code for one in grid.of_level(level)]
    link_ids = [
        one for section in made["item"] for question in section["item"] for one in (question, *question["item"])
    ]
    assert len({one["linkId"] for one in link_ids}) == len(link_ids)
    english = made["item"][0]["item"][0]["_text"]["extension"][0]["extension"]
    assert english[1]["valueString"] == grid.of_level(level)[0].text["en"]


def test_answers_are_a_response_to_it():
    answers = [
        Answer(item="CR-07", verdict="NC", comment="left and right differ", evidence=("note:1", HASH)),
        Answer(item="CR-05", verdict="NA", reason="MODALITY"),
        Answer(item="DEM-01", verdict="C"),
    ]
    made = response_of(RAD, "case", answers, case="k7", auditor="a2", authored=datetime(2026, 11, 28, 12, tzinfo=UTC))
    assert faults(made) == []
    assert "subject" not in made
    assert made["questionnaire"] == "urn:poterne:peer-audit:rad-1:case|1.0.0"
    said = {one["linkId"]: one["answer"][0] for section in made["item"] for one in section["item"]}
    assert {code: one["valueCoding"]["code"] for code, one in said.items()} == {
        "DEM-01": "C",
        "CR-05": "NA",
        "CR-07": "NC",
    }
    assert [one["linkId"] for one in said["CR-07"]["item"]] == ["CR-07.comment", "CR-07.evidence"]
    assert said["CR-05"]["item"][0]["answer"][0]["valueCoding"]["code"] == "MODALITY"


def test_a_broken_resource_is_named_by_place_and_kind():
    made = questionnaire_of(RT, "case")
    made["item"][0]["item"][0]["required"] = "perhaps"
    assert any(said.startswith("item.0.item.0.required") for said in faults(made))
    assert faults({"resourceType": "Patient"}) == ["resourceType: neither Questionnaire nor QuestionnaireResponse"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12),
            min_size=2,
            max_size=2,
        ),
        max_size=5,
    )
)
def test_t30_no_written_cell_is_a_formula_and_each_is_read_back(rows):
    rows = [row for row in rows if any(row)]
    data = written(("one", "two"), rows)
    assert parse_csv(data, what="x", required=("one", "two")) == [
        dict(zip(("one", "two"), row, strict=True)) for row in rows
    ]
    import csv
    import io

    for row in csv.reader(io.StringIO(data.decode(), newline="")):
        assert not any(cell.startswith(FORMULA) for cell in row)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"one\r\n1\r\n", "csv-header"),
        (b"one,two,one\r\n", "csv-header"),
        (b"one,two\r\n1\r\n", "csv-row"),
        (b'one,two\r\n"1,2\r\n', "csv-row"),
        (b"one,two\r\n\xff,1\r\n", "csv-not-utf8"),
        (b"one,two\r\n1,\0\r\n", "csv-not-utf8"),
        (b"one,two\r\n1," + b"x" * (CELL_MAX + 1), "csv-row"),
        (b"", "csv-header"),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused_without_its_cells(data, code):
    with pytest.raises(BadInput) as refused:
        parse_csv(data, what="table", required=("one", "two"))
    assert refused.value.code == code
    assert "xxx" not in str(refused.value)


def test_a_table_above_the_limit_is_refused():
    with pytest.raises(BadInput) as refused:
        parse_csv(b"one,two\r\n", what="table", required=("one",), limit=8)
    assert refused.value.code == "csv-too-large"
