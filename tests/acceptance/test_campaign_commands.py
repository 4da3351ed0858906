"""``poterne campaign`` from the first command to the report, as secretariat, site, auditors and commission type it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from sampler.draw.table import lines_of
from tests.acceptance.test_commands import ANSWERS, poterne
from tests.support.peer_audit import Auditor, frame, grid, protocol, transcript

C = "C-2026-7"
COLUMNS = ("case", "item", "answer", "reason", "comment", "evidence", "approved_by")


@pytest.fixture
def conf(tmp_path: Path) -> str:
    site = tmp_path / "site"
    assert poterne("init", str(site), *ANSWERS).returncode == 0
    return str(site / "poterne.toml")


@pytest.fixture
def run(conf: str):
    def run(*words: str, code: int = 0, lang: str = "en"):
        ran = poterne("campaign", *words, "--conf", conf, lang=lang)
        assert ran.returncode == code, (words, ran.stdout, ran.stderr)
        return ran

    return run


@pytest.fixture
def files(tmp_path: Path):
    def write(name: str, content: object) -> str:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)

    return write


def answers_of(cases, *, level="case", seed=0) -> str:
    rows = [
        [case, one.item, one.verdict, one.reason, one.comment, " ".join(one.evidence), one.approved_by]
        for number, case in enumerate(cases)
        for one in Auditor(seed + number).answers(level)
    ]
    return "\r\n".join(";".join(f'"{cell}"' for cell in row) for row in [COLUMNS, *rows])


def started(run, files, **other):
    document = protocol(**other)
    table = files("frame.csv", "".join(lines_of(frame())))
    run("new", C, "--title", "Imagerie 2026", "--body", "G4", "--name", "s-1")
    signed = ("--signed", "site-lead=h-1", "--signed", "lead-auditor=l-1")
    run("freeze", C, files("protocol.json", document), *signed, "--name", "s-1")
    run("frame", C, table, "--name", "d-1")
    made = files("transcript.json", transcript(document))
    told = run("draw", C, made, "--frame", table, "--name", "l-1")
    assert "C-2026-7: drawn" in told.stdout
    run("move", C, "IN_REVIEW", "--name", "l-1")
    return table


def test_a_campaign_from_its_protocol_to_report_and_export(run, files, conf, tmp_path):
    started(run, files)
    run("declare", C, "--name", "a-1")
    for state in ("PREPARING", "READY"):
        run("case", C, state, "--as", "site-data-manager", "--name", "d-1")
    run("assign", C, "--auditor", "a-1", "--name", "l-1")
    run("case", C, "OPENED", "--as", "auditor", "--name", "a-1")
    status = json.loads(run("status", C, "--json").stdout)
    cases = [one["case"] for one in status["cases"]]
    assert ({one["state"] for one in status["cases"]}, len(cases), status["altered"]) == ({"OPENED"}, 9, [])
    taken = run("answers", "import", C, files("answers.csv", answers_of(cases)), "--name", "a-1", lang="fr")
    assert "réponses sur 9 dossiers prises" in taken.stdout
    service = files("service.csv", answers_of(["service"], level="service", seed=99))
    run("answers", "import", C, service, "--name", "a-1")
    found = files(
        "findings.csv",
        "id,requirement,origin,severity,text\r\nF-1,ORG-03,document,critical,pas de registre\r\n",
    )
    run("findings", "import", C, found, "--name", "l-1")
    assert "APPELER LE SITE MAINTENANT" in run("status", C, lang="fr").stdout
    run("case", C, "LOCKED", "--as", "lead-auditor", "--name", "l-1")

    figures = json.loads(run("figures", C, "--name", "l-1", "--json").stdout)
    assert (figures["cases"], figures["nonconformities"], figures["frame"]["size"]) == (9, 1, 105)
    rates = [one["rate"] for one in figures["figures"]]
    assert all(one["frame"] == "performed exams" and one["population"] == 105 and one["method"] for one in rates)
    said = run("figures", C, "--name", "l-1", lang="fr").stdout
    assert "9 dossiers sur 105 examens réalisés" in said

    out = tmp_path / "out"
    run("export", C, "--out", str(out), "--name", "l-1")
    assert sorted(one.name for one in out.iterdir()) == [
        "answers.csv", "campaign.json", "cases.csv", "figures.csv", "findings.csv", "strata.csv",
    ]  # fmt: skip
    with (out / "answers.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 9 * 41 + 14
    own = [row["answer"] for row in rows if row["indicator"] == "DEM"]
    assert (own.count("C"), own.count("NC")) == (
        figures["figures"][0]["conform"],
        figures["figures"][0]["nonconform"],
    )
    run("export", C, "--out", str(out), "--with-words", "--name", "l-1")
    responses = json.loads((out / "responses.fhir.json").read_text(encoding="utf-8"))
    assert len(responses["entry"]) == 10

    page = tmp_path / "report.html"
    run("report", C, "--out", str(page), "--name", "l-1", lang="fr")
    text = page.read_text(encoding="utf-8")
    assert '<html lang="fr">' in text
    assert "Imagerie 2026" in text
    assert "devant la commission" in text
    read = poterne(
        "audit", "show", "--between", "2020-01-01", "2100-01-01", "--event", "campaign.exported", "--conf", conf
    )
    assert read.stdout.count("campaign.exported") == 3
    assert "lead-auditor l-1 (command line" in read.stdout


def test_a_changed_transcript_is_not_taken_and_its_step_is_named(run, files):
    document = protocol()
    table = files("frame.csv", "".join(lines_of(frame())))
    run("new", C, "--title", "t", "--body", "b", "--name", "s-1")
    signed = ("--signed", "site-lead=h-1", "--signed", "lead-auditor=l-1")
    run("freeze", C, files("protocol.json", document), *signed, "--name", "s-1")
    run("frame", C, table, "--name", "d-1")
    made = transcript(document)
    made["body"]["selected"]["CT"].reverse()
    ran = run("draw", C, files("transcript.json", made), "--frame", table, "--name", "l-1", code=1)
    assert "selection" in ran.stderr
    other = ("draw", C, files("good.json", transcript(document)), "--frame", table, "--name", "l-1")
    assert "signature" in run(*other, "--public-key", "00" * 32, code=1).stderr
    assert json.loads(run("status", C, "--json").stdout)["state"] == "FRAME_COMMITTED"


def test_an_illustrative_campaign_prints_no_rate(run, files):
    started(run, files, objective="illustrative")
    told = json.loads(run("figures", C, "--name", "l-1", "--json").stdout)
    assert all(one["rate"] is None for one in told["figures"])
    assert "Illustrative draw: cases, no rate." in run("figures", C, "--name", "l-1").stdout
    refused = run("figures", C, "--as", "steering", "--name", "t-1", code=2)
    assert "[k-rule]" in refused.stderr


def test_who_may_not_is_refused_by_name_and_nothing_changes(run, files):
    started(run, files)
    for words, code in (
        (("move", C, "REPORT_DRAFT", "--name", "l-1"), "guard"),
        (("move", C, "DECIDED", "--name", "l-1"), "no-such-step"),
        (("export", C, "--out", "out", "--as", "operator", "--name", "o-1"), "no-right"),
        (("export", C, "--out", "out", "--as", "steering", "--name", "o-1"), "no-right"),
        (("figures", C, "--as", "operator", "--name", "o-1"), "no-right"),
        (("assign", C, "--auditor", "a-9", "--name", "l-1"), "no-declaration"),
        (("status", "C-other"), "unknown-campaign"),
        (("new", C, "--title", "t", "--body", "b", "--name", "s-1"), "campaign-exists"),
        (("answers", "import", C, files("a.csv", "case,item\r\n"), "--name", "a-1"), "csv-header"),
        (("answers", "import", C, "nowhere.csv", "--name", "a-1"), "campaign-file"),
        (("case", C, "SOLD", "--as", "lead-auditor", "--name", "l-1"), "bad-fact"),
        (("freeze", C, files("p.json", protocol()), "--signed", "h-1", "--name", "s-1"), "bad-file"),
    ):
        ran = run(*words, code=2)
        assert f"[{code}]" in ran.stderr, (words, ran.stderr)
    assert json.loads(run("status", C, "--json").stdout)["state"] == "IN_REVIEW"


def test_a_grid_of_a_body_comes_as_a_table_beside_its_head(run, files):
    from sampler.grids.grid import COLUMNS as ITEMS
    from sampler.grids.grid import document_of, rows_of
    from security.parse.csv import written

    document = document_of(grid("rt-1")) | {"code": "G4-RT", "version": "2"}
    head = files("head.json", {name: document[name] for name in ("code", "version", "title", "status", "indicators")})
    table = files("grid.csv", written(ITEMS, rows_of(grid("rt-1"))).decode())
    run(
        "new",
        "C-RT",
        "--title",
        "t",
        "--body",
        "b",
        "--domain",
        "RT",
        "--grid",
        table,
        "--head",
        head,
        "--name",
        "s-1",
    )
    assert json.loads(run("status", "C-RT", "--json").stdout)["grid"].startswith("G4-RT|2|")
    assert "C-RT" in run("list").stdout
