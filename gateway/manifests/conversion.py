"""``poterne manifest convert``: a document written again in another form or profile.

Invariants:

* what is lost is told twice: what the target cannot carry at all, and what of this very document it did not carry,
  found by reading the result again;
* a result that does not name the same patient, study and instances is not written, whatever the tables say;
* between KOS and FHIR the document keeps its identifier, as MADO asks of the two forms of one manifest; a KOS made
  from a KOS, or a Bundle from a Bundle, is another document and gets identifiers of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from gateway.faults import told
from gateway.i18n import N_, Words
from gateway.manifests import documents, forms
from gateway.manifests.build import Wish, manufacturer_of, refusal, terms_of
from gateway.manifests.checking import rule_text
from gateway.manifests.collection import Problem, Terms, merged
from gateway.manifests.folder import is_oid
from gateway.manifests.forms import RULES, Target, differences
from gateway.settings import TenantSettings
from indexer.manifest import Imprint, StudyManifest, derived_uid
from indexer.reading import CodeSet, Form, Profile, Reading
from indexer.report import Order, Organization
from indexer.study import Address
from security.clock import Clock
from security.errors import BadInput, Broken, Refused
from security.identity import Ins, PatientIdentity
from security.ins import check_key

_SUFFIXES: dict[str, Form] = {".json": "fhir", ".dcm": "kos", ".kos": "kos"}
_NO_OID = N_(
    "an issuer or the image source is not named by an OID: state it with --patient-issuer, --accession-issuer,"
    " --placer-issuer or --retrieve-location"
)
_SAME = (
    "study",
    "patient.ins.matricule",
    "patient.ins.oid",
    "patient.local_ids.value",
    "patient.traits.birth_name",
    "patient.traits.first_given_name",
    "patient.traits.birth_date",
    "series.uid",
    "series.instances.sop_instance",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """``lost``: paths of what the document says and the result does not, with why, "" for text cut to its place.
    ``broken``: error rules that the document itself breaks."""

    target: Target
    data: bytes
    lost: tuple[tuple[str, str], ...]
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for; None where it is silent. ``is_qualified``: the INS in the document is."""

    source: Path
    out: Path
    form: Form | None = None
    profile: Profile | None = None
    codes: CodeSet | None = None
    is_qualified: bool = False
    force: bool = False


def run(asked: Request, wish: Wish, words: Words, *, site: TenantSettings | None, as_json: bool, clock: Clock) -> int:
    """Convert, write, and tell what was lost; 1 when the document is refused or cannot be in that form.

    Raises:
        Refused: bad usage; an output exists or cannot be written.
    """
    wanted = asked.form or _form_by_name(asked.out)
    terms, _ = terms_of(wish, site)
    documents.check_free((asked.out,), force=asked.force)
    try:
        reading = forms.read(documents.load(asked.source))
        converted = convert(
            reading,
            target_of(reading, wanted, asked.profile, asked.codes),
            terms,
            is_qualified=asked.is_qualified,
            clock=clock,
            manufacturer=manufacturer_of(site),
        )
    except BadInput as fault:
        _refuse(asked.source, fault, words, as_json=as_json)
        return 1
    documents.save({asked.out: converted.data}, force=asked.force)
    if as_json:
        typer.echo(json.dumps(_facts(asked, converted), ensure_ascii=False))
    else:
        for line in _text(asked.out, converted, words):
            typer.echo(line)
    return 0


def target_of(reading: Reading, form: Form, profile: Profile | None, codes: CodeSet | None) -> Target:
    """What is asked for, where the command line is silent as the document is.

    Raises:
        Refused: ``no-such-form`` FHIR has no other profile than MADO.
    """
    if form == "fhir":
        if profile not in {None, "mado"}:
            raise Refused(
                f"there is no FHIR form of profile {profile}",
                code="no-such-form",
                hint="leave --profile out: FHIR is mado",
            )
        return Target(form="fhir", profile="mado")
    return Target(form="kos", profile=profile or reading.profile, codes=codes or reading.codes or "DCM")


def _form_by_name(out: Path) -> Form:
    try:
        return _SUFFIXES[out.suffix.lower()]
    except KeyError:
        raise Refused(
            f"{out}: its name does not say which form it is to have",
            code="form-needed",
            hint="name it .json (FHIR) or .dcm (KOS), or state --form",
        ) from None


def convert(
    reading: Reading, target: Target, terms: Terms, *, is_qualified: bool, clock: Clock, manufacturer: str
) -> Converted:
    """The document as ``target``. ``is_qualified``: the person says that the INS in it is qualified.

    Raises:
        BadInput: the target cannot say what the manifest must say; its code is the id of the rule. ``ins-key``: for
            drim-m, the INS is no matricule.
        Broken: ``conversion-differs`` what was written names another patient, study or set of instances.
    """
    manifest = filled(reading, terms, is_qualified=is_qualified)
    ins = manifest.patient.ins
    if target.profile == "drim-m" and ins is not None and not check_key(ins.matricule):
        raise BadInput(
            "the INS in the document is no matricule with its key",
            code="ins-key",
            hint="find out which matricule is the patient's, and make the document again",
        )
    made = _imprint(reading, target, clock, manufacturer)
    data = forms.encode(target, manifest, made)
    changed = tuple(dict.fromkeys(differences(manifest, forms.read(data).manifest)))
    if any(path == same or same.startswith(f"{path}.") for path in changed for same in _SAME):
        raise Broken(
            "the document made is not about the same patient, study and instances",
            code="conversion-differs",
            hint="nothing was written; this is a defect: report it",
        )
    return Converted(
        target=target,
        data=data,
        lost=tuple((path, why(path, target)) for path in changed),
        broken=tuple(dict.fromkeys(one.rule for one in reading.deviations if RULES[one.rule].severity == "error")),
    )


def why(path: str, target: Target) -> str:
    """Why a path is lost, by the tables of the target: its own line, or that of what it stands under or holds."""
    for known, reason in (*target.loses.items(), *target.narrows.items()):
        if path == known or path.startswith(f"{known}.") or known.startswith(f"{path}."):
            return reason
    return ""


def filled(reading: Reading, terms: Terms, *, is_qualified: bool) -> StudyManifest:
    """The manifest with what the person states where the document is silent; a statement never replaces one.

    A FHIR document may name an issuer by another URI than an OID, which no KOS can carry: what the person states then
    stands for it.
    """
    manifest = reading.manifest
    patient = manifest.patient
    return replace(
        manifest,
        patient=PatientIdentity(
            traits=patient.traits,
            ins=_ins(patient, is_qualified=is_qualified or reading.profile == "drim-m"),
            local_ids=tuple(replace(one, issuer=_oid(one.issuer, terms.patient_issuer)) for one in patient.local_ids),
        ),
        orders=merged([_order(order, terms) for order in manifest.orders], terms),
        regions=manifest.regions or terms.regions,
        institution=_institution(manifest.institution, terms.site.institution),
        address=_address(manifest.address, terms.site.address),
        series=tuple(
            replace(one, address=_address(one.address, terms.site.address)) if one.address else one
            for one in manifest.series
        ),
        viewer_url=manifest.viewer_url or terms.viewer_url,
    )


def _oid(stated: str, else_: str) -> str:
    """The issuer stated, or the person's when that is none or no OID."""
    return stated if is_oid(stated) or not else_ else else_


def _order(order: Order, terms: Terms) -> Order:
    return replace(
        order,
        accession_issuer=_oid(order.accession_issuer, terms.accession_issuer) if order.accession_number else "",
        placer_issuer=_oid(order.placer_issuer, terms.placer_issuer) if order.placer_number else "",
    )


def _ins(patient: PatientIdentity, *, is_qualified: bool) -> Ins | None:
    """The INS of the document. Profile drim-m names patients by a qualified INS alone; no other form says so."""
    ins = patient.ins
    return replace(ins, status="VALI") if ins is not None and is_qualified else ins


def _institution(stated: Organization, site: Organization) -> Organization:
    return Organization(
        identifier=stated.identifier or site.identifier,
        system=_oid(stated.system, site.system),
        name=stated.name or site.name,
    )


def _address(stated: Address, site: Address) -> Address:
    return Address(
        base=stated.base or site.base,
        location=_oid(stated.location, site.location),
        ae_title=stated.ae_title or site.ae_title,
    )


def _imprint(reading: Reading, target: Target, clock: Clock, manufacturer: str) -> Imprint:
    made = reading.imprint
    if target.form != reading.form:
        series = made.series_uid or derived_uid("converted-series", made.unique_id)
        return replace(made, series_uid=series, manufacturer=manufacturer)
    now = clock.now()
    key = (made.unique_id, str(target), now.isoformat())
    return Imprint(
        unique_id=derived_uid("converted-document", *key),
        series_uid=derived_uid("converted-series", *key),
        created_at=now,
        zone=made.zone,
        manufacturer=manufacturer,
    )


# -- what is told ---------------------------------------------------------------------------------------------------


def _refuse(source: Path, fault: BadInput, words: Words, *, as_json: bool) -> None:
    problem = refusal(fault, qualifying="--ins-qualified")
    if fault.code == "bad-uid":
        problem = Problem(code="issuer-no-oid", text=_NO_OID)
    said = words(problem.text, **problem.values) if problem.text != "{why}" else told(fault, words)
    if as_json:
        facts = {"file": str(source), "refused": {"code": problem.code, "said": said}}
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    typer.echo(words("Not converted. {why} [{code}]", why=said, code=problem.code), err=True)
    if fault.code in RULES:
        for line in rule_text(RULES[fault.code], words):
            typer.echo(line, err=True)


def _facts(asked: Request, converted: Converted) -> dict[str, Any]:
    target = converted.target
    return {
        "file": str(asked.source),
        "written": str(asked.out),
        "form": target.form,
        "profile": target.profile,
        "codes": target.codes if (target.form, target.profile) == ("kos", "mado") else None,
        "lost": dict(converted.lost),
        "cannot_carry": dict(target.loses),
        "broken_in_source": list(converted.broken),
    }


def _text(out: Path, converted: Converted, words: Words) -> Iterator[str]:
    yield words("{target} written: {path}", target=converted.target, path=out)
    lost: Sequence[tuple[str, str]] = converted.lost
    if lost:
        yield words("Said by the document and not carried by this form:")
    for path, why in lost:
        yield f"  {path} — {words(why) if why else words('cut to what fits its place, or written otherwise')}"
    others = [path for path in converted.target.loses if path not in dict(lost)]
    if others:
        yield words("Not said by this document, and not carried either: {paths}", paths="; ".join(others))
    if converted.broken:
        yield words(
            "The document itself breaks rules, see poterne manifest check: {rules}", rules=", ".join(converted.broken)
        )
