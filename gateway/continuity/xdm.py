"""XDM archives as files: written for another box or as a backup, and read back (drim-m §7).

Invariants:

* an archive holds patients in clear, as the standard wants it: mode 0600, never over an existing file, and it takes
  its name only once the audit record of who exported how many exams is durable;
* one exam at a time is in memory, and of what was read only where it stands;
* a set that is refused is named with its reason and leaves its neighbours alone, and so does an archive;
* without ``apply`` nothing is changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from gateway.i18n import N_, words
from indexer.admission import Admission
from indexer.ledger import Ledger
from indexer.xdm import export as exporting
from indexer.xdm import importing, layout, reading
from indexer.xdm.export import LeftOut, Wanted
from indexer.xdm.reading import Version
from security import audit
from security.clock import Clock
from security.errors import BadInput, Broken, Refused
from security.identity import Uid
from security.parse.zip import ZipArchive
from security.store.port import ReadTx, Store

Say = Callable[[str], None]
EVERY = 50
"""Exams between two words of progress."""
ARCHIVES_MAX = 500
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who exports, for the texts of the archive."""

    institution: str
    identifier: str
    software: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One archive that was written."""

    file: str
    sha256: str
    bytes: int
    exams: int
    versions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """One export. ``left_out``: versions that cannot be written, with the reason."""

    tenant: str
    archives: tuple[Written, ...]
    exams: int
    versions: int
    left_out: tuple[LeftOut, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRefused:
    """A set, or with ``place`` "" a whole archive, that was not taken. ``why``: names no patient."""

    file: str
    place: str
    code: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """One import, or with ``is_plan`` what it would do. ``exams``: outcome by study; ``lacking``: how many versions
    lack what (code)."""

    tenant: str
    is_plan: bool
    sets: int
    exams: Mapping[str, str]
    counts: Mapping[str, int]
    lacking: Mapping[str, int]
    refused: tuple[SetRefused, ...]
    seconds: float


# -- writing -----------------------------------------------------------------------------------------------------


async def export(
    store: Store,
    admission: Admission,
    clock: Clock,
    wanted: Wanted,
    target: Path,
    *,
    sender: Sender,
    actor: str,
    say: Say,
) -> Exported:
    """Write ``target``: one archive when its name ends in ``.zip``, else a folder with one archive for each month.

    Raises:
        Refused: ``xdm-exists`` an archive of that name is there already.
        Broken: ``xdm-write``.
    """
    began = clock.monotonic()
    writer = _Writer(target, sender)
    left_out: list[LeftOut] = []
    archives: list[Written] = []
    after: tuple[int, str, int] | None = None
    try:
        while found := await store.read(partial(exporting.page, wanted=wanted, after=after)):
            for one in found:
                if writer.is_full(one.made_at):
                    archives.append(await _closed(store, clock, wanted.tenant, actor, writer))
                number = writer.next_number(one.made_at)
                made = await store.read(
                    partial(_files_of, ledger=admission.ledger, tenant=wanted.tenant, one=one, number=number)
                )
                if isinstance(made, LeftOut):
                    left_out.append(made)
                    continue
                await asyncio.to_thread(writer.add, one.study, one.made_at, made)
                if writer.versions % EVERY == 0:
                    say(str(writer.versions))
            after = found[-1].place
        if writer.is_open:
            archives.append(await _closed(store, clock, wanted.tenant, actor, writer))
    except OSError as error:
        raise Broken(
            f"{target}: {error.strerror}",
            code="xdm-write",
            hint="choose a folder of the service's user with enough room",
        ) from error
    finally:
        writer.abandon()
    return Exported(
        tenant=wanted.tenant,
        archives=tuple(archives),
        exams=len(writer.studies),
        versions=writer.versions,
        left_out=tuple(left_out),
        seconds=clock.monotonic() - began,
    )


def _files_of(
    tx: ReadTx, *, ledger: Ledger, tenant: str, one: exporting.Published, number: int
) -> dict[str, bytes] | LeftOut:
    return exporting.files(tx, ledger, tenant, one, number)


async def _closed(store: Store, clock: Clock, tenant: str, actor: str, writer: _Writer) -> Written:
    """Finish the archive that is open: the record of it, then its name."""
    made = await asyncio.to_thread(writer.finish)
    record = audit.AuditRecord(
        tenant=tenant,
        zone="ops",
        at=clock.now(),
        event="xdm.exported",
        actor=actor,
        outcome=0,
        object_type="archive",
        object_id=made.sha256,
        detail=f"{made.exams} exams, {made.versions} versions",
    )
    await store.write(lambda tx: audit.append(tx, record))
    writer.publish()
    return made


class _Writer:
    """The archive that is being written, and the next ones of a folder."""

    def __init__(self, target: Path, sender: Sender) -> None:
        self._is_single = target.suffix.lower() == ".zip"
        self._target, self._sender = target, sender
        self._month, self._number, self._in_month = "", 0, 0
        self._file: Path | None = None
        self._zip: zipfile.ZipFile | None = None
        self._out: BinaryIO | None = None
        self._last: datetime | None = None
        self._here: set[bytes] = set()
        self._versions_here = 0
        self.studies: set[bytes] = set()
        self.versions = 0

    @property
    def is_open(self) -> bool:
        return self._zip is not None

    def is_full(self, made_at: datetime) -> bool:
        """Whether a version of that moment belongs into another file."""
        return self.is_open and not self._is_single and layout.month(made_at) != self._month

    def next_number(self, made_at: datetime) -> int:
        """The number of its set within its month."""
        return self._number + 1 if layout.month(made_at) == self._month and self.is_open else 1

    def add(self, study: str, made_at: datetime, files: Mapping[str, bytes]) -> None:
        """Write one set."""
        month = layout.month(made_at)
        if self._zip is None:
            self._open(month)
        if month != self._month:
            self._close_month()
            self._month, self._number = month, 0
        self._number += 1
        self._last = made_at
        folder = f"{month}/{layout.ROOT}/{layout.set_name(self._number)}"
        for name, data in files.items():
            self._put(f"{folder}/{name}", data)
        key = hashlib.blake2b(study.encode(), digest_size=8).digest()
        self.studies.add(key)
        self._here.add(key)
        self.versions += 1
        self._versions_here += 1

    def _open(self, month: str) -> None:
        if not self._is_single:
            self._target.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._target if self._is_single else self._target / f"{month}.zip"
        if file.exists():
            raise Refused(f"{file} exists", code="xdm-exists", hint="name a new file: no archive is overwritten")
        self._file, partial_file = file, _part(file)
        descriptor = os.open(partial_file, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        self._out = os.fdopen(descriptor, "w+b")
        self._zip = zipfile.ZipFile(self._out, "w", zipfile.ZIP_DEFLATED)
        self._month, self._number, self._here, self._versions_here = "", 0, set(), 0

    def _put(self, name: str, data: bytes) -> None:
        assert self._zip is not None, "opened by the first set"
        assert self._last is not None, "a set came first"
        info = zipfile.ZipInfo(name, date_time=self._last.timetuple()[:6])
        info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o600) << 16
        self._zip.writestr(info, data)

    def _close_month(self) -> None:
        if self._number:
            self._put(f"{self._month}/{layout.INDEX}", index_text(self._sender, self._number).encode())
            self._put(f"{self._month}/{layout.README}", readme_text(self._sender, self._number).encode())

    def finish(self) -> Written:
        """Everything on stable storage, under a name that nobody reads yet."""
        assert self._zip is not None, "only an open archive is finished"
        assert self._out is not None, "only an open archive is finished"
        assert self._file is not None, "only an open archive is finished"
        self._close_month()
        self._zip.close()
        self._out.flush()
        os.fsync(self._out.fileno())
        self._out.seek(0)
        digest = hashlib.sha256()
        while chunk := self._out.read(_CHUNK):
            digest.update(chunk)
        size = self._out.tell()
        self._out.close()
        self._zip = self._out = None
        return Written(
            file=str(self._file),
            sha256=digest.hexdigest(),
            bytes=size,
            exams=len(self._here),
            versions=self._versions_here,
        )

    def publish(self) -> None:
        """Give the finished archive its name."""
        assert self._file is not None, "only a finished archive gets its name"
        _part(self._file).rename(self._file)
        self._file = None

    def abandon(self) -> None:
        """Leave nothing behind of an archive that was not finished."""
        if self._zip is not None and self._out is not None:
            with suppress(OSError):  # what is thrown away need not be whole
                self._zip.close()
                self._out.close()
        if self._file is not None:
            _part(self._file).unlink(missing_ok=True)


def _part(file: Path) -> Path:
    return file.with_name(file.name + ".part")


_README = (
    N_("Sender"),
    N_("Contents"),
    N_("Manifests of imaging exams (DICOM Key Object Selection) with what the index was told of them: {n} sets."),
    N_("These files name patients. Keep them as you keep a medical record, and destroy them after use."),
    N_("Give the archive as it is to the software of the receiving box (XDM import). Poterne: poterne restore --xdm"),
    N_("Each folder SSnnnnnn is one submission: METADATA.XML (what the index was told), KOS (the manifest), SIGN (its"
       " signature), CR.TXT (the reports of the exam)."),
)  # fmt: skip
_TITLE = N_("Imaging manifests, for import into another box")


def readme_text(sender: Sender, number: int) -> str:
    """README.TXT: in French, then in English."""
    parts: list[str] = []
    for lang in ("fr", "en"):
        say = words(lang)
        title, contents, *rest = (say(text, n=say.number(number)) for text in _README)
        parts += [
            say(_TITLE),
            "",
            f"{title} : {sender.institution} ({sender.identifier}), {sender.software}",
            "",
            contents,
            *(f"- {line}" for line in rest),
            "",
            "",
        ]
    tree = [
        layout.INDEX,
        layout.README,
        f"{layout.ROOT}/",
        f"  {layout.set_name(1)}/ … {layout.set_name(number)}/",
        f"    {layout.METADATA}, {layout.manifest_name(1)}, {layout.signature_name(1)}, {layout.REPORTS}",
    ]
    return "\r\n".join([*parts, *tree, ""])


def index_text(sender: Sender, number: int) -> str:
    """INDEX.HTM: in French, then in English."""
    sections: list[str] = []
    for lang in ("fr", "en"):
        say = words(lang)
        told = [say(text, n=say.number(number)) for text in _README[2:4]]
        lines = "".join(f"<p>{_escaped(line)}</p>" for line in told)
        sections.append(f'<div xml:lang="{lang}" lang="{lang}"><h1>{_escaped(say(_TITLE))}</h1>{lines}</div>')
    who = _escaped(f"{sender.institution} ({sender.identifier}), {sender.software}")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\r\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML Basic 1.1//EN"'
        ' "http://www.w3.org/TR/xhtml-basic/xhtml-basic11.dtd">\r\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="fr"><head><title>XDM</title></head><body>'
        f'{sections[0]}<p>{who}</p><p><a href="{layout.README}">{layout.README}</a></p>'
        f'<p><a href="{layout.ROOT}/">{layout.ROOT}</a></p>{sections[1]}</body></html>\r\n'
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


# -- reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one version stands: the archive, its set, the document."""

    archive: int
    folder: str
    unique_id: str


class _Shelf:
    """The archives that are read, open until the end."""

    def __init__(self, files: Sequence[Path], stack: ExitStack) -> None:
        self.refused: list[SetRefused] = []
        self._archives: list[tuple[Path, ZipArchive, Mapping[str, Mapping[str, str]]]] = []
        self._entries: list[dict[str, int]] = []
        self.digests: list[str] = []
        for file in files:
            try:
                opened = stack.enter_context(_opened(file))
                archive = ZipArchive(opened)
            except BadInput as fault:
                self._refuse(file, "", fault)
                continue
            sets = layout.sets_of(entry.name for entry in archive.entries)
            if not sets:
                self._refuse(
                    file,
                    "",
                    BadInput(
                        "no IHE_XDM folder with a METADATA.XML",
                        code="xdm-empty",
                        hint="name an XDM archive (drim-m §7)",
                    ),
                )
                continue
            self._archives.append((file, archive, sets))
            self._entries.append({entry.name: at for at, entry in enumerate(archive.entries)})
            self.digests.append(_digest(opened))

    def places(self) -> Iterator[tuple[int, str]]:
        """Every set, in the order of its name."""
        for number, (_file, _archive, sets) in enumerate(self._archives):
            for folder in sorted(sets):
                yield number, folder

    def versions(self, number: int, folder: str) -> tuple[Version, ...]:
        """What one set says. Raises ``BadInput``."""
        _file, archive, sets = self._archives[number]
        entries = self._entries[number]
        return reading.versions(folder, sets[folder], lambda name: archive.read(archive.entries[entries[name]]))

    def refuse(self, number: int, folder: str, fault: BadInput) -> None:
        self._refuse(self._archives[number][0], folder, fault)

    def _refuse(self, file: Path, folder: str, fault: BadInput) -> None:
        self.refused.append(SetRefused(file=file.name, place=folder, code=fault.code, why=str(fault.args[0])))


@dataclass(slots=True, kw_only=True)
class _Work:
    """One import under way."""

    store: Store
    admission: Admission
    clock: Clock
    shelf: _Shelf
    apply: bool
    actor: str
    exams: dict[str, str] = field(default_factory=dict)
    lacking: Counter[str] = field(default_factory=Counter)
    is_marked: bool = False


async def bring_in(
    store: Store,
    admission: Admission,
    clock: Clock,
    files: Sequence[Path],
    *,
    apply: bool,
    actor: str,
    say: Say,
) -> Imported:
    """Read the archives, check every set, and with ``apply`` take each exam that the database lacks.

    Raises:
        Refused: ``xdm-file`` a file cannot be opened, or there are too many.
    """
    began = clock.monotonic()
    with ExitStack() as stack:
        if not 0 < len(files) <= ARCHIVES_MAX:
            raise Refused(
                f"{len(files)} archives, from 1 to {ARCHIVES_MAX}", code="xdm-file", hint="import them by and by"
            )
        shelf = await asyncio.to_thread(_Shelf, files, stack)
        by_study, sets = defaultdict[str, list[_Place]](list), 0
        work = _Work(store=store, admission=admission, clock=clock, shelf=shelf, apply=apply, actor=actor)
        for number, folder in shelf.places():
            sets += 1
            try:
                found = await asyncio.to_thread(shelf.versions, number, folder)
            except BadInput as fault:
                shelf.refuse(number, folder, fault)
                continue
            for one in found:
                by_study[one.manifest.study].append(_Place(number, folder, one.imprint.unique_id))
                work.lacking.update(one.notes)
            if sets % EVERY == 0:
                say(f"{sets} …")
        for at, (study, places) in enumerate(sorted(by_study.items()), start=1):
            await _exam(work, Uid(study), places)
            if at % EVERY == 0:
                say(f"{at}/{len(by_study)}")
    return Imported(
        tenant=admission.tenant,
        is_plan=not apply,
        sets=sets,
        exams=work.exams,
        counts=dict(Counter(work.exams.values())),
        lacking=dict(work.lacking),
        refused=tuple(shelf.refused),
        seconds=clock.monotonic() - began,
    )


async def _exam(work: _Work, study: Uid, places: Sequence[_Place]) -> None:
    """One exam: its versions read again, then taken, or in a plan compared."""
    last, admission, shelf = places[-1], work.admission, work.shelf
    try:
        chain = importing.chain(await asyncio.to_thread(_of, shelf, study, places))
        if not work.apply:
            missing = await work.store.read(lambda tx: importing.known(tx, admission.tenant, chain))
            work.exams[study] = "new" if missing else "known"
            return
        taken = await work.store.write(
            lambda tx: importing.take(
                tx,
                admission,
                chain,
                source=f"archive {shelf.digests[last.archive][:16]}",
                actor=work.actor,
                now=work.clock.now(),
                marks=not work.is_marked,
            )
        )
    except BadInput as fault:
        shelf.refuse(last.archive, last.folder, fault)
        work.exams[study] = "refused"
        return
    work.is_marked = work.is_marked or taken != "known"
    work.exams[study] = taken


def _of(shelf: _Shelf, study: Uid, places: Sequence[_Place]) -> list[Version]:
    """The versions of one exam; a document that stands in two archives is one, if it is the same.

    Raises:
        BadInput: ``xdm-twice``.
    """
    found: dict[str, Version] = {}
    for place in places:
        for one in shelf.versions(place.archive, place.folder):
            if one.manifest.study != study or one.imprint.unique_id != place.unique_id:
                continue
            before = found.get(place.unique_id)
            if before is not None and set(before.documents.values()) != set(one.documents.values()):
                raise BadInput(
                    "two sets hold one document with two contents",
                    code="xdm-twice",
                    hint="import one of the archives only, after looking at both",
                )
            found[place.unique_id] = one
    return list(found.values())


def _opened(file: Path) -> BinaryIO:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        opened = os.fdopen(descriptor, "rb")
    except OSError as error:
        raise Refused(
            f"{file}: {error.strerror}", code="xdm-file", hint="name archives that the service can read"
        ) from error
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        opened.close()
        raise Refused(f"{file} is no file", code="xdm-file", hint="name archives, not folders")
    return opened


def _digest(opened: BinaryIO) -> str:
    opened.seek(0)
    digest = hashlib.sha256()
    while chunk := opened.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
