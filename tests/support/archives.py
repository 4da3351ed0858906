"""XDM archives in tests: a world exports, another one imports; an archive taken apart and put together again."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.continuity import xdm
from gateway.continuity.xdm import Exported, Imported, Sender
from indexer.xdm.export import Wanted
from tests.support.world import TENANT, World

SENDER = Sender(institution="Centre FANTÔME", identifier="101999999", software="Poterne")
ACTOR = "operator:test"


async def export(w: World, target: Path, **wanted: object) -> Exported:
    return await xdm.export(
        w.store,
        w.admission,
        w.clock,
        Wanted(tenant=TENANT, until=w.clock.now(), **wanted),
        target,
        sender=SENDER,
        actor=ACTOR,
        say=lambda _told: None,
    )


async def bring_in(w: World, *files: Path, apply: bool = True) -> Imported:
    return await xdm.bring_in(w.store, w.admission, w.clock, files, apply=apply, actor=ACTOR, say=lambda _told: None)


def taken_apart(archive: Path) -> dict[str, bytes]:
    """Its files, read by the standard library."""
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def put_together(archive: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return archive


def changed(archive: Path, to: Path, edit: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """The archive with each file renamed, rewritten or (None) left out."""
    edited = (edit(name, data) for name, data in taken_apart(archive).items())
    return put_together(to, dict(one for one in edited if one is not None))
