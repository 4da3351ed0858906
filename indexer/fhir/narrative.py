"""The narrative of a manifest: XHTML for people, made from the manifest's own values (FHIR R4 2.4 Narrative).

Invariants:

* nothing but the tags written here: every value is escaped, and loses the characters that XML 1.0 forbids;
* no link, no image, no style: a reader that shows it fetches nothing;
* it says nothing that the coded part does not say. Labels are French, as those of the KOS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from indexer.manifest import StudyManifest
from indexer.study import Series

Row = tuple[str, str]

_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Text for people: what neither JSON in UTF-8 nor XML 1.0 can carry becomes a blank, blanks at the edges go."""
    return _NO_XML.sub(" ", text).strip()


def study_narrative(manifest: StudyManifest, *, title: str, started: str) -> dict[str, str]:
    """Narrative of the Composition. ``started``: as ImagingStudy.started, "" when the study states no date."""
    traits = manifest.patient.traits
    return _narrative(
        (
            ("Examen", title),
            ("Patient", f"{traits.birth_name} {traits.first_given_name}"),
            ("Date de naissance", f"{traits.birth_date:%d/%m/%Y}" if traits.birth_date else ""),
            ("Date de l'examen", started),
            ("Modalités", ", ".join(manifest.modalities)),
            ("Actes", ", ".join(one.display or one.code for one in manifest.procedures)),
            ("Régions", ", ".join(one.display or one.code for one in manifest.regions)),
            ("Numéros d'examen", ", ".join(order.accession_number for order in manifest.orders)),
            ("Nombre de séries", str(len(manifest.series))),
            ("Identifiant de l'examen", manifest.study),
        )
    )


def series_narrative(series: Series) -> dict[str, str]:
    """Narrative of one section: what MADO asks to be told of a series."""
    region = series.region.display or series.region.code if series.region else series.body_part
    return _narrative(
        (
            ("Modalité", series.modality),
            ("Description", series.description),
            ("Région", region),
            ("Latéralité", {"L": "gauche", "R": "droite", "B": "bilatérale"}.get(series.laterality, "")),
            ("Nombre d'objets", str(len(series.instances))),
            ("Identifiant de la série", series.uid),
        )
    )


def _narrative(rows: Iterable[Row]) -> dict[str, str]:
    shown = ((label, printable(value)) for label, value in rows)
    cells = "".join(f"<tr><th>{escape(label)}</th><td>{escape(value)}</td></tr>" for label, value in shown if value)
    return {
        "status": "generated",
        "div": f'<div xmlns="http://www.w3.org/1999/xhtml" lang="fr" xml:lang="fr"><table>{cells}</table></div>',
    }
