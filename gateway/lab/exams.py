"""The invented exams of the demo: who, what, and how each must end.

Each exam is one report as the RIS sends it and one study as the modalities left it in the PACS, with the same
identifiers; two differ on purpose. Pixels are drawn, or those of pydicom's bundled test files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta

from gateway.lab.phantom import LabStudy
from gateway.lab.ris import LabExam, LabOrder, LabPatient, build_oru
from indexer.timeline import ExamState

_ARCS = "1.2.250.1.999.1.1"  # of this invented site


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoExam:
    """One exam: its report, its images, and the end it must come to.

    ``draw``: adds the images to an empty study. ``pacs_birth_date``: what the PACS holds, when it differs.
    """

    number: int
    title: str
    modality: str
    report: LabExam
    draw: Callable[[LabStudy], object]
    in_pacs: bool = True
    pacs_birth_date: date | None = None
    expected: ExamState = ExamState.INDEXED
    expected_reason: str = ""

    @property
    def study(self) -> str:
        """StudyInstanceUID."""
        return self.report.studies[0]

    @property
    def message(self) -> bytes:
        """The ORU^R01 of the report."""
        return build_oru(self.report, control_id=f"DEMO-{self.number}")

    @property
    def patient_cx(self) -> str:
        """The patient as the index knows them (drim-m §5)."""
        patient = self.report.patient
        return f"{patient.matricule}^^^&{patient.ins_oid}&ISO^NH"

    def images(self) -> list[bytes]:
        """The study as Part 10 objects."""
        patient, order = self.report.patient, self.report.orders[0]
        study = LabStudy(
            study_uid=self.study,
            patient_id=patient.ipp,
            issuer=patient.ipp_issuer,
            name=f"{patient.birth_name}^{patient.first_given_name}",
            birth_date=f"{self.pacs_birth_date or patient.birth_date:%Y%m%d}",
            sex=patient.sex,
            accession=order.accession_number,
            description=self.title,
        )
        self.draw(study)
        return [made.data for made in study.objects]


def numbered(exam: DemoExam, number: int) -> DemoExam:
    """The same exam of another study, order and report; the patient stays."""
    return replace(exam, number=number, report=_renumbered(exam.report, number))


def demo_exams(*, altered: bool = False) -> list[DemoExam]:
    """Five exams that must be indexed, one that must be held, one that must wait.

    ``altered``: one trait of the first report is wrong, so that the demo must fail and name it.
    """
    exams = _indexed_exams() + _stopped_exams()
    if altered:
        first = exams[0]
        wrong = replace(first.report.patient, ins=first.report.patient.matricule)
        wrong = replace(wrong, birth_date=wrong.birth_date + timedelta(days=1))
        exams[0] = replace(first, report=replace(first.report, envelope_patient=wrong))
    return exams


def _indexed_exams() -> list[DemoExam]:
    return [
        DemoExam(
            number=1,
            title="Scanner de la tête",
            modality="CT",
            report=_report(1, "CT", ("774007", "tête et cou"), _person("FANTÔME", "ODETTE", "F", date(1961, 4, 12))),
            draw=lambda study: (study.adopt("CT_small.dcm"), study.add_series("CT", instances=12, body_part="HEAD")),
        ),
        DemoExam(
            number=2,
            title="IRM du genou",
            modality="MR",
            report=_report(
                2, "RM", ("61685007", "membre inférieur"), _person("LESPECTRE", "GASPARD", "M", date(1978, 11, 3))
            ),
            draw=lambda study: (study.adopt("MR_small.dcm"), study.add_series("MR", instances=8, body_part="KNEE")),
        ),
        DemoExam(
            number=3,
            title="Radiographie du thorax",
            modality="DX",
            report=_report(
                3, "DX", ("67734004", "tronc supérieur"), _person("REVENANT", "HÉLOÏSE", "F", date(1990, 2, 28))
            ),
            draw=lambda study: study.add_series("DX", instances=2, body_part="CHEST"),
        ),
        DemoExam(
            number=4,
            title="Échographie de l'abdomen",
            modality="US",
            report=_report(
                4, "US", ("63337009", "tronc inférieur"), _person("OMBRE", "BASILE", "M", date(1955, 7, 19))
            ),
            draw=lambda study: study.add_series("US", instances=3, frames=4, body_part="ABDOMEN"),
        ),
        DemoExam(
            number=5,
            title="Scintigraphie de la thyroïde",
            modality="NM",
            report=_report(5, "NM", ("774007", "tête et cou"), _person("MIRAGE", "LÉONIE", "F", date(1983, 9, 1))),
            draw=lambda study: study.add_series("NM", instances=1, body_part="THYROID"),
        ),
    ]


def _stopped_exams() -> list[DemoExam]:
    """One the PACS contradicts, one it does not have."""
    return [
        DemoExam(
            number=6,
            title="Mammographie (autre date de naissance)",
            modality="MG",
            report=_report(6, "MG", ("76752008", "sein"), _person("CHIMÈRE", "AGATHE", "F", date(1969, 12, 24))),
            draw=lambda study: study.add_series("MG", instances=4, body_part="BREAST"),
            pacs_birth_date=date(1996, 12, 24),
            expected=ExamState.HELD,
            expected_reason="identity-birth-date",
        ),
        DemoExam(
            number=7,
            title="Scanner sans images au PACS",
            modality="CT",
            report=_report(
                7, "CT", ("67734004", "tronc supérieur"), _person("ABSENT", "FÉLIX", "M", date(2001, 1, 31))
            ),
            draw=lambda study: study.add_series("CT"),
            in_pacs=False,
            expected=ExamState.WAITING,
            expected_reason="pacs-has-no-such-study",
        ),
    ]


def _person(birth_name: str, given: str, sex: str, born: date) -> LabPatient:
    return LabPatient(
        birth_name=birth_name,
        first_given_name=given,
        given_names=given,
        used_name=birth_name,
        sex=sex,
        birth_date=born,
        rank=born.day,
        ipp=f"IPP-{birth_name[:3]}-{born:%y%m%d}",
        ipp_issuer=f"{_ARCS}.4",
    )


def _report(number: int, modality: str, region: tuple[str, str], patient: LabPatient) -> LabExam:
    return _renumbered(LabExam(patient=patient, modality=modality, region=region), number)


def _renumbered(report: LabExam, number: int) -> LabExam:
    return replace(
        report,
        studies=(f"{_ARCS}.10.{number}",),
        orders=(
            LabOrder(
                accession_number=f"ACN{number:05d}",
                accession_issuer=f"{_ARCS}.5",
                placer_number=f"OPN{number:05d}",
                placer_issuer=f"{_ARCS}.6",
            ),
        ),
        document_id=f"{_ARCS}.11.{number}",
        set_id=f"{_ARCS}.12.{number}",
    )
