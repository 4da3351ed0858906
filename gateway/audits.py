"""What ``poterne audit`` prints: who saw what, whether the trail is as it was written, its head, a record's proof."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import typer

from gateway import orders
from gateway.i18n import N_, Words
from gateway.settings import Settings
from security.audit.verifying import Kind
from security.errors import BadInput

PAGE = 1_000
_KINDS: dict[str, str] = {
    Kind.EDITED: N_("the content was changed after it was written"),
    Kind.DELETED: N_("records are gone"),
    Kind.CHANGED: N_("among these, records were replaced, moved, put in or taken out"),
    Kind.TRUNCATED: N_("the end of the trail was cut off"),
    Kind.REWRITTEN: N_("the trail is not the one that was signed"),
    Kind.ROLLED_BACK: N_("the database was set back, and no record says that it was restored"),
    Kind.RESTORED: N_("a restore set the database back; the trail says so"),
    Kind.HEAD_FORGED: N_("a head is not signed by its key"),
    Kind.KEY_UNKNOWN: N_("a head is signed by a key that nobody vouches for"),
    Kind.UNSEALED: N_("no head covers these, though one was due long ago"),
}


def moment(text: str) -> datetime:
    """A day (its beginning) or a moment, as a person writes it; without an offset it is this machine's time.

    Raises:
        BadInput: ``bad-moment``.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(
            f"{text[:40]} is neither a day nor a moment", code="bad-moment", hint="2026-11-28 or 2026-11-28T14:30"
        ) from None
    return at.astimezone(UTC)


async def show(
    settings: Settings, words: Words, *, between: tuple[str, str], wanted: dict[str, str], rows: int, as_json: bool
) -> int:
    """Print the records between two moments, the second excluded; a day as second moment is included whole.

    Raises:
        BadInput: ``bad-moment``.
    """
    since, until = (moment(text) for text in between)
    if len(between[1]) == len("2026-11-28"):
        until += timedelta(days=1)
    facts: dict[str, Any] = {**wanted, "since": since.isoformat(), "until": until.isoformat()}
    printed, after = 0, 0
    async with orders.orders(settings) as order:
        while printed < rows:
            many = min(PAGE, rows - printed)
            found = await order("audit-show", facts | {"after": after, "rows": many})
            for entry in found:
                typer.echo(json.dumps(entry, ensure_ascii=False) if as_json else _line(entry, words))
            printed, after = printed + len(found), found[-1]["seq"] if found else after
            if len(found) < many:
                break
        else:
            typer.echo(words("There may be more: ask for a shorter span, or for more with --rows."), err=True)
    if not printed and not as_json:
        typer.echo(words("No record between these moments answers."))
    return 0


def _line(entry: dict[str, Any], words: Words) -> str:
    if entry["is_erased"]:
        return f"{entry['seq']:>9}  " + words("erased at the end of its retention")
    at = datetime.fromisoformat(entry["at"])
    who = " ".join(part for part in (entry["actor"], entry["address"], entry["peer"]) if part)
    about = " ".join(part for part in (entry["object_type"], entry["object_id"], entry["detail"]) if part)
    outcome = "" if entry["outcome"] == 0 else f"  ✗ {entry['outcome']}"
    return f"{entry['seq']:>9}  {at:%Y-%m-%d %H:%M:%S}Z  {entry['event']:<24} {who}  {about}{outcome}"


async def verify(settings: Settings, words: Words, *, witness: str, as_json: bool) -> int:
    """Check the trail; 1 when it is not as it was written."""

    def hear(seen: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r" + words.count("{n} record seen", "{n} records seen", seen) + " ")

    async with orders.orders(settings) as order:
        asked = {"witness": witness} if witness else {}
        found = await order("audit-verify", asked, hear)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return 0 if found["is_intact"] else 1
    typer.echo(
        words.count("{n} record, ", "{n} records, ", found["records"])
        + words.count("{n} of them under a signed head", "{n} of them under signed heads", found["covered"])
    )
    if found["witnessed"] is None:
        typer.echo(words("No outside witness was asked: a database that was set back as a whole would not be seen."))
    else:
        typer.echo(
            words.count("{n} head of the witness compared", "{n} heads of the witness compared", found["witnessed"])
        )
    for one in found["findings"]:
        said = words(_KINDS[one["kind"]])
        typer.echo(f"  {one['kind']:<12} {one['first']}-{one['last']}  {said} ({one['words']})")
    typer.echo(words("The trail is as it was written.") if found["is_intact"] else words("The trail was altered."))
    return 0 if found["is_intact"] else 1


async def head(settings: Settings, words: Words, *, as_json: bool) -> int:
    """Print the newest head, made now if records wait: to be kept on paper or by somebody else."""
    async with orders.orders(settings) as order:
        found = await order("audit-head", {})
    if found is None:
        typer.echo(words("There is no record yet."), err=True)
        return 1
    if as_json:
        typer.echo(found["line"])
        return 0
    said = json.loads(found["line"])
    at = datetime.fromtimestamp(said["at"] / 1000, ZoneInfo("UTC"))
    typer.echo(
        words(
            "Head of the audit trail, {records} records, {at} UTC", records=said["size"], at=f"{at:%Y-%m-%d %H:%M:%S}"
        )
    )
    for name in ("root", "key", "signature"):
        typer.echo(f"  {name:<10} {said[name]}")
    typer.echo(words("As a line of a witness (poterne audit verify --witness FILE):"))
    typer.echo(found["line"])
    return 0


async def prove(settings: Settings, *, seq: int) -> int:
    """Print the proof of one record, as JSON.

    Raises:
        Refused: ``no-record``, ``not-sealed``.
    """
    async with orders.orders(settings) as order:
        typer.echo(json.dumps(await order("audit-prove", {"seq": str(seq)}), ensure_ascii=False, indent=2))
    return 0
