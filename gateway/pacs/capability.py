"""What a PACS was found able to do: the record of a probe, what changed since the last one, what it means here.

Invariants:

* a record holds no patient value: names of contexts, keys and features, numbers and codes of our own;
* two records are equal when a person would have nothing to do about the difference: round-trip times do not count;
* a row is written when the record differs from the last one, or after a week; rows are never changed.

Nothing decides by it: an adapter asks the PACS in the one way that every PACS answers. It tells the person who
configures what to expect (FF-12).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Final, Literal

from pydantic import TypeAdapter

from gateway.i18n import N_, Words
from security import audit
from security.clock import from_ms, to_ms
from security.store.port import ReadTx, Tx

WEEK: Final = timedelta(days=7)
PARALLEL_MAX: Final = 8
_STATED_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """One PACS as it answered. "" and None: not observed.

    ``product``: name and version as it states them. ``contexts``: accepted presentation contexts, each with its
    transfer syntax. ``features``: what it was asked for and whether it can. ``counts``: keywords of the counts it
    fills for the control study. ``charset``: Specific Character Set of its answers, ``none`` when they state none;
    ``charset_fits``: whether their text reads by it (or by our ``default_charset``). ``empty``: how it answers for a
    study nobody has, ``empty`` or a reason code; ``control``: ``found``, ``missing``, ``not-configured`` or a reason
    code; ``silence``: what it does to a connection without a question, ``kept`` or ``closed``. ``parallel``:
    questions it took at once, of at most ``PARALLEL_MAX``. ``round_trip_ms``: one question, the best of three.
    """

    kind: Literal["orthanc", "dicomweb", "dimse"]
    product: str = ""
    contexts: tuple[str, ...] | None = None
    plugins: tuple[str, ...] | None = None
    features: Mapping[str, bool] = field(default_factory=dict)
    counts: tuple[str, ...] | None = None
    charset: str = ""
    charset_fits: bool | None = None
    empty: str = ""
    control: str = ""
    silence: str = ""
    parallel: int | None = None
    round_trip_ms: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A record and when it was made."""

    at: datetime
    capability: Capability


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is no longer as it was. ``what``: name of the field or feature; values as people read them."""

    what: str
    before: str
    after: str

    def said(self, words: Words) -> str:
        """One line for people."""
        return words(
            "{what}: was {before}, is {after}",
            what=words(LABELS.get(self.what, self.what)),
            before=_told(self.before, words),
            after=_told(self.after, words),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a record means for the configuration. ``text``: English, with the names of ``values``."""

    text: str
    values: Mapping[str, str | int] = field(default_factory=dict)

    def said(self, words: Words) -> str:
        """One line for people."""
        return words(self.text, **self.values)


LABELS: Final[Mapping[str, str]] = {
    "kind": N_("kind"),
    "product": N_("product"),
    "contexts": N_("accepted contexts"),
    "plugins": N_("plugins"),
    "counts": N_("counts"),
    "charset": N_("character set"),
    "charset_fits": N_("text reads by it"),
    "empty": N_("unknown study"),
    "control": N_("control study"),
    "silence": N_("idle connection"),
    "parallel": N_("questions at once"),
    "round_trip_ms": N_("round trip, ms"),
}
_SAID: Final[Mapping[str, str]] = {
    "": N_("not observed"),
    "yes": N_("yes"),
    "no": N_("no"),
    "none": N_("none stated"),
    "empty": N_("clean empty answer"),
    "found": N_("found"),
    "missing": N_("missing"),
    "not-configured": N_("not configured"),
    "kept": N_("kept open"),
    "closed": N_("closed by the PACS"),
}
_RECORD: Final = TypeAdapter(Capability)


def stated(text: str) -> str:
    """What a PACS says of itself, as it is kept and shown: printable, ``_STATED_MAX`` characters at most."""
    return "".join(each for each in text if each.isprintable())[:_STATED_MAX].strip()


def to_json(capability: Capability) -> str:
    """The record as it is stored."""
    return _RECORD.dump_json(capability).decode()


def from_json(record: str) -> Capability:
    """The record of ``to_json``; what an older version did not observe is not observed."""
    return _RECORD.validate_json(record)


def facts(capability: Capability) -> dict[str, str]:
    """Every observation by name, features by their own, as people read it: words of our own, "" for none."""
    told = {one.name: _plain(getattr(capability, one.name)) for one in fields(capability) if one.name != "features"}
    return told | {name: _plain(can) for name, can in sorted(capability.features.items())}


def differences(old: Capability, new: Capability) -> tuple[Difference, ...]:
    """What is no longer as it was, in the order of ``facts``; empty when the records are equal."""
    before, after = facts(old), facts(new)
    names = [name for name in {**after, **before} if name != "round_trip_ms"]
    return tuple(
        Difference(what=name, before=before.get(name, ""), after=after.get(name, ""))
        for name in names
        if before.get(name, "") != after.get(name, "")
    )


def meanings(capability: Capability, *, questions_max: int) -> tuple[Meaning, ...]:
    """What the record means for this PACS's configuration, the gravest first."""
    can, parallel = capability.features, capability.parallel
    is_bare = capability.kind == "dimse" and capability.charset == "none" and capability.charset_fits is not False
    rules = (
        (capability.empty not in {"", "empty"}, Meaning(text=_NEVER_EMPTY, values={"reason": capability.empty})),
        (can.get("bulk-content") is False, Meaning(text=_NO_BULK)),
        (capability.control == "missing", Meaning(text=_CONTROL_MISSING)),
        (capability.control == "not-configured", Meaning(text=_NO_CONTROL)),
        (capability.charset_fits is False, Meaning(text=_CHARSET_WRONG)),
        (is_bare, Meaning(text=_NO_CHARSET)),
        (
            parallel is not None and 0 < parallel < questions_max,
            Meaning(text=_FEW, values={"parallel": parallel or 0}),
        ),
        (capability.counts == (), Meaning(text=_NO_COUNTS)),
        (can.get("limit") is False, Meaning(text=_NO_LIMIT)),
        (can.get("changes") is False, Meaning(text=_NO_CHANGES)),
    )
    return tuple(meaning for applies, meaning in rules if applies)


_NEVER_EMPTY: Final = N_(
    "an unknown study does not get a clean empty answer ({reason}): absence is never concluded, exams without images"
    " stay in wait for another reason"
)
_NO_BULK: Final = N_("/tools/bulk-content is missing: this adapter needs Orthanc 1.9.4 or later")
_CONTROL_MISSING: Final = N_(
    "the control study is missing: correct control_study, or the PACS was emptied or restored"
)
_NO_CONTROL: Final = N_("no control_study: an emptied PACS looks like one that never had the exams; name one")
_CHARSET_WRONG: Final = N_("text does not read by the character set: correct it in the PACS, or default_charset here")
_NO_CHARSET: Final = N_("answers without a character set: default_charset is used")
_FEW: Final = N_("takes only {parallel} questions at once: set questions_max = {parallel}")
_NO_COUNTS: Final = N_("gives no counts: nothing to do, the instances are listed one by one")
_NO_LIMIT: Final = N_("ignores limit: a large study comes in one answer")
_NO_CHANGES: Final = N_("/changes is not readable: set changes = false, late images then need a new report")


def latest(tx: ReadTx, *, tenant: str, pacs: str) -> Recorded | None:
    """The last record of a PACS, None before the first."""
    row = tx.row(
        "SELECT at, record FROM pacs_capability WHERE tenant = :tenant AND pacs = :pacs ORDER BY at DESC LIMIT 1",
        tenant=tenant,
        pacs=pacs,
    )
    return Recorded(at=from_ms(row["at"]), capability=from_json(row["record"])) if row else None


def record(tx: Tx, *, tenant: str, pacs: str, capability: Capability, now: datetime) -> bool:
    """Keep the record when it differs from the last one or that one is a week old; whether it was kept."""
    last = latest(tx, tenant=tenant, pacs=pacs)
    changed = differences(last.capability, capability) if last else ()
    if last and not changed and now - last.at < WEEK:
        return False
    tx.change(
        "INSERT INTO pacs_capability (tenant, pacs, at, record) VALUES (:tenant, :pacs, :at, :record)"
        " ON CONFLICT (tenant, pacs, at) DO UPDATE SET record = excluded.record",
        tenant=tenant,
        pacs=pacs,
        at=to_ms(now),
        record=to_json(capability),
    )
    if changed or last is None:
        audit.append(
            tx,
            audit.AuditRecord(
                tenant=tenant,
                zone="pacs",
                at=now,
                event="pacs.probed",
                actor="poterne",
                outcome=0,
                object_type="pacs",
                object_id=pacs,
                detail=", ".join(one.what for one in changed) or "first record",
            ),
        )
    return True


def told(what: str, said: str, words: Words) -> str:
    """One observation of ``facts`` as a line for people."""
    return words("{what}: {said}", what=words(LABELS.get(what, what)), said=_told(said, words))


def _told(said: str, words: Words) -> str:
    return words(_SAID[said]) if said in _SAID else said


def _plain(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case ():
            return "no"
        case tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)
