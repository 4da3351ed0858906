"""What one probe found, in the words of either language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.i18n import N_, Words
from security.errors import Fault


class Verdict(StrEnum):
    """How it stands."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A text of the catalogue with its values."""

    text: str
    values: Mapping[str, object] = field(default_factory=dict)

    def by(self, words: Words) -> str:
        """In the language of ``words``."""
        return words(self.text, **{k: words.number(v) if isinstance(v, float) else v for k, v in self.values.items()})


def say(text: str, /, **values: object) -> Said:
    """``Said`` in one breath; a text marked with ``N_``."""
    return Said(text=text, values=values)


NOTHING = Said(text="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line. ``cause``: why the verdict is what it is. ``remedy``: what to do, empty when there is nothing to do.
    ``detail``: codes and words of the machine, in no language."""

    verdict: Verdict
    cause: Said
    remedy: Said = NOTHING
    detail: str = ""


def ok(text: str, /, **values: object) -> Finding:
    """All is well."""
    return Finding(verdict=Verdict.OK, cause=say(text, **values))


def warning(cause: Said, remedy: Said = NOTHING, detail: str = "") -> Finding:
    """It works, and somebody should know."""
    return Finding(verdict=Verdict.WARNING, cause=cause, remedy=remedy, detail=detail)


def failed(cause: Said, remedy: Said = NOTHING, detail: str = "") -> Finding:
    """It does not work."""
    return Finding(verdict=Verdict.FAILED, cause=cause, remedy=remedy, detail=detail)


_FAULTS: Mapping[str, tuple[str, str]] = {
    "store-locked": (N_("another process writes to the database"), N_("Stop it; never delete the lock file.")),
    "store-place": (
        N_("the place of the database cannot be used"),
        N_("A local disk, a folder of the service's user (mode 0700), a file of mode 0600."),
    ),
    "store-older": (
        N_("the database lacks migrations of this version"),
        N_("Start the service once: it migrates by itself."),
    ),
    "store-newer": (
        N_("the database was migrated by a newer version"),
        N_("Install that version or a newer one; only a restore leads back."),
    ),
    "store-damaged": (
        N_("the database is damaged"),
        N_("Stop the service, keep the file, restore the last backup, then reconcile."),
    ),
    "store-unreachable": (
        N_("the database server does not answer"),
        N_("Look at the server and at [store.postgres]."),
    ),
    "secret-unreadable": (
        N_("a secret file cannot be opened"),
        N_("Create it, owned by the service's user, mode 0400."),
    ),
    "secret-exposed": (
        N_("a secret file is open to others"),
        N_("Treat the secret as known and replace it; then chown and chmod 400."),
    ),
    "seal-wrong-kek": (
        N_("the key file does not open the keys of this database"),
        N_("Put back the key that belongs to it: it is kept apart from the backups."),
    ),
    "alert-not-delivered": (
        N_("alerts are not delivered"),
        N_("Look at its address, its certificate and its account under [alerts]."),
    ),
}


def of_fault(fault: Fault) -> Finding:
    """A fault as a line: in the reader's language when it is a known one, and always in its own words."""
    known = _FAULTS.get(fault.code)
    text = str(fault.args[0])
    if known is None:
        return failed(say("{fault}", fault=text), say("{hint}", hint=fault.hint), fault.code)
    return failed(say(known[0]), say(known[1]), f"{fault.code}: {text}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A finding with what was probed. ``probe`` and ``subject``: for programs; ``took_ms``: the probe's time."""

    probe: str
    subject: str
    what: Said
    finding: Finding
    took_ms: int

    def facts(self, words: Words) -> dict[str, Any]:
        """For a program."""
        return {
            "probe": self.probe,
            "subject": self.subject,
            "verdict": self.finding.verdict.value,
            "what": self.what.by(words),
            "cause": self.finding.cause.by(words),
            "remedy": self.finding.remedy.by(words),
            "detail": self.finding.detail,
            "took_ms": self.took_ms,
        }

    def text(self, words: Words) -> str:
        """For people: one line, and a second one with what to do."""
        mark = words(_MARKS[self.finding.verdict])
        cause, remedy, detail = self.finding.cause.by(words), self.finding.remedy.by(words), self.finding.detail
        if detail and self.finding.verdict is not Verdict.OK:
            cause = f"{cause} ({detail})"
        shown = f"{mark:<10} {self.what.by(words)} — {cause}" + (f"\n{'':<10} → {remedy}" if remedy else "")
        return "".join(c if c.isprintable() or c in _LAYOUT else "�" for c in shown)


_LAYOUT = "\n\u00a0\u202f"  # French sets no-break spaces
_MARKS = {Verdict.OK: N_("good"), Verdict.WARNING: N_("warning"), Verdict.FAILED: N_("FAILED")}
