"""Every state and every reason has a cause and a next step, in French and in English."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.i18n import words
from gateway.web import details, vocabulary
from indexer import advice, release
from indexer.advice import What, Who, next_step
from indexer.questions import Answered
from indexer.timeline import Exam, ExamState, Step

CODES = re.findall(
    r"^\| `([^`]+)` \|", (Path(__file__).resolve().parents[2] / "docs/reasons.md").read_text("utf-8"), re.MULTILINE
)
FAMILIES = ["pacs-new-words", "index-XDSHouseRule", "index-http-404", "index-soap-sender", "sign-new", "identity-new",
            "accession-new", "metadata-new"]  # fmt: skip
PARIS = ZoneInfo("Europe/Paris")
AT = datetime(2026, 11, 28, 13, 5, tzinfo=UTC)


def exam(state: ExamState, reason: str = "", at: datetime | None = None) -> Exam:
    return Exam(
        study="1.2.3",
        state=state,
        reason=reason,
        missing="",
        next_try=at,
        attempts=0,
        seconds_to_index=None,
        steps=(),
    )


@pytest.mark.parametrize("code", CODES + FAMILIES)
def test_every_reason_has_its_cause_and_its_next_step_in_both_languages(code: str) -> None:
    french, english = words("fr"), words("en")
    assert vocabulary.reason(code, french) not in {code, vocabulary.reason(code, english)}
    assert vocabulary.reason(code, english) != code
    for state in (ExamState.WAITING, ExamState.HELD, ExamState.FAILED, ExamState.SENDING):
        step = next_step(exam(state, code, AT))
        said = {lang: details.next_step(step, words(lang), PARIS) for lang in ("fr", "en")}
        assert said["fr"] != said["en"]
        assert "{" not in said["fr"] + said["en"]
        if step.advice:
            assert words("fr")(step.advice) != step.advice


def test_there_are_codes_to_try() -> None:
    assert len(CODES) > 45


@pytest.mark.parametrize("state", ExamState)
def test_every_state_has_a_next_step_without_a_reason_too(state: ExamState) -> None:
    step = next_step(exam(state))
    assert details.next_step(step, words("fr"), PARIS)
    assert (step.who is Who.NOBODY) == (state in {ExamState.INDEXED, ExamState.WITHDRAWN})


def test_a_waiting_exam_says_when_in_the_zone_of_its_tenant() -> None:
    step = next_step(exam(ExamState.WAITING, "pacs-has-no-such-study", AT))
    assert (step.what, step.who, step.at) == (What.ASK_PACS, Who.POTERNE, AT)
    assert (
        details.next_step(step, words("fr"), PARIS)
        == "Rien à faire\u00a0: Poterne redemandera au PACS le 28 nov. 2026, 14:05:00."
    )


def test_a_paused_tenant_is_the_cause_of_what_waits_and_of_nothing_else() -> None:
    waiting, held = exam(ExamState.WAITING, "pacs-timeout"), exam(ExamState.HELD, "kept-out")
    assert advice.cause(waiting, is_paused=True) == "paused"
    assert next_step(waiting, is_paused=True).what is What.RESUME
    assert advice.cause(held, is_paused=True) == "kept-out"
    assert next_step(exam(ExamState.WAITING, "shadow-mode"), is_paused=True).what is What.LIVE


def test_what_may_be_compared_is_what_may_be_accepted() -> None:
    compared = {code for code in CODES if next_step(exam(ExamState.HELD, code)).what is What.COMPARE}
    assert compared <= release.RELEASABLE
    assert release.RELEASABLE == advice._COMPARED


STEPS = {
    "version 3 is Approved": "la version 3 est à l’état Approved",
    "version 1: 2 series, 412 instances": "version 1\u00a0: 2 séries, 412 instances",
    "the PACS does not have the study yet": "le PACS n’a pas encore l’examen",
    "by operator:Jeanne Martin: the patient opposes being in the index": "par Jeanne Martin\u00a0: le patient s’oppose à figurer dans l’index",
    "report 1.2.3 is contradicted by the PACS about study 1.2: identity-sex": "le compte rendu 1.2.3 est contredit par le PACS sur l’examen 1.2\u00a0: sexes différents",
    "what somebody wrote before": "what somebody wrote before",
    "version x: no template": "version x: no template",
}


@pytest.mark.parametrize("text", STEPS)
def test_a_sentence_of_the_floors_below_is_said_in_french_and_an_old_one_as_it_was_written(text: str) -> None:
    assert details.sentence(text, words("fr")) == STEPS[text]
    english = text.replace("operator:", "").replace("identity-sex", "sexes differ")
    assert details.sentence(text, words("en")) == english


def test_a_step_says_its_reason_in_words_and_then_its_sentence() -> None:
    step = Step(at=AT, what="blocked", reason="patient-opposed", detail="the patient opposes being in the index")
    assert details.told(step, words("en")) == "the patient is opposed: the patient opposes being in the index"
    assert details.told(Step(at=AT, what="settling", detail=""), words("fr")) == ""


def test_an_answer_of_a_pacs_says_kind_number_and_time() -> None:
    found = Answered(
        pacs="main", kind="found", reason="", series=2, instances=1412, first_at=AT, last_at=AT, times=3, seconds=0.2
    )
    step = Step(at=AT, what="pacs-answer", detail="", answered=found)
    assert details.told(step, words("en")) == "main holds 2 series, 1,412 images (0.2 s; asked 3 times)"


@pytest.mark.parametrize(
    ("text", "french", "english"),
    [
        (
            "birth name: CDA F…(7), identity register R…(8); sex: CDA …(1), report 1.2.3 ∅",
            (
                "nom de naissance : Compte rendu (CDA) F…(7), Serveur d’identités (ADT) R…(8); "
                "sexe : Compte rendu (CDA) …(1), Compte rendu 1.2.3 ∅"
            ),
            "birth name: Report (CDA) F…(7), Identity register (ADT) R…(8); sex: Report (CDA) …(1), Report 1.2.3 ∅",
        ),
        (
            "INS (same local-id, study): CDA …(15), report 1.2.3 …(15)",
            "INS (même identifiant local (IPP), même examen) : Compte rendu (CDA) …(15), Compte rendu 1.2.3 …(15)",
            "INS (same patient identifier (IPP), same study): Report (CDA) …(15), Report 1.2.3 …(15)",
        ),
    ],
)
def test_a_conflict_on_the_timeline_is_told_in_the_reader_s_language(text: str, french: str, english: str) -> None:
    assert details.sentence(text, words("fr")) == french
    assert details.sentence(text, words("en")) == english


def test_a_text_that_only_looks_like_a_conflict_is_shown_as_it_was_written() -> None:
    assert details.sentence("birth name: somebody called", words("fr")) == "birth name: somebody called"
