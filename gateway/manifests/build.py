"""``poterne manifest build``: the manifest of the DICOM files of a folder.

Files are read one at a time; what is wrong with them is told all at once. A file whose SOPInstanceUID was met before
is compared byte by byte with the first: a copy is left out and told, anything else stands in the way.
"""

from __future__ import annotations

import filecmp
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import typer
from pydantic import TypeAdapter, ValidationError

from gateway.i18n import N_, Words
from gateway.manifests import documents, folder, forms
from gateway.manifests.collection import FILES_NAMED_MAX, Collection, Problem, Terms
from gateway.manifests.folder import Header, Skipped
from gateway.manifests.forms import Target
from gateway.settings import TenantSettings
from gateway.settings.fields import AeTitleOrNone, OidOrNone, RetrieveBase, Zone
from gateway.tenancy import site_of
from indexer.assemble import Site
from indexer.codes import table
from indexer.manifest import Imprint, StudyManifest, derived_uid, plain
from indexer.reading import CodeSet, Profile
from indexer.report import Coded, Organization
from indexer.study import Address
from security.clock import Clock
from security.errors import BadInput, Refused
from security.identity import Ins
from security.parse.dicom import charset_known

MANUFACTURER = "Poterne"
_FILES_PER_WORD = 25  # files between two words of progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the command line says of the study and its site; "" where it is silent."""

    profile: Profile | None = None
    codes: CodeSet = "DCM"
    ins: str = ""
    ins_authority: str = ""
    patient_issuer: str = ""
    accession: str = ""
    accession_issuer: str = ""
    placer_issuer: str = ""
    institution: str = ""
    institution_id: str = ""
    institution_system: str = ""
    retrieve_url: str = ""
    retrieve_location: str = ""
    retrieve_aet: str = ""
    viewer_url: str = ""
    regions: tuple[str, ...] = ()
    timezone: str = ""
    charset: str = "ISO_IR 100"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """The files to write. ``force``: replace those that are there."""

    kos: Path | None = None
    fhir: Path | None = None
    force: bool = False

    def targets(self, wish: Wish) -> Mapping[Target, Path]:
        """What is written where.

        Raises:
            Refused: ``profile-needed``; ``same-file`` both have one name.
        """
        if self.kos is not None and wish.profile is None:
            raise Refused("a KOS is written for a profile", code="profile-needed", hint="state --profile")
        if self.kos is not None and self.fhir is not None and self.kos.absolute() == self.fhir.absolute():
            raise Refused("--kos and --fhir name one file", code="same-file", hint="name two files")
        found = {}
        if self.kos is not None and wish.profile is not None:
            found[Target(form="kos", profile=wish.profile, codes=wish.codes)] = self.kos
        if self.fhir is not None:
            found[Target(form="fhir", profile="mado")] = self.fhir
        return found


@dataclass(slots=True)
class Look:
    """What was found in the files."""

    collection: Collection = field(default_factory=Collection)
    files: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    copies: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def run(
    paths: Sequence[Path],
    wish: Wish,
    outputs: Outputs,
    words: Words,
    *,
    site: TenantSettings | None,
    as_json: bool,
    clock: Clock,
    progress: Callable[[str], None],
) -> int:
    """Build, tell, and write what was asked for; 1 when something stands in the way.

    Raises:
        Refused: an option is not usable; an output exists or cannot be written.
    """
    terms, zone = terms_of(wish, site)
    targets = outputs.targets(wish)
    documents.check_free(targets.values(), force=outputs.force)
    look = look_at(paths, charset=wish.charset, progress=progress, outputs=tuple(targets.values()))
    problems = [*look.problems, *look.collection.problems(terms)]
    manifest = None
    if all(problem.is_remark for problem in problems):
        manifest = look.collection.manifest(terms)
        made = imprint(manifest, clock, _offset(look.collection.timezone_offset) or zone, wish, site)
        try:
            written = {path: forms.encode(target, manifest, made) for target, path in targets.items()}
        except BadInput as fault:
            problems.append(refusal(fault))
        else:
            documents.save(written, force=outputs.force)
    is_done = all(problem.is_remark for problem in problems)
    if as_json:
        told = _facts(look, manifest, problems, targets if is_done else {}, words)
        typer.echo(json.dumps(told, ensure_ascii=False))
        return 0 if is_done else 1
    for line in _text(look, manifest, problems, words):
        typer.echo(line, err=not is_done)
    for target, path in targets.items() if is_done else ():
        typer.echo(words("{target} written: {path}", target=target, path=path))
    return 0 if is_done else 1


def look_at(
    paths: Sequence[Path], *, charset: str, progress: Callable[[str], None], outputs: Sequence[Path] = ()
) -> Look:
    """Every file, its header only. ``outputs``: left out, lest a manifest made again list its forerunner."""
    look = Look()
    written = {path.resolve() for path in outputs}
    for path in folder.files_of(paths):
        look.files += 1
        if written and path.resolve() in written:
            look.skipped.append(Skipped(path=path, why=folder.OUTPUT))
            continue
        if look.files % _FILES_PER_WORD == 0:
            progress(str(look.files))
        try:
            found = folder.read(path, charset=charset)
        except (BadInput, OSError) as fault:
            what = f"{fault.args[0]} [{fault.code}]" if isinstance(fault, BadInput) else fault.strerror or "?"
            look.problems.append(
                Problem(
                    code="file-unreadable",
                    text=N_("a file cannot be read, and may belong to the study: {what}"),
                    values={"what": what},
                    files=(path,),
                )
            )
            continue
        if isinstance(found, Skipped):
            look.skipped.append(found)
        else:
            _take(look, found)
    progress("")
    return look


def _take(look: Look, found: Header) -> None:
    first = look.collection.place(found.instance.sop_instance)
    if first is None:
        look.collection.add(found)
    elif filecmp.cmp(first, found.path, shallow=False):
        look.copies.append(found.path)
    else:
        look.problems.append(
            Problem(
                code="instance-twice",
                text=N_("two different files are instance {uid}: keep the right one"),
                values={"uid": found.instance.sop_instance},
                files=(first, found.path),
            )
        )


# -- what the person states -----------------------------------------------------------------------------------------


def terms_of(wish: Wish, site: TenantSettings | None) -> tuple[Terms, tzinfo]:
    """The site's values and the command line's, which come first; and the zone of times that state none.

    Raises:
        Refused: ``bad-option``.
    """
    for option, value in (
        ("--patient-issuer", wish.patient_issuer),
        ("--accession-issuer", wish.accession_issuer),
        ("--placer-issuer", wish.placer_issuer),
        ("--institution-system", wish.institution_system),
        ("--retrieve-location", wish.retrieve_location),
        ("--ins-authority", wish.ins_authority),
    ):
        _checked(option, OidOrNone, value)
    _checked("--retrieve-aet", AeTitleOrNone, wish.retrieve_aet)
    if wish.retrieve_url:
        _checked("--retrieve-url", RetrieveBase, wish.retrieve_url)
    if not charset_known(wish.charset):
        raise _unusable("--charset", "is no defined term of Specific Character Set", "such as ISO_IR 100")
    base = site_of(site) if site else None
    zone = wish.timezone or (site.timezone if site else "Europe/Paris")
    terms = Terms(
        profile=wish.profile,
        site=_site(wish, base),
        ins=_ins(wish),
        is_ins_weighed=site is not None and site.identity.nir_digits != "hold",
        patient_issuer=wish.patient_issuer,
        accession=wish.accession,
        accession_issuer=wish.accession_issuer,
        placer_issuer=wish.placer_issuer,
        regions=tuple(_region(code) for code in wish.regions),
        viewer_url=wish.viewer_url,
    )
    return terms, ZoneInfo(_checked("--timezone", Zone, zone))


def _checked(option: str, kind: Any, value: str) -> str:
    """The value, when a setting of that kind may have it."""
    try:
        return str(TypeAdapter(kind).validate_python(value))
    except ValidationError as error:
        first = error.errors()[0]
        raise _unusable(option, first["msg"], str(first.get("ctx", {}).get("hint", ""))) from None


def _unusable(option: str, why: str, hint: str) -> Refused:
    return Refused(f"{option} {why}", code="bad-option", hint=hint)


def _ins(wish: Wish) -> Ins | None:
    """``--ins``: the matricule, or @FILE that holds it, so that it stands in no list of processes."""
    if not wish.ins:
        return None
    matricule = wish.ins
    if matricule.startswith("@"):
        matricule = documents.load(Path(matricule[1:])).decode("ascii", "replace")
    return Ins(matricule="".join(matricule.split()), oid=wish.ins_authority, status="VALI")


def _region(code: str) -> Coded:
    try:
        return table("region").coded(code)
    except BadInput as fault:
        raise Refused(f"--region: {fault.args[0]}", code="bad-option", hint=fault.hint) from None


def _site(wish: Wish, base: Site | None) -> Site:
    organization = base.institution if base else Organization(identifier="", system="", name="")
    address = base.address if base else Address(base="")
    return Site(
        institution=Organization(
            identifier=wish.institution_id or organization.identifier,
            system=wish.institution_system or organization.system,
            name=wish.institution or organization.name,
        ),
        address=Address(
            base=wish.retrieve_url or address.base,
            location=wish.retrieve_location or address.location,
            ae_title=wish.retrieve_aet or address.ae_title,
        ),
    )


def _offset(stated: str) -> tzinfo | None:
    """The zone of TimezoneOffsetFromUTC (``+0100``), None when the files state none that can be."""
    sign, digits = stated[:1], stated[1:]
    if sign not in {"+", "-"} or len(digits) != 4 or not (digits.isascii() and digits.isdigit()):
        return None
    east = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(east if sign == "+" else -east) if east < timedelta(hours=24) else None


def manufacturer_of(site: TenantSettings | None) -> str:
    """Who is written as the maker of a document."""
    return site.publisher.manufacturer if site else MANUFACTURER


def imprint(manifest: StudyManifest, clock: Clock, zone: tzinfo, wish: Wish, site: TenantSettings | None) -> Imprint:
    """How the documents of this run are signed off: the same identifiers in both forms, others in the next run."""
    created = clock.now()
    content = json.dumps(plain(manifest), sort_keys=True)
    key = (manifest.study, content, created.astimezone(UTC).isoformat(), wish.profile or "", wish.codes)
    return Imprint(
        unique_id=derived_uid("built-document", *key),
        series_uid=derived_uid("built-series", *key),
        created_at=created,
        zone=zone,
        manufacturer=manufacturer_of(site),
    )


# -- what is told ---------------------------------------------------------------------------------------------------

_OPTIONS = {
    "kos-no-accession": "--accession",
    "kos-accession-issuer": "--accession-issuer",
    "kos-placer-issuer": "--placer-issuer",
    "kos-patient-issuer": "--patient-issuer",
    "kos-institution": "--institution",
    "kos-no-region": "--region",
    "kos-retrieve-base": "--retrieve-url",
    "kos-location": "--retrieve-location",
    "kos-ae-title": "--retrieve-aet",
    "kos-viewer-url": "--viewer-url",
    "fhir-no-accession": "--accession",
    "fhir-no-institution": "--institution",
    "fhir-retrieve-base": "--retrieve-url",
    "fhir-no-location": "--retrieve-location",
    "fhir-viewer-url": "--viewer-url",
}
"""The option that helps when a document cannot be made, by the code of the refusal."""


def refusal(fault: BadInput, *, qualifying: str = "--ins") -> Problem:
    """A form that cannot be written, as a problem with the option that helps. ``qualifying``: that for an INS."""
    option = qualifying if fault.code == "kos-no-ins" else _OPTIONS.get(fault.code, "")
    return Problem(
        code=fault.code,
        text=N_("{why}: state it with {option}") if option else N_("{why}"),
        values={"why": fault.args[0], "option": option} if option else {"why": fault.args[0]},
    )


def _facts(
    look: Look,
    manifest: StudyManifest | None,
    problems: Sequence[Problem],
    written: Mapping[Target, Path],
    words: Words,
) -> dict[str, Any]:
    return {
        "files": look.files,
        "instances": look.collection.instances,
        "skipped": [{"file": str(one.path), "why": words(one.why)} for one in look.skipped],
        "copies": [str(path) for path in look.copies],
        "problems": [
            {
                "code": one.code,
                "severity": "remark" if one.is_remark else "error",
                "said": words(one.text, **one.values),
                "files": [str(path) for path in one.files],
            }
            for one in problems
        ],
        "study": _study_facts(manifest) if manifest else None,
        "written": {target.form: str(path) for target, path in written.items()},
    }


def _study_facts(manifest: StudyManifest) -> dict[str, Any]:
    return {
        "uid": manifest.study,
        "modalities": manifest.modalities,
        "regions": [region.code for region in manifest.regions],
        "orders": len(manifest.orders),
        "has_qualified_ins": manifest.patient.ins is not None and manifest.patient.ins.status == "VALI",
        "series": [
            {
                "uid": one.uid,
                "modality": one.modality,
                "number": one.number,
                "instances": [instance.sop_instance for instance in one.instances],
                "notes": sum(instance.note is not None for instance in one.instances),
            }
            for one in manifest.series
        ],
    }


def _text(look: Look, manifest: StudyManifest | None, problems: Sequence[Problem], words: Words) -> Iterator[str]:
    yield words.count("{n} file read", "{n} files read", look.files)
    if manifest is not None:
        yield from _study_text(manifest, words)
    for skipped in look.skipped[:FILES_NAMED_MAX]:
        yield words("  left out: {file} ({why})", file=skipped.path, why=words(skipped.why))
    yield from _more(len(look.skipped), words)
    for copy in look.copies[:FILES_NAMED_MAX]:
        yield words("  left out: {file} (the same bytes are there already)", file=copy)
    yield from _more(len(look.copies), words)
    for problem in problems:
        mark = "!" if problem.is_remark else "✗"
        yield f"{mark} {words(problem.text, **problem.values)} [{problem.code}]"
        for path in problem.files[:FILES_NAMED_MAX]:
            yield f"    {path}"
        yield from _more(len(problem.files), words)


def _more(number: int, words: Words) -> Iterator[str]:
    if number > FILES_NAMED_MAX:
        yield words("  … and {n} more: --json lists them all", n=words.number(number - FILES_NAMED_MAX))


def _study_text(manifest: StudyManifest, words: Words) -> Iterator[str]:
    instances = [one for series in manifest.series for one in series.instances]
    yield words("Study {uid}", uid=manifest.study)
    yield "  " + words.count("{n} series", "{n} series", len(manifest.series))
    yield "  " + words.count("{n} instance", "{n} instances", len(instances))
    yield "  " + words("modalities: {codes}", codes=", ".join(filter(None, manifest.modalities)))
    if manifest.regions:
        yield "  " + words("regions: {codes}", codes=", ".join(one.display or one.code for one in manifest.regions))
    yield "  " + words.count("{n} order", "{n} orders", len(manifest.orders))
    if notes := sum(one.note is not None for one in instances):
        yield "  " + words.count("{n} key-image note", "{n} key-image notes", notes)
