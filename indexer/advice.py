"""What comes next for an exam: whose turn it is, and when. One answer for every state and every reason.

Pure. The words are said in ``gateway.web.vocabulary``; what lets an exam go on stands in ``indexer.timeline``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from indexer.timeline import MISSING, SHADOW, Exam, ExamState, missing


class Who(StrEnum):
    """Whose turn it is."""

    NOBODY = "nobody"
    POTERNE = "poterne"
    OPERATOR = "operator"  # somebody at the console, the command line or the configuration
    SENDER = "sender"  # who sends reports and identities: the RIS, the register
    PATIENT = "patient"


class What(StrEnum):
    """What comes next."""

    SHOWN = "shown"
    OUT = "out"
    LIVE = "live"
    RESUME = "resume"
    ASK_PACS = "ask-pacs"
    ASK_INDEX = "ask-index"
    SEND_AGAIN = "send-again"
    GO_ON = "go-on"
    MEND = "mend"
    COMPARE = "compare"
    DECIDE = "decide"
    MESSAGE = "message"
    CONSENT = "consent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """The next step. ``at``: None when it is due now, or waits for nobody's clock. ``advice``: what would let the
    exam go on, plain English, "" when nothing is missing."""

    what: What
    who: Who
    at: datetime | None
    advice: str


REFUSED = (
    "the index refused it with this code and wants other content or another sender: ask its operator what the code"
    " means there, correct what it names, then try again"
)
"""Advice for an exam that stopped at a refusal that has none of its own."""

_MENDED = ("pacs-unauthorised", "pacs-refused", "pacs-control-missing", "pacs-witness-missing", "pacs-unproven",
           "index-tls-refused", "index-certificate-",
           "index-name-not-found", "sign-")  # fmt: skip
"""Waiting exams that will not go on unless somebody mends something."""
_COMPARED = frozenset(
    {
        "identity-birth-name",
        "identity-first-given-name",
        "identity-sex",
        "identity-birth-date",
        "identity-birthplace",
        "identity-local-id",
        "identity-name",
        "identity-ins-renumbered",
        "accession-unknown",
    }
)
"""Differences that a person who compared may accept (``indexer.release.RELEASABLE``; a test holds them equal)."""
_BY_MESSAGE = ("identity-", "metadata-", "not-for-index", "no-valid-report", "confidentiality-unknown",
               "withdrawn-elsewhere")  # fmt: skip


def cause(exam: Exam, *, is_paused: bool = False) -> str:
    """Code of what keeps the exam where it is, "" when nothing does."""
    return "paused" if is_paused and exam.state is ExamState.WAITING and exam.reason != SHADOW else exam.reason


def next_step(exam: Exam, *, is_paused: bool = False) -> Next:
    """What comes next. ``is_paused``: somebody paused the tenant."""
    reason = cause(exam, is_paused=is_paused)
    match exam.state:
        case ExamState.INDEXED:
            return Next(what=What.SHOWN, who=Who.NOBODY, at=None, advice="")
        case ExamState.WITHDRAWN:
            return Next(what=What.OUT, who=Who.NOBODY, at=None, advice="")
        case ExamState.HELD | ExamState.FAILED:
            return _stopped(reason)
        case ExamState.SENDING | ExamState.ACCEPTED:
            return Next(what=What.ASK_INDEX, who=Who.POTERNE, at=exam.next_try, advice=missing(reason))
        case ExamState.WAITING:
            return _waiting(reason, exam.next_try)


def _stopped(reason: str) -> Next:
    advice = missing(reason)
    if reason == "patient-opposed":
        return Next(what=What.CONSENT, who=Who.PATIENT, at=None, advice=advice)
    if reason in _COMPARED:
        return Next(what=What.COMPARE, who=Who.OPERATOR, at=None, advice=advice)
    if reason.startswith(_BY_MESSAGE):
        return Next(what=What.MESSAGE, who=Who.SENDER, at=None, advice=advice)
    if reason.startswith("index-") and reason not in MISSING:
        advice = REFUSED
    return Next(what=What.DECIDE, who=Who.OPERATOR, at=None, advice=advice)


def _waiting(reason: str, at: datetime | None) -> Next:
    advice = missing(reason)
    if reason == SHADOW:
        return Next(what=What.LIVE, who=Who.NOBODY, at=None, advice="")
    if reason == "paused":
        return Next(what=What.RESUME, who=Who.OPERATOR, at=None, advice=advice)
    if reason.startswith(_MENDED):
        return Next(what=What.MEND, who=Who.OPERATOR, at=at, advice=advice)
    if reason.startswith("pacs-"):
        return Next(what=What.ASK_PACS, who=Who.POTERNE, at=at, advice=advice)
    if reason.startswith("index-"):
        return Next(what=What.SEND_AGAIN, who=Who.POTERNE, at=at, advice=advice)
    return Next(what=What.GO_ON, who=Who.POTERNE, at=at, advice=advice)
