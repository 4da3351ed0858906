"""The KOS of XDS-I.b (IHE RAD TF-3 4.68): what the standard has, and where each series is fetched.

Decisions:

* Retrieve AE Title and Retrieve Location UID are demanded (readers look the source up by either); RetrieveURL is the
  WADO-RS base, left out when the site has none;
* an exam without order or accession number can be shared: the attribute is of type 2.
"""

from __future__ import annotations

from collections.abc import Iterable

from indexer.kos.concepts import MANIFEST, concept
from indexer.kos.encoding import Element, cut, fixed
from indexer.kos.patient import primary
from indexer.kos.variant import (
    Variant,
    address_of,
    ae_title,
    check_base,
    check_instances,
    location,
    no_instance_element,
    nothing,
    references,
)
from indexer.manifest import StudyManifest
from indexer.report import Organization
from indexer.study import Series
from security.identity import Ins, LocalId


def _patient(manifest: StudyManifest) -> Ins | LocalId:
    first = primary(manifest.patient)
    check_instances(manifest)
    return first


def _institution(institution: Organization) -> Element:
    return cut(0x00080080, "LO", institution.name)


def _series(manifest: StudyManifest, series: Series) -> Iterable[Element]:
    address = address_of(manifest, series)
    yield ae_title(address.ae_title)
    yield location(address.location)
    if address.base:
        check_base(address.base)
        yield fixed(0x00081190, "UR", address.base.rstrip("/"))


VARIANT = Variant(
    patient=_patient,
    national=nothing,
    accession=True,
    institution=_institution,
    series=_series,
    instance=no_instance_element,
    study=nothing,
    title=concept(MANIFEST),
    items=lambda manifest: references(manifest.series),
    codes=nothing,
)
