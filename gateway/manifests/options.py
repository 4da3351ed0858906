"""The options of ``poterne manifest``, each with the line that its help shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from indexer.reading import CodeSet, Form, Profile

Paths = Annotated[
    list[Path],
    typer.Argument(metavar="DIR|FILE…", exists=True, help="DICOM files of one study, or folders of them."),
]
Document = Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="KOS or FHIR Bundle.")]
Source = Annotated[Path, typer.Argument(metavar="IN", exists=True, dir_okay=False, help="KOS or FHIR Bundle.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="File to write: .json is FHIR, .dcm is a KOS.")]
KosOut = Annotated[Path | None, typer.Option("--kos", metavar="OUT.dcm", help="Write the KOS there.")]
FhirOut = Annotated[Path | None, typer.Option("--fhir", metavar="OUT.json", help="Write the FHIR Bundle there.")]
ProfileOption = Annotated[
    Profile | None, typer.Option("--profile", help="Rules of the network that the document is for.")
]
FormOption = Annotated[Form | None, typer.Option("--form", help="Form to write, when the name of OUT does not say.")]
Codes = Annotated[
    CodeSet | None, typer.Option("--codes", help="Concepts of a MADO KOS: temporary ones, or those of DICOM.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there already.")]
Ins = Annotated[
    str,
    typer.Option(
        "--ins",
        metavar="MATRICULE|@FILE",
        help="The patient's qualified INS; @FILE keeps it out of the process list.",
    ),
]
InsAuthority = Annotated[str, typer.Option("--ins-authority", metavar="OID", help="Assigning authority of --ins.")]
Qualified = Annotated[
    bool,
    typer.Option("--ins-qualified", help="The INS in the document is qualified: you know it from who made it."),
]
PatientIssuer = Annotated[
    str, typer.Option("--patient-issuer", metavar="OID", help="Who issued PatientID, where nothing says.")
]
Accession = Annotated[str, typer.Option("--accession", help="Accession number, where nothing states one.")]
AccessionIssuer = Annotated[
    str, typer.Option("--accession-issuer", metavar="OID", help="Who issued accession numbers, where nothing says.")
]
PlacerIssuer = Annotated[
    str, typer.Option("--placer-issuer", metavar="OID", help="Who issued placer order numbers, where nothing says.")
]
Institution = Annotated[str, typer.Option("--institution", help="Name of who makes the manifest.")]
InstitutionId = Annotated[str, typer.Option("--institution-id", help="Its identifier (FINESS, SIRET …).")]
InstitutionSystem = Annotated[
    str, typer.Option("--institution-system", metavar="OID", help="Scheme of that identifier.")
]
RetrieveUrl = Annotated[
    str, typer.Option("--retrieve-url", metavar="URL", help="WADO-RS base of the images, without /studies.")
]
RetrieveLocation = Annotated[
    str, typer.Option("--retrieve-location", metavar="OID", help="Retrieve Location UID of the image source.")
]
RetrieveAet = Annotated[str, typer.Option("--retrieve-aet", help="AE title of the image source.")]
ViewerUrl = Annotated[str, typer.Option("--viewer-url", metavar="URL", help="Address that shows the study.")]
Region = Annotated[
    list[str] | None,
    typer.Option("--region", metavar="CODE", help="Coarse region (SNOMED CT); may be repeated."),
]
Zone = Annotated[str, typer.Option("--timezone", help="Zone of times, where the files state no offset.")]
Charset = Annotated[str, typer.Option("--charset", help="Character set of files that state none.")]

INS_AUTHORITY: Literal["1.2.250.1.213.1.4.8"] = "1.2.250.1.213.1.4.8"
CHARSET: Literal["ISO_IR 100"] = "ISO_IR 100"
