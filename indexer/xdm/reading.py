"""One submission set of an XDM archive: what it says, checked against itself.

Invariants:

* a document counts only when its bytes have the hash and the size that the metadata state (ITI TF-3 4.2.3.2.10, .22);
* the metadata and the KOS speak of one document and one study, or the set is refused;
* who the patient is is said three times (KOS, METADATA.XML, CR.TXT) and nothing is chosen: ``Patients`` keeps the KOS
  apart from what the two others say, and states of these whatever differs from the KOS, so that the gate sees it.

What is missing and not needed (SIGN, CR.TXT, entryUUID) is named in ``notes``. Inferred: the national identifier of a
published exam was qualified when it was published, so it is read as such.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from indexer import kos
from indexer.manifest import Context, Imprint, StudyManifest
from indexer.mhd.values import unescaped
from indexer.report import Coded, Professional, Visibility
from indexer.xdm import layout, metadata
from indexer.xdm.layout import Link
from indexer.xds import vocabulary as xds
from indexer.xds.objects import DocumentEntry, Submission, SubmissionSet
from security.errors import BadInput
from security.identity import Ins, LocalId, PatientIdentity, Traits
from security.ins import INS_AUTHORITIES

_DICOM = "application/dicom"
_DTM = re.compile(r"[0-9]{4}([0-9]{2}){0,5}", re.ASCII)
_VERSION = re.compile(r"Version (?P<number>[1-9][0-9]{0,5})")
_HIDING = frozenset({"MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REP_LEGAUX", "INVISIBLE_REPRESENTANTS_LEGAUX"})
_REGION_SYSTEMS = frozenset({"2.16.840.1.113883.6.96", "1.2.250.1.213.2.5"})  # SNOMED CT; older national samples
_HINT = "the box that made the archive must export this exam again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patients:
    """The patient as the KOS states them, and as METADATA.XML and CR.TXT do."""

    document: PatientIdentity
    stated: PatientIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One published version of one exam.

    ``regions``: as the metadata name them. ``number``: as the set states it, None when it does not. ``status``:
    ``Approved``, ``Deprecated``, ``Deleted``, or "" when the archive does not say. ``content_hash``: as claimed, ""
    for none; ``revised_hash``: of the content as its metadata stand now, "" where they came so. ``metadata``: the
    request of the set, as it was sent. ``documents``: by entry id. ``notes``: what is missing, for people.
    """

    manifest: StudyManifest
    context: Context
    regions: tuple[Coded, ...]
    imprint: Imprint
    patients: Patients
    links: tuple[Link, ...]
    submitted_at: datetime
    number: int | None
    entry_uuid: str
    status: str
    content_hash: str
    revised_hash: str
    metadata: bytes
    documents: Mapping[str, bytes]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Version({self.imprint.unique_id})"


def versions(folder: str, files: Mapping[str, str], read: Callable[[str], bytes]) -> tuple[Version, ...]:
    """The exams of one set, mostly one. ``folder``, ``files``: as ``layout.sets_of`` gives them; ``read``: the bytes
    of one of these names.

    Raises:
        BadInput: as ``metadata.read``, ``indexer.kos.read`` and ``layout``; ``xdm-document-missing``, ``xdm-hash``,
            ``xdm-preamble``, ``xdm-no-manifest``, ``xdm-unique-id``, ``xdm-study``, ``xdm-date``, ``xdm-set``.
    """
    submission, request = metadata.read(read(files[layout.METADATA.casefold()]))
    if len(submission.sets) != 1:
        raise _refused("xdm-set", f"METADATA.XML holds {len(submission.sets)} submission sets, not one")
    notes: list[str] = []
    reports = layout.links(read(files["cr.txt"])) if "cr.txt" in files else ()
    notes += [] if reports else ["no-report-named"]
    documents: dict[str, bytes] = {}
    for entry in submission.entries:
        data = _document(entry, folder, files, read)
        if data is not None:
            documents[entry.id] = data
    manifests = [one for one in submission.entries if one.mime_type == _DICOM]
    if not manifests or any(one.id not in documents for one in manifests):
        raise _refused("xdm-no-manifest", "the set holds no KOS, or its file is missing")
    notes += [] if len(documents) > len(manifests) else ["no-signature"]
    ids = frozenset(one.id for one in manifests)
    return tuple(
        _version(
            one,
            submission,
            documents,
            request=metadata.about(metadata.bare(request), ids - {one.id}),
            links=reports,
            notes=notes,
        )
        for one in manifests
    )


def _document(
    entry: DocumentEntry, folder: str, files: Mapping[str, str], read: Callable[[str], bytes]
) -> bytes | None:
    """The checked bytes of one entry; None for a signature that is not there."""
    uri = "".join(entry.values(metadata.SLOT_URI))  # a long one is cut into several values (ITI TF-3 4.2.3.2.27)
    name = files.get(layout.file_of(uri, folder)) if uri else None
    if name is None:
        if entry.mime_type != _DICOM:
            return None
        raise _refused("xdm-document-missing", "the file of a KOS is missing")
    data = read(name)
    stated = entry.value("hash").lower()
    digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    if not hmac.compare_digest(stated.encode(), digest.encode()) or entry.value("size") != str(len(data)):
        raise _refused("xdm-hash", "a document has not the hash and size that the metadata state")
    return data


def _version(
    entry: DocumentEntry,
    submission: Submission,
    documents: Mapping[str, bytes],
    *,
    request: bytes,
    links: tuple[Link, ...],
    notes: Sequence[str],
) -> Version:
    package, data = submission.sets[0], documents[entry.id]
    if any(data[:128]):  # it may make another file of this one (T12), and what was hashed cannot be changed
        raise _refused("xdm-preamble", "the preamble of a KOS holds something")
    read = kos.read(data)
    manifest, made = read.manifest, read.imprint
    if entry.unique_id != made.unique_id:
        raise _refused("xdm-unique-id", "the metadata and the KOS state two identifiers of one document")
    _check_study(entry, manifest)
    entry_uuid = entry.identifier(metadata.ENTRY_UUID_SCHEME).lower().removeprefix("urn:uuid:")
    numbered = _VERSION.fullmatch(next((text.value for text in package.description), ""))
    return Version(
        manifest=manifest,
        context=_context(entry),
        regions=_regions(entry),
        imprint=made,
        patients=_patients(manifest.patient, entry, package, links),
        links=links,
        submitted_at=_moment(package.value("submissionTime")) or made.created_at.astimezone(UTC),
        number=int(numbered["number"]) if numbered else None,
        entry_uuid=f"urn:uuid:{entry_uuid}" if entry_uuid else "",
        status=entry.status.rpartition(":")[2],
        content_hash=entry.value(metadata.SLOT_CONTENT),
        revised_hash=next(iter(entry.values(metadata.SLOT_CONTENT)[1:]), ""),
        metadata=request,
        documents={one: documents[one] for one in documents if one == entry.id or _is_beside(one, submission)},
        notes=(*notes, *([] if entry_uuid else ["no-entry-uuid"])),
    )


def _is_beside(entry_id: str, submission: Submission) -> bool:
    """Whether a document is no manifest of its own: the signature of the set."""
    return all(one.mime_type != _DICOM for one in submission.entries if one.id == entry_id)


def _check_study(entry: DocumentEntry, manifest: StudyManifest) -> None:
    named = [
        _parts(value)[0]
        for value in entry.values(xds.SLOT_REFERENCE_ID_LIST)
        if value.endswith(f"^{xds.REFERENCE_STUDY}")
    ]
    if named and manifest.study not in named:
        raise _refused("xdm-study", "the metadata and the KOS speak of two studies")


# -- who the patient is ------------------------------------------------------------------------------------------


def _patients(
    document: PatientIdentity, entry: DocumentEntry, package: SubmissionSet, links: Sequence[Link]
) -> Patients:
    """``stated`` says of every identifier whichever of its sources differs from the KOS."""
    ids = [_identified(value) for value in (entry.patient_id, package.patient_id) if value]
    known = (document.ins.matricule, document.ins.oid) if document.ins else ("", "")
    named = [(one.value, one.issuer) for one in ids if one.issuer in INS_AUTHORITIES]
    named += [(link.matricule, link.ins_oid or known[1]) for link in links if link.matricule]
    nationals = [Ins(matricule=matricule, oid=oid, status="VALI") for matricule, oid in named]
    differing = (one for one in nationals if (one.matricule, one.oid) != known)
    ins = next(differing, nationals[0] if nationals else None)
    locals_ = [one for one in ids if one.issuer not in INS_AUTHORITIES]
    locals_ += [LocalId(value=link.local_id, issuer=link.local_issuer) for link in links if link.local_id]
    source = entry.value("sourcePatientId")
    if source and _identified(source).issuer not in INS_AUTHORITIES:
        locals_.append(_identified(source))
    return Patients(
        document=document if document.local_ids else _with_locals(document, locals_),
        stated=PatientIdentity(traits=_traits(entry), ins=ins, local_ids=_differing_first(locals_, document)),
    )


def _with_locals(document: PatientIdentity, locals_: Sequence[LocalId]) -> PatientIdentity:
    return PatientIdentity(traits=document.traits, ins=document.ins, local_ids=tuple(dict.fromkeys(locals_)))


def _differing_first(locals_: Sequence[LocalId], document: PatientIdentity) -> tuple[LocalId, ...]:
    """Of each register the identifiers that the KOS lacks, else those it has: one that fits must not hide one that
    does not."""
    kept: list[LocalId] = []
    for one in dict.fromkeys(locals_):
        of_register = [other for other in locals_ if other.issuer == one.issuer]
        has_stranger = bool(document.local_ids) and any(other not in document.local_ids for other in of_register)
        if not has_stranger or one not in document.local_ids:
            kept.append(one)
    return tuple(kept)


def _identified(cx: str) -> LocalId:
    """A CX: the identifier and the OID of its authority."""
    value, *rest = cx.split("^")
    authority = rest[2].split("&") if len(rest) > 2 else [""]
    return LocalId(value=unescaped(value), issuer=authority[1] if len(authority) > 1 else "")


def _traits(entry: DocumentEntry) -> Traits:
    told = dict(value.split("|", 1) for value in entry.values("sourcePatientInfo") if "|" in value)
    family, given, *_ = (*told.get("PID-5", "").split("~")[0].split("^"), "", "")
    sex = told.get("PID-8", "").strip().upper()
    address = (*told.get("PID-11", "").split("^"), *[""] * 9)
    return Traits(
        birth_name=unescaped(family),
        first_given_name=unescaped(given),
        sex=sex if sex in {"M", "F", ""} else "U",
        birth_date=_day(told.get("PID-7", "")),
        birthplace=unescaped(address[8]) if address[6] == "BDL" else "",
    )


# -- what else the metadata say ----------------------------------------------------------------------------------


def _context(entry: DocumentEntry) -> Context:
    codes = [one.code for one in entry.classified(xds.ENTRY_CONFIDENTIALITY_CODE)]
    return Context(
        visibility=Visibility(
            masked_to_professionals="MASQUE_PS" in codes,
            invisible_to_patient="INVISIBLE_PATIENT" in codes,
            invisible_to_guardians=any(code.startswith("INVISIBLE_REP") for code in codes),
        ),
        confidentiality=next((code for code in codes if code not in _HIDING), "N"),
        legal_authenticator=_person(entry.value("legalAuthenticator")),
        facility_type=_coded(entry, xds.ENTRY_FACILITY_TYPE_CODE),
        practice_setting=_coded(entry, xds.ENTRY_PRACTICE_SETTING_CODE),
        service_start=_moment(entry.value("serviceStartTime")),
        service_stop=_moment(entry.value("serviceStopTime")),
        language=entry.value("languageCode") or "fr-FR",
    )


def _regions(entry: DocumentEntry) -> tuple[Coded, ...]:
    """The anatomic regions that the metadata name, in their order."""
    events = (
        Coded(
            code=one.code,
            system=next(iter(one.values("codingScheme")), ""),
            display=next((text.value for text in one.name), ""),
        )
        for one in entry.classified(xds.ENTRY_EVENT_CODE_LIST)
    )
    return tuple(one for one in events if one.system in _REGION_SYSTEMS)


def _coded(entry: DocumentEntry, scheme: str) -> Coded | None:
    found = next(iter(entry.classified(scheme)), None)
    if found is None:
        return None
    display = next((text.value for text in found.name), "")
    return Coded(code=found.code, system=next(iter(found.values("codingScheme")), ""), display=display)


def _person(xcn: str) -> Professional | None:
    if not xcn:
        return None
    parts = [*xcn.split("^"), *[""] * 9]
    authority = parts[8].split("&")
    identifier, family, given = (unescaped(part) for part in parts[:3])
    system = authority[1] if len(authority) > 1 else ""
    return Professional(identifier=identifier, system=system, family=family, given=given)


def _parts(cxi: str) -> list[str]:
    return [unescaped(part) for part in cxi.split("^")]


def _moment(dtm: str) -> datetime | None:
    """A DTM of the metadata, in UTC as XDS has it. Older national samples write local time, which nothing tells
    apart."""
    if not dtm:
        return None
    digits = re.split(r"[+-]", dtm, maxsplit=1)[0]
    padded = f"{digits}{'00000101000000'[len(digits) :]}"
    try:
        if not _DTM.fullmatch(digits):
            raise ValueError  # noqa: TRY301 -- the same answer as to a day that is none
        return datetime.strptime(padded, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise _refused("xdm-date", "a time of the metadata is none") from None


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text[:8], "%Y%m%d").replace(tzinfo=UTC).date() if text else None
    except ValueError:
        return None


def _refused(code: str, why: str) -> BadInput:
    return BadInput(why, code=code, hint=_HINT)
