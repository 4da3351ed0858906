"""What in a report could name somebody, and what a reader finds in its place."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampler.pseudonym.identifiers import Identifiers
from sampler.texts.narrative import IN_PLACE, Kind, Narrative
from sampler.texts.persons import Labels, Person

KNOWN = Identifiers.stated(
    names=["LEBREMENT-ŒUVRARD^ZOÉ", "SALLANDRE^Théodule"], ids=["180066342156789", "IPP-77120", "ACN4411"]
)
BIRTH = date(1933, 6, 5)
LABELS = Labels([Person(role="médecin réalisateur", id="810000000017", names=("Théodule SALLANDRE",))])
NARRATIVE = Narrative(
    KNOWN, moved=lambda day: day - timedelta(days=70), births=frozenset({BIRTH}), roles=LABELS.by_name()
)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Patiente Zoé LEBREMENT OEUVRARD vue ce jour.", "Patiente [nom] vue ce jour."),
        ("lebrement-œuvrard zoe", "[nom]"),
        ("Œuvrard, Z. et LEBREMENTOEUVRARD", "[nom], Z. et [nom]"),
        ("Dossier IPP-77120, accession ACN4411", "Dossier [identifiant], accession [identifiant]"),
        ("Signé : Dr Théodule Sallandre", "Signé : Dr médecin réalisateur 1"),
        ("SALLANDRE a relu.", "médecin réalisateur 1 a relu."),
        ("Adressée par le Dr Maxence Quillevéré.", "Adressée par le Dr [nom]."),
        ("vu avec M. de Sotteville", "vu avec M. [nom]"),
        ("Née le 5 juin 1933", "Née le [date de naissance]"),
        ("née le 05/06/33.", "née le [date de naissance]."),
        ("Kervadec (05/06/1933)", "Kervadec ([date de naissance])"),
        ("DDN : 05.06.1933", "DDN : [date de naissance]"),
        ("Scanner du 11/03/2024", "Scanner du 01/01/2024"),
        ("IRM du 12 mars 2024, contrôle 2024-03-13, puis 14.03.24", "IRM du 2 janvier 2024, contrôle 2024-01-03, puis 04.01.24"),
        ("le 1er avril 2024", "le 22 janvier 2024"),
        ("Tél : 01 44 53 45 51 ou +33 (0)6.47.15.10.10", "Tél : [téléphone] ou [téléphone]"),
        ("écrire à z.l+1@exemple-mail.fr", "écrire à [courriel]"),
        ("voir https://pacs.exemple.fr/v?id=3", "voir [lien]"),
        ("NIR 1 80 06 63 421 567 89", "NIR [NIR]"),
        ("INS 280062A42156789", "INS [NIR]"),
        ("RPPS : 10001234567", "RPPS : [identifiant]"),
        ("n° dossier AB-20391", "n° dossier [identifiant]"),
        ("12 bis, rue des Lilas, 63000 Clermont-Ferrand.", "[adresse]."),
        ("75012 PARIS cedex 12", "[adresse]"),
        ("Patient de 93 ans", "Patient de 90 ans ou plus"),
        ("Patient de 89 ans", "Patient de 89 ans"),
        ("relu par T.S.", "relu par [initiales]"),
    ],
)  # fmt: skip
def test_what_names_somebody_is_replaced(text: str, redacted: str) -> None:
    assert NARRATIVE.redacted(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "Nodule de 12 mm au segment VI, 3,5 x 4.2 cm, SUV 4,8.",
        "DLP 845,3 mGy.cm ; CTDIvol 12.1 mGy ; 120 kV.",
        "Protrusion discale L4-L5, T2 FLAIR, coupes de 1,25 mm.",
        "ACR BI-RADS 4a. Score 2/5. Rapport 10/12.",
        "Injection de 90 mL à 3 mL/s. Créatininémie 78 µmol/L.",
        "Aucune anomalie. La rate mesure 11 cm.",
    ],
)
def test_findings_stay_as_they_were_written(text: str) -> None:
    assert NARRATIVE.redacted(text) == text


def test_findings_stand_apart_and_cover_what_they_say() -> None:
    text = "Mme Zoé Lebrement-Œuvrard, 4 rue des Lilas 63000 CLERMONT, 01 44 53 45 51"
    found = NARRATIVE.findings(text)
    assert [one.kind for one in found] == [Kind.NAME, Kind.ADDRESS, Kind.PHONE]
    assert all(before.end <= after.start for before, after in pairwise(found))


@given(st.text(max_size=80), st.sampled_from(["zoé", "LEBREMENT", "Oeuvrard", "ACN4411"]), st.text(max_size=80))
def test_a_known_value_never_stays_whatever_stands_around_it(before: str, value: str, after: str) -> None:
    text = f"{before} {value} {after}"
    assert not KNOWN.found_in(NARRATIVE.redacted(text))


@given(st.text(max_size=200))
def test_text_without_findings_is_untouched_and_placeholders_are_not_found_again(text: str) -> None:
    redacted = NARRATIVE.redacted(text)
    if not NARRATIVE.findings(text):
        assert redacted == text
    assert all(
        NARRATIVE.redacted(f"vu {placeholder} ici") == f"vu {placeholder} ici" for placeholder in IN_PLACE.values()
    )


def test_a_name_of_two_persons_tells_neither() -> None:
    labels = Labels(
        [
            Person(role="médecin réalisateur", id="1", names=("Alix MARTIN",)),
            Person(role="médecin signataire", id="2", names=("Paul MARTIN",)),
            Person(role="auteur", id="1", names=("Alix MARTIN",)),
        ]
    )
    assert labels.by_name() == {"alix": "médecin réalisateur 1", "paul": "médecin signataire 1"}
