"""The report of a campaign: what it says, how it is built, and that it hides and escapes what it must."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser

import pytest

from gateway.i18n import words
from sampler.campaign.drawn import drawn_of
from sampler.campaign.lifecycle import CaseState
from sampler.campaign.results import DrawnCase, results
from sampler.campaign.terms import terms_of
from sampler.draw.protocol import protocol_of
from sampler.grids.answers import complete
from sampler.grids.findings import Finding
from sampler.report import texts
from sampler.report.page import Report, page
from tests.support.peer_audit import Auditor, frame, grid, protocol, transcript

HOSTILE = "<script>alert(1)</script>\"&'"
VOID = {"meta", "br", "img", "hr", "input", "link"}


def report(document=None, *, readers=1, **other):
    document = document or protocol(
        strata=[{"id": "CT", "n": 14, "mode": "srs"}, {"id": "MR", "n": 12, "mode": "srs"}]
    )
    body = transcript(document)["body"]
    cases = [
        DrawnCase(
            id=one.unit, stratum=one.stratum, practitioner=one.practitioner, probability=one.chance.probability,
            error=0.0, state=CaseState.LOCKED,
            reviews=tuple(complete(grid(), "case", Auditor(n + 100 * r, 0.92).answers()) for r in range(readers)),
        )
        for n, one in enumerate(drawn_of(frame(), body, protocol_of(document).strata))
    ]  # fmt: skip
    findings = [
        Finding(id="F1", requirement="ORG-03", origin="document", text=HOSTILE, severity="major"),
        Finding(
            id="F2",
            requirement="CR-11",
            origin="interview",
            text="aucun appel tracé",
            severity="critical",
            state="requalified",
            final="minor",
            motive="x",
        ),
    ]
    service = complete(grid(), "service", Auditor(99).answers("service"))
    found = results(grid(), terms_of(document), frame().strata, cases, service=service, findings=findings)
    stated = {
        "campaign": "C-2026-7", "title": "Imagerie 2026", "body": "G4", "state": "COMMISSION", "is_draft": True,
        "grid": grid(), "results": found, "findings": findings, "transcript_hash": "ab" * 32,
        "protocol_hash": "cd" * 32, "frame_root": "ef" * 32,
    }  # fmt: skip
    return Report(**(stated | other))


def html(made, lang="fr"):
    return page(made, words(lang), lang=lang)


class Reader(HTMLParser):
    """Elements in order, texts, and whether everything that opens closes."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.mark.parametrize("lang", ["fr", "en"])
def test_the_page_is_whole_named_and_in_one_language(lang):
    reader = read(html(report(), lang))
    tags = [tag for tag, _ in reader.seen]
    assert dict(reader.seen)["html"]["lang"] == lang
    assert tags.count("h1") == tags.count("main") == tags.count("title") - tags.count("svg") == 1
    assert all(attrs.get("scope") in {"col", "row"} for tag, attrs in reader.seen if tag == "th")
    assert tags.count("table") == tags.count("caption")
    assert all(attrs["role"] == "img" and attrs["aria-label"] for tag, attrs in reader.seen if tag == "svg")
    said = " ".join(reader.text)
    other = "en" if lang == "fr" else "fr"
    for text in (texts.INDICATORS, texts.COVERAGE, texts.FINDINGS, texts.METHODS, texts.DRAFT):
        assert words(lang)(text) in said
        assert words(other)(text) not in said or words(other)(text) == words(lang)(text)


def test_nothing_runs_and_nothing_is_fetched():
    text = html(report())
    reader = read(text)
    assert not {"script", "img", "link", "iframe", "object", "a"} & {tag for tag, _ in reader.seen}
    assert "default-src 'none'" in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not any(name.startswith("on") or name == "href" for _, attrs in reader.seen for name in attrs)


def test_what_people_wrote_is_text():
    made = replace(report(), title=HOSTILE, body=HOSTILE)
    text = html(made)
    assert "<script" not in text
    reader = read(text)
    assert sum(HOSTILE in one for one in reader.text) == 4  # title, heading, body, finding


def test_every_rate_has_interval_cases_and_method_beside_it():
    made = report()
    said = read(html(made)).text
    for one in made.results.indicators:
        assert one.rate.basis.population == 105
    assert said.count("26 sur 105") == 5
    rates = [text for text in said if re.fullmatch(r"0,\d\d/1", text)]
    spans = [text for text in said if re.fullmatch(r"0,\d\d–(1|0,\d\d)", text)]
    methods = [text for text in said if "grappes" in text]
    assert len(rates) == len(spans) == len(methods) == 15


def test_an_illustrative_report_shows_no_rate_at_all():
    document = protocol(objective="illustrative")
    said = " ".join(read(html(report(document))).text)
    assert "illustratif" in said
    assert not re.search(r"\d,\d\d/1|\d–\d", said)
    assert "svg" not in html(report(document)).split("Part de la grille")[0].split("<body>")[1]


def test_practitioners_are_not_on_the_page_and_small_lines_are_blanked():
    text = html(report(protocol()))
    assert not re.search(r"\bp-[a-f]\b", text)
    assert "masqué" in text


def test_two_readers_are_shown_by_three_figures():
    said = " ".join(read(html(report(readers=2), "en")).text)
    assert texts.READERS in said
    assert "kappa (Cohen)" in said
    assert "AC1 (Gwet)" in said
    assert texts.READERS not in " ".join(read(html(report(), "en")).text)


def test_a_decided_report_is_no_draft_and_worst_cases_are_told():
    made = report(is_draft=False)
    told = replace(
        made.results,
        indicators=(replace(made.results.indicators[0], worst=Fraction(80, 90)), *made.results.indicators[1:]),
        replaced=5,
    )
    said = " ".join(read(html(replace(made, results=told), "en")).text)
    assert texts.DRAFT not in said
    assert "Request, if every such case had failed: 0.89/1" in said
    assert "5 of 31 drawn cases were replaced or withdrawn." in said


def test_coverage_and_non_conformities_stand_together():
    said = " ".join(read(html(report(), "en")).text)
    assert re.search(r"\d+% of the grid was evaluated: \d+ of \d+ answers due\.", said)
    assert "2 in 55 requirements of the grid." in said
