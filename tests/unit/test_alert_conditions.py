"""What is an alert, when it is told, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.alerts.certificates import certificate_ends, certificate_files
from gateway.alerts.clock import ClockWatch, offset_s
from gateway.alerts.conditions import Condition, Figures, Kind, Known, Occasion, conditions, occasion
from gateway.alerts.rows import Notice
from gateway.alerts.texts import Speaker, headline
from gateway.i18n import words
from gateway.settings import load
from tests.integration.outbox_lab import Hands
from tests.unit.configuration import write

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def found(**figures: object) -> list[tuple[str, Kind, str, int, int]]:
    return [
        (c.tenant, c.kind, c.subject, c.measure, c.stage)
        for c in conditions(Figures(now=NOW, **figures), offset_max_s=2.0)
    ]


def test_nothing_wrong_is_no_condition() -> None:
    assert found(disk_free=1, clock_offset_s={"chu": 1.9}, certificates={"c": NOW + 61 * DAY}) == []


def test_held_and_failed_exams_are_counted_by_tenant_and_reason() -> None:
    assert found(held={("chu", "identity-pacs-name"): 3, ("ght", "kept-out"): 1}, failed={("chu", "x"): 7}) == [
        ("chu", Kind.HELD, "identity-pacs-name", 3, 0),
        ("ght", Kind.HELD, "kept-out", 1, 0),
        ("chu", Kind.FAILED, "x", 7, 1),
    ]


def test_received_objects_that_no_pacs_shows_or_that_wait_in_quarantine_are_an_alert() -> None:
    assert found(inbox={("chu", "unconfirmed"): 5, ("chu", "quarantined"): 1, ("ght", "unconfirmed"): 0}) == [
        ("chu", Kind.INBOX, "unconfirmed", 5, 1),
        ("chu", Kind.INBOX, "quarantined", 1, 0),
    ]
    said = [
        headline(Condition(tenant="chu", kind=Kind.INBOX, subject=subject, measure=2), words(lang))
        for lang in ("fr", "en")
        for subject in ("unconfirmed", "quarantined")
    ]
    assert said == [
        "2 objets reçus ne sont pas montrés par le PACS",
        "2 objets reçus sont en quarantaine",
        "2 received objects are not shown by the PACS",
        "2 received objects are in quarantine",
    ]


def test_exams_of_a_rehearsal_are_no_alert() -> None:
    assert found(held={("chu", "shadow-mode"): 900}, late={("chu", "shadow-mode"): 900}) == []


def test_late_exams_are_one_alert_per_tenant_that_says_why() -> None:
    figures = Figures(now=NOW, late={("chu", "a"): 2, ("chu", "b"): 1, ("ght", "a"): 1})
    late = conditions(figures, offset_max_s=2.0)
    assert [(c.tenant, c.measure, dict(c.why)) for c in late] == [("chu", 3, {"a": 2, "b": 1}), ("ght", 1, {"a": 1})]


def test_exams_that_will_be_late_are_an_alert_before_they_are() -> None:
    assert found(at_risk={"chu": 7, "ght": 0}) == [("chu", Kind.AT_RISK, "", 7, 1)]


@pytest.mark.parametrize(("exams", "stage"), [(1, 0), (4, 0), (5, 1), (9, 1), (10, 2), (20, 3), (39, 3), (40, 4)])
def test_a_crowd_is_worse_each_time_it_doubles(exams: int, stage: int) -> None:
    assert found(held={("chu", "x"): exams})[0][4] == stage


@pytest.mark.parametrize(
    ("left", "stage"),
    [(60 * DAY, 0), (59 * DAY, 1), (29 * DAY, 2), (13 * DAY, 3), (6 * DAY, 4), (DAY / 2, 5), (-DAY / 2, 6)],
)
def test_a_certificate_is_told_again_at_60_30_14_7_1_days_and_at_its_end(left: timedelta, stage: int) -> None:
    told = found(certificates={"index": NOW + left})
    assert [one[4] for one in told] == ([stage] if stage else [])


def test_ff42_a_clock_that_is_off_by_more_than_allowed_is_an_alert_either_way() -> None:
    assert found(clock_offset_s={"chu": -2.1}) == [("chu", Kind.CLOCK, "", -2100, 0)]
    assert found(clock_offset_s={"chu": 2.1}) == [("chu", Kind.CLOCK, "", 2100, 0)]


def test_a_pause_is_an_alert_after_four_hours() -> None:
    assert found(paused={"chu": NOW - timedelta(hours=3, minutes=59)}) == []
    assert found(paused={"chu": NOW - timedelta(hours=4)}) == [("chu", Kind.PAUSED, "", 14_400, 0)]


def known(kind: Kind = Kind.HELD, *, stage: int = 0, **more: object) -> Known:
    stated = {"closed_at": None, "told_at": None, "told_stage": 0} | more
    condition = Condition(tenant="chu", kind=kind, subject="x", measure=1, stage=stage)
    return Known(alert_id=1, condition=condition, opened_at=NOW, **stated)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (known(), Occasion.OPENED),
        (known(told_at=NOW), None),
        (known(told_at=NOW, stage=1), Occasion.WORSE),
        (known(told_at=NOW, stage=1, told_stage=2), None),
        (known(told_at=NOW - DAY), Occasion.STILL),
        (known(told_at=NOW, closed_at=NOW), Occasion.CLOSED),
        (known(closed_at=NOW), Occasion.CLOSED),
        (known(Kind.PACS_RESET), Occasion.OPENED),
        (known(Kind.PACS_RESET, told_at=NOW - 9 * DAY), None),
        (known(Kind.PACS_RESET, told_at=NOW, closed_at=NOW), None),
    ],
)
def test_a_channel_is_told_what_it_does_not_know_yet(state: Known, why: Occasion | None) -> None:
    assert occasion(state, now=NOW, remind=DAY) is why


def speaker(language: str) -> Speaker:
    return Speaker(
        words=words(language), zones={}, default_zone=ZoneInfo("Europe/Paris"), console_url="https://c.example/"
    )


def notices() -> list[Notice]:
    held = Condition(tenant="chu", kind=Kind.HELD, subject="identity-pacs-name", measure=2)
    full = Condition(tenant="", kind=Kind.DISK, subject="", measure=0, stage=2)
    return [
        Notice(
            known=Known(alert_id=n, condition=condition, opened_at=NOW, closed_at=None, told_at=None, told_stage=0),
            occasion=Occasion.OPENED,
        )
        for n, condition in enumerate((held, full))
    ]


def test_an_alert_reads_well_in_french() -> None:
    french = speaker("fr")
    assert french.subject(notices()) == "Poterne: 2 examens retenus\u00a0: identity-pacs-name (+1)"
    body = french.body(notices())
    assert body.startswith("* [chu] 2 examens retenus\u00a0: identity-pacs-name (nouveau)\n  depuis le 2 mars 2026")
    assert "* le disque de la base est plein\u00a0: plus aucun compte rendu n’est accepté" in body
    assert body.endswith("Détails, pour qui a le droit de les voir\u00a0: https://c.example/\n")


def test_an_alert_reads_well_in_english() -> None:
    body = speaker("en").body(notices())
    assert body.startswith("* [chu] 2 exams are held: identity-pacs-name (new)\n  since Mar 2, 2026")
    assert "compare the two values" in body
    assert "* the disk of the database is full: no report is taken in" in body


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("measure", [-1, 0, 1, 2, 1234])
def test_every_kind_has_words_in_both_languages(kind: Kind, stage: int, measure: int) -> None:
    condition = Condition(tenant="", kind=kind, subject="kept-out", measure=measure, stage=stage)
    told = known().__class__(
        alert_id=1, condition=condition, opened_at=NOW, closed_at=NOW, told_at=None, told_stage=0
    )
    texts = [speaker(language).document([Notice(known=told, occasion=Occasion.CLOSED)]) for language in ("fr", "en")]
    (french,), (english,) = (text["alerts"] for text in texts)
    assert french["text"] != english["text"]
    assert french["advice"]
    assert english["advice"]


@pytest.mark.parametrize(
    ("header", "offset"),
    [
        ("Mon, 02 Mar 2026 09:30:00 GMT", -0.5),
        ("Mon, 02 Mar 2026 09:25:00 GMT", 299.5),
        ("Mon, 02 Mar 2026 09:35:00 GMT", -300.5),
        ("Monday, 02-Mar-26 09:30:00 GMT", -0.5),
        ("", None),
        ("yesterday", None),
    ],
)
def test_ff42_the_offset_is_read_off_the_date_of_an_answer(header: str, offset: float | None) -> None:
    assert offset_s(header, NOW) == offset


def test_t64_a_clock_set_back_is_noticed_once_and_one_set_forward_is_not() -> None:
    clock = Hands()
    watch = ClockWatch(clock)
    clock.advance(60)
    assert watch.stepped_back_s() == 0
    clock.jump(timedelta(hours=-2))
    clock.advance(60)
    assert watch.stepped_back_s() == pytest.approx(7200, abs=1)
    assert watch.stepped_back_s() == 0
    clock.jump(timedelta(hours=2))
    assert watch.stepped_back_s() == 0


def test_a_measured_offset_is_forgotten_after_an_hour() -> None:
    clock = Hands()
    watch = ClockWatch(clock)
    watch.observer("chu")("Mon, 02 Mar 2026 09:30:00 GMT", clock.now())
    watch.observer("ght")("no date", clock.now())
    assert set(watch.offsets()) == {"chu"}
    clock.advance(3601)
    assert watch.offsets() == {}


def test_every_certificate_of_the_configuration_is_watched(tmp_path: Path) -> None:
    settings = load(write(tmp_path), {})
    assert [key for key, _ in certificate_files(settings)] == ["tenants.fantome.index.certificate_file"]
    (ends,) = certificate_ends(settings).values()
    assert timedelta(0) < ends - datetime.now(UTC) <= DAY
    (tmp_path / "own.pem").write_text("no certificate")
    assert certificate_ends(settings) == {}
