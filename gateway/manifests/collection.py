"""From the headers of many files to the manifest of one study, or to everything that stands in its way.

Invariants:

* one study, one patient: a second StudyInstanceUID, a second PatientID, or two values of a trait that both stand in
  files is a problem, never a choice; a file silent about a trait contradicts nothing, one without PatientID does;
* nobody is qualified by a file: an INS is ``VALI`` only when the person who runs the command says so (``Terms.ins``);
* of what describes the study, the value most files state holds, the first of equals; that others differ is remarked;
* a problem or a remark names UIDs, keywords and files, never a patient's value.

Where values come from: accession and placer order numbers from the top level, Request Attributes Sequence and
Referenced Request Sequence of every file, one order per distinct pair, a number without issuer joining the same
number with one; issuers that no file states from ``Terms``. Regions from ``Terms``, else from BodyPartExamined as a
published exam has them (``indexer.assemble``).

Pure: reads no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path

from gateway.i18n import N_
from gateway.manifests.folder import Header, StatedPatient
from indexer.assemble import Site, coarse, ordered, placed
from indexer.manifest import StudyManifest
from indexer.reading import Profile
from indexer.report import Coded, Order
from indexer.study import Instance, Series
from security.identity import Ins, LocalId, PatientIdentity, Traits, Uid
from security.ins import INS_AUTHORITIES, check_key, digits_disagree

FILES_NAMED_MAX = 5
"""Files that one problem names; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the person who builds a manifest states beside the files.

    ``ins``: the qualified identity, None when none is stated. ``is_ins_weighed``: its digits may contradict sex and
    birth date (a site's ``identity.nir_digits`` not at ``hold``). ``accession``: of a study whose files
    have none. Issuers are OIDs of numbers whose files name none.
    """

    profile: Profile | None
    site: Site
    ins: Ins | None = None
    is_ins_weighed: bool = False
    patient_issuer: str = ""
    accession: str = ""
    accession_issuer: str = ""
    placer_issuer: str = ""
    regions: tuple[Coded, ...] = ()
    viewer_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why no manifest is made, or with ``is_remark`` what the person should know of the one that is.

    ``text``: English, with the names of ``values``; ``files``: those concerned.
    """

    code: str
    text: str
    values: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    is_remark: bool = False


class _Votes:
    """How often each value of one keyword is stated, and which file said so first. Silence is no vote."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._firsts: dict[str, Path] = {}

    def add(self, value: str, path: Path) -> None:
        if value:
            self._counts[value] += 1
            self._firsts.setdefault(value, path)

    @property
    def winner(self) -> str:
        return self._counts.most_common(1)[0][0] if self._counts else ""

    @property
    def files(self) -> tuple[Path, ...]:
        """The first file of each value; more than one when they differ."""
        return tuple(self._firsts.values())


@dataclass(slots=True)
class _SeriesParts:
    votes: dict[str, _Votes] = field(default_factory=dict)
    instances: list[Instance] = field(default_factory=list)
    sides: set[str] = field(default_factory=set)


class Collection:
    """Headers of one folder, added one at a time: what is kept of each is an ``Instance`` and where it was."""

    def __init__(self) -> None:
        self._studies: dict[Uid, Path] = {}
        self._places: dict[Uid, Path] = {}
        self._patient: dict[str, _Votes] = {}
        self._without_id: list[Path] = []
        self._others: dict[LocalId, None] = {}
        self._study: dict[str, _Votes] = {}
        self._series: dict[Uid, _SeriesParts] = {}
        self._orders: dict[Order, None] = {}
        self._procedures: dict[Coded, None] = {}

    def place(self, sop_instance: Uid) -> Path | None:
        """Where this instance was found before, None when it is new."""
        return self._places.get(sop_instance)

    def add(self, header: Header) -> None:
        """One instance that was not there before."""
        self._studies.setdefault(header.study, header.path)
        self._places[header.instance.sop_instance] = header.path
        self._add_patient(header.patient, header.path)
        for keyword, value in header.study_facts:
            self._study.setdefault(keyword, _Votes()).add(value, header.path)
        series = self._series.setdefault(header.series, _SeriesParts())
        for keyword, value in (("Modality", header.modality), *header.series_facts):
            series.votes.setdefault(keyword, _Votes()).add(value, header.path)
        series.sides.add(header.laterality)
        series.instances.append(header.instance)
        self._orders.update(dict.fromkeys(header.orders))
        self._procedures.update(dict.fromkeys(header.procedures))

    def _add_patient(self, stated: StatedPatient, path: Path) -> None:
        if not stated.patient_id:
            self._without_id.append(path)
        traits = {
            "PatientID": stated.patient_id,
            "IssuerOfPatientID": stated.issuer,
            "PatientName": _name(stated.name),
            "PatientBirthName": _name(stated.birth_name),
            "PatientBirthDate": stated.birth_date,
            "PatientSex": stated.sex,
        }
        for keyword, value in traits.items():
            self._patient.setdefault(keyword, _Votes()).add(value, path)
        self._others.update(dict.fromkeys(stated.others))

    @property
    def instances(self) -> int:
        """How many were added."""
        return len(self._places)

    @property
    def timezone_offset(self) -> str:
        """TimezoneOffsetFromUTC that the files agree on, "" otherwise."""
        votes = self._study.get("TimezoneOffsetFromUTC", _Votes())
        return votes.winner if len(votes.files) == 1 else ""

    def problems(self, terms: Terms) -> tuple[Problem, ...]:
        """Everything that stands in the way, or none; what is only worth knowing is marked ``is_remark``."""
        if not self._places:
            return (Problem(code="no-instance", text=N_("no DICOM instance was found")),)
        return (
            *self._of_studies(),
            *self._of_patient(),
            *self._of_identity(terms),
            *self._remarks(),
        )

    def _of_studies(self) -> Iterator[Problem]:
        if len(self._studies) > 1:
            yield Problem(
                code="several-studies",
                text=N_("{n} studies are there: name the files of one. They are {uids}"),
                values={"n": str(len(self._studies)), "uids": ", ".join(list(self._studies)[:FILES_NAMED_MAX])},
                files=tuple(self._studies.values()),
            )

    def _of_patient(self) -> Iterator[Problem]:
        for keyword, votes in self._patient.items():
            if len(votes.files) > 1:
                yield Problem(
                    code="patient-conflict",
                    text=N_("{keyword} differs between files: correct the one that is wrong, or leave it out"),
                    values={"keyword": keyword},
                    files=votes.files,
                )
        if self._without_id:
            yield Problem(
                code="no-patient-id",
                text=N_("files without PatientID: nobody can say whose images they are"),
                files=tuple(self._without_id),
            )
        if self._patient_value("PatientBirthDate") and self._birth_date() is None:
            yield Problem(
                code="patient-value",
                text=N_("{keyword} is not what DICOM allows there"),
                values={"keyword": "PatientBirthDate"},
                files=self._patient["PatientBirthDate"].files,
            )
        if self._patient_value("PatientSex") not in {"", "M", "F", "O"}:
            yield Problem(
                code="patient-value",
                text=N_("{keyword} is not what DICOM allows there"),
                values={"keyword": "PatientSex"},
                files=self._patient["PatientSex"].files,
            )

    def _of_identity(self, terms: Terms) -> Iterator[Problem]:
        """What the profile asks of an identity, and whether what the person states fits what the files state."""
        stated = self._patient_value("IssuerOfPatientID")
        if terms.patient_issuer and stated not in {"", terms.patient_issuer}:
            yield Problem(code="issuer-differs", text=N_("--patient-issuer is not the issuer that the files state"))
        if terms.profile == "mado" and not (stated or terms.patient_issuer):
            yield Problem(
                code="no-patient-issuer",
                text=N_("no file says who issued PatientID: name its OID with --patient-issuer"),
            )
        if terms.ins is None:
            if terms.profile == "drim-m":
                yield Problem(
                    code="no-ins", text=N_("profile drim-m needs the patient's qualified INS: state it with --ins")
                )
            return
        if not check_key(terms.ins.matricule) or terms.ins.oid not in INS_AUTHORITIES:
            yield Problem(code="ins-key", text=N_("--ins is no matricule with its key, or of an unknown authority"))
        elif any(one.value != terms.ins.matricule for one in self._local_ids(terms) if one.issuer in INS_AUTHORITIES):
            yield Problem(code="ins-differs", text=N_("--ins is not the INS that the files state"))
        elif disagreeing := digits_disagree(
            terms.ins.matricule, self._patient_value("PatientSex"), self._birth_date()
        ):
            yield Problem(
                code="ins-digits",
                text=N_("the digits of --ins contradict the files: {what}"),
                values={"what": ", ".join(disagreeing)},
                is_remark=terms.is_ins_weighed,
            )

    def _remarks(self) -> Iterator[Problem]:
        of_series = [
            (f"{keyword} ({uid})", votes)
            for uid, parts in self._series.items()
            for keyword, votes in parts.votes.items()
        ]
        for keyword, votes in (*self._study.items(), *of_series):
            if len(votes.files) > 1 and not keyword.startswith("BodyPartExamined"):
                yield Problem(
                    code="value-differs",
                    text=N_("{keyword} differs between files: what most of them state is written"),
                    values={"keyword": keyword},
                    files=votes.files,
                    is_remark=True,
                )
        pointed = {uid for one in self._instances() if one.note for uid in one.note.references}
        if missing := pointed - self._places.keys():
            yield Problem(
                code="note-points-outside",
                text=N_("key-image notes point at {n} instances that are not there"),
                values={"n": str(len(missing))},
                is_remark=True,
            )

    def manifest(self, terms: Terms) -> StudyManifest:
        """The manifest of what was added; ``problems`` must be none but remarks."""
        facts = {keyword: votes.winner for keyword, votes in self._study.items()}
        series = tuple(map(placed, ordered(self._made(uid, parts) for uid, parts in self._series.items())))
        return StudyManifest(
            study=next(iter(self._studies)),
            date=facts["StudyDate"],
            time=facts["StudyTime"],
            description=facts["StudyDescription"],
            study_id=facts["StudyID"],
            referring_physician=facts["ReferringPhysicianName"],
            patient=self._identity(terms),
            orders=merged(self._orders, terms),
            series=series,
            procedures=tuple(self._procedures),
            regions=terms.regions or coarse(series),
            institution=terms.site.institution,
            address=terms.site.address,
            viewer_url=terms.viewer_url,
        )

    def _instances(self) -> Iterator[Instance]:
        for parts in self._series.values():
            yield from parts.instances

    @staticmethod
    def _made(uid: Uid, parts: _SeriesParts) -> Series:
        facts = {keyword: votes.winner for keyword, votes in parts.votes.items()}
        number = facts["SeriesNumber"]
        return Series(
            uid=uid,
            modality=facts["Modality"],
            instances=tuple(parts.instances),
            number=int(number) if number.isascii() and number.lstrip("+-").isdigit() else None,
            description=facts["SeriesDescription"],
            body_part=facts["BodyPartExamined"],
            date=facts["SeriesDate"],
            time=facts["SeriesTime"],
            laterality=_side(parts.sides),
        )

    def _patient_value(self, keyword: str) -> str:
        return self._patient[keyword].winner

    def _birth_date(self) -> date | None:
        try:
            return datetime.strptime(self._patient_value("PatientBirthDate"), "%Y%m%d").date()  # noqa: DTZ007  a day
        except ValueError:
            return None

    def _local_ids(self, terms: Terms) -> tuple[LocalId, ...]:
        issuer = self._patient_value("IssuerOfPatientID") or terms.patient_issuer
        own = LocalId(value=self._patient_value("PatientID"), issuer=issuer)
        return tuple(dict.fromkeys((own, *self._others)))

    def _identity(self, terms: Terms) -> PatientIdentity:
        every = self._local_ids(terms)
        stated = next((one for one in every if one.issuer in INS_AUTHORITIES), None)
        told = Ins(matricule=stated.value, oid=stated.issuer, status="") if stated else None
        return PatientIdentity(
            traits=self._traits(),
            ins=terms.ins or told,
            local_ids=tuple(one for one in every if one.issuer not in INS_AUTHORITIES),
        )

    def _traits(self) -> Traits:
        """PatientBirthName is the birth name where it stands; the name beside it is then the used one."""
        name, birth = self._patient_value("PatientName"), self._patient_value("PatientBirthName")
        family, given = _family_and_given(name)
        birth_family, birth_given = _family_and_given(birth)
        sex = self._patient_value("PatientSex")
        return Traits(
            birth_name=birth_family or family,
            first_given_name=birth_given or given,
            used_name=family if birth_family and birth_family != family else "",
            used_given_name=given if birth_given and birth_given != given else "",
            sex="U" if sex == "O" else sex,
            birth_date=self._birth_date(),
        )


def merged(orders: Iterable[Order], terms: Terms) -> tuple[Order, ...]:
    """One order per number: a statement that says less joins one that says more and contradicts nothing."""
    found: list[Order] = []
    told = tuple(orders)
    if terms.accession and not any(order.accession_number for order in told):
        bare = Order(accession_number="", accession_issuer="", placer_number="", placer_issuer="")
        told = tuple(replace(order, accession_number=terms.accession) for order in told or (bare,))
    for order in told:
        for place, known in enumerate(found):
            if known.accession_number == order.accession_number and _agree(known, order):
                found[place] = _joined(known, order)
                break
        else:
            found.append(order)
    return tuple(
        replace(
            order,
            accession_issuer=order.accession_issuer or (terms.accession_issuer if order.accession_number else ""),
            placer_issuer=order.placer_issuer or (terms.placer_issuer if order.placer_number else ""),
        )
        for order in found
    )


def _agree(one: Order, other: Order) -> bool:
    pairs = (
        (one.accession_issuer, other.accession_issuer),
        (one.placer_number, other.placer_number),
        (one.placer_issuer, other.placer_issuer),
    )
    return all(not left or not right or left == right for left, right in pairs)


def _joined(one: Order, other: Order) -> Order:
    return Order(
        accession_number=one.accession_number,
        accession_issuer=one.accession_issuer or other.accession_issuer,
        placer_number=one.placer_number or other.placer_number,
        placer_issuer=one.placer_issuer or other.placer_issuer,
    )


def _name(value: str) -> str:
    """A PN without the empty components at its end, which say nothing (PS3.5 6.2.1)."""
    return "=".join(group.rstrip("^ ") for group in value.split("=")).rstrip("=")


def _family_and_given(name: str) -> tuple[str, str]:
    family, given = [*name.partition("=")[0].split("^"), ""][:2]
    return family.strip(), given.strip()


def _side(stated: set[str]) -> str:
    """L, R, B for both, "" when no instance says."""
    sides = stated & {"L", "R", "B"}
    return sides.pop() if len(sides) == 1 else "B" if sides else ""
