"""What ``poterne pacs inbox`` prints: what came by DICOM and lies here, and notes that were not obeyed.

Read-only, from the database alone, as ``gateway.views``; apart from it because notes are read with a DICOM library,
which no other view takes the time to load.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from zoneinfo import ZoneInfo

import typer

from gateway import account
from gateway.dimse import inbox as objects
from gateway.dimse import reasons as object_reasons
from gateway.dimse.verdict import Keeping
from gateway.i18n import N_, Words
from gateway.settings import Settings
from gateway.views import LINES_MAX, one_tenant, plain, reading
from indexer.imaging import rejections


async def received(settings: Settings, words: Words, *, tenant: str, as_json: bool) -> int:
    """Print what came by DICOM and lies here: not shown by the PACS yet, in quarantine; and notes not obeyed."""
    name = one_tenant(settings, tenant, words)
    async with reading(settings, words) as store:
        lying = await store.read(lambda tx: objects.lying(tx, name, limit=LINES_MAX))
        notes = await store.read(lambda tx: rejections.refused(tx, name))
    if as_json:
        facts = {"objects": [asdict(one) for one in lying], "refused_notes": [asdict(one) for one in notes]}
        typer.echo(json.dumps(plain(facts), ensure_ascii=False))
        return 0
    if not lying and not notes:
        typer.echo(words("The inbox is empty: the PACS shows everything that came."))
    zone = ZoneInfo(settings.tenants[name].timezone)
    for heading, keeping in (
        (N_("Kept until the PACS shows them:"), Keeping.STORED),
        (N_("In quarantine: tell the sender, or look at the exam:"), Keeping.QUARANTINED),
    ):
        found = [one for one in lying if one.keeping is keeping]
        if found:
            typer.echo(words(heading))
        for one in found:
            number = words.count("{n} object", "{n} objects", one.number)
            why = _why(one.reason, object_reasons.TEXTS, words)
            told = f"  {words.moment(one.since, zone)}  {one.study}  {number}  {words('from {peer}', peer=one.peer)}"
            gone = words("files gone: {n}", n=words.number(one.lost)) if one.lost else ""
            typer.echo(account.printable(f"{told}  {why}  {gone}".rstrip()))
    if notes:
        typer.echo(words("Rejection notes that were not obeyed:"))
    for note in notes:
        told = f"  {words.moment(note.received_at, zone)}  {note.study}  {note.title}  {note.note}"
        typer.echo(account.printable(f"{told}  {_why(note.reason, object_reasons.TEXTS, words)}"))
    return 0


def _why(reason: str, texts: Mapping[str, str], words: Words) -> str:
    """A reason in words with its code, "" for none."""
    return f"{words(texts[reason])} [{reason}]" if reason in texts else reason
