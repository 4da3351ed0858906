"""The rules of a Key Object Selection manifest, in its three profiles (PS3.3 A.35.4, XDS-I.b, MADO, drim-m).

``kos.encode`` refuses by these ids, ``kos.read`` refuses and notes by them, ``kos.check`` holds a document against
all of them. ``error``: a reader may refuse or misread the document, so the writer never writes it.
"""

from __future__ import annotations

from typing import Literal

from indexer.rules import Rule

_MADO = "IHE RAD MADO 6.X.2"
_XDSI = "IHE RAD TF-3 4.68.4.1.2"
_DRIM = "drim-m §4"
_CONTENT = "PS3.3 C.17.3"
_EVIDENCE = "PS3.3 C.17.6.2"
_TID = "PS3.16 TID 2010"
_LIBRARY = "PS3.16 TID 1600"


def _rule(severity: Literal["error", "warning", "note"], name: str, clause: str, *, says: str, remedy: str) -> Rule:
    return Rule(id=name, severity=severity, clause=clause, says=says, remedy=remedy)


_OBJECT = (
    _rule("error", "kos-not-kos", "PS3.3 A.35.4", says="the SOP class is Key Object Selection Document Storage",
          remedy="send the manifest, not another object of the study"),
    _rule("error", "kos-iocm", "IHE RAD TF-3 4.68 / IOCM",
          says="the title is no rejection note (113001, 113037, 113038, 113039)",
          remedy="apply the rejection at the archive; never share it as a manifest"),
    _rule("error", "kos-title", "PS3.16 CID 7010", says="the title is 113030 Manifest, or Manifest with Description",
          remedy="give the document the title of its profile"),
    _rule("note", "kos-title-meaning", "PS3.16 CID 7010", says="the meaning of 113030 is written Manifest",
          remedy="write the meaning as DICOM has it"),
    _rule("error", "kos-mado-code", _MADO, says="a concept of MADO has its code of 99IHE or of DCM",
          remedy="use the codes of one published set"),
    _rule("error", "kos-codes-mixed", _MADO, says="all concepts of MADO are of one code set",
          remedy="write temporary codes or final ones, never both"),
    _rule("error", "kos-uid", "PS3.5 9.1", says="every unique identifier is there and well-formed",
          remedy="correct the identifier at its source: digits and dots, at most 64"),
    _rule("error", "kos-content-date", "PS3.3 C.17.6.2", says="ContentDate says when the document was made",
          remedy="write ContentDate and ContentTime"),
    _rule("error", "kos-no-series", "PS3.3 C.17.6.1", says="the document has a series of its own",
          remedy="give the document a new SeriesInstanceUID"),
    _rule("error", "kos-own-series", "PS3.3 C.17.6.1", says="the document's series is none of those it lists",
          remedy="give the document a new SeriesInstanceUID"),
    _rule("error", "kos-type-1", "PS3.3 A.35.4", says="every attribute of type 1 is there with a value it may have",
          remedy="write the attribute"),
    _rule("error", "kos-type-2", "PS3.3 A.35.4", says="every attribute of type 2 is there, empty when unknown",
          remedy="write the attribute, empty if need be"),
    _rule("error", "kos-foreign", "PS3.3 A.35.4", says="the document has no pixels, overlays, curves or waveforms",
          remedy="remove what belongs to images"),
    _rule("warning", "kos-general", "PS3.3 C.17.2",
          says="CompletionFlag and VerificationFlag belong to reports, not to this document",
          remedy="remove both"),
    _rule("error", "kos-identical-documents", _EVIDENCE,
          says="a manifest of one study has no Identical Documents Sequence",
          remedy="remove the sequence"),
    _rule("note", "kos-transfer-syntax", "PS3.5 A.2", says="the document is written in Explicit VR Little Endian",
          remedy="write it in Explicit VR Little Endian"),
    _rule("note", "kos-charset", "PS3.3 C.12.1.1.2", says="the document is written in UTF-8 (ISO_IR 192)",
          remedy="write ISO_IR 192"),
    _rule("error", "kos-charset-exact", "PS3.5 6.1", says="text keeps to the character set that the document states",
          remedy="state the character set that the text was written in"),
    _rule("warning", "kos-blanks", "PS3.5 6.2", says="a value has no blanks around it but the padding of its VR",
          remedy="trim values before writing"),
    _rule("error", "kos-text", "PS3.5 6.2", says="text that identifies fits its VR whole",
          remedy="correct it at its source: it is never cut"),
    _rule("warning", "kos-place", "PS3.3 A.35.4", says="every element stands where its module has it",
          remedy="move the element"),
    _rule("warning", "kos-number", "PS3.5 6.2", says="a number is a whole number",
          remedy="write digits alone"),
    _rule("warning", "kos-date", "PS3.5 6.2", says="dates, times and offsets have the form of their VR",
          remedy="write YYYYMMDD, HHMMSS, ±HHMM"),
    _rule("error", "kos-code", "PS3.3 8.1", says="a code has its value and its system",
          remedy="write CodeValue and CodingSchemeDesignator"),
    _rule("warning", "kos-scheme", "PS3.3 C.12.1.1.11",
          says="a code system that DICOM does not name is identified by its OID",
          remedy="add it to Coding Scheme Identification Sequence"),
)  # fmt: skip

_STUDY = (
    _rule("error", "kos-no-study", _EVIDENCE, says="the evidence names its study",
          remedy="write StudyInstanceUID in the evidence"),
    _rule("error", "kos-several-studies", _MADO, says="one manifest is of one study",
          remedy="write one manifest for each study"),
    _rule("error", "kos-study-mismatch", _XDSI, says="the document belongs to the study it lists",
          remedy="write the study's UID at both places"),
    _rule("error", "kos-no-instance", _EVIDENCE, says="instances are listed",
          remedy="withdraw the manifest of a study that is empty"),
    _rule("error", "kos-series-empty", _EVIDENCE, says="every series listed has an instance",
          remedy="leave the series out"),
    _rule("error", "kos-duplicate-instance", _EVIDENCE, says="no series and no instance is listed twice",
          remedy="list each once"),
    _rule("error", "kos-self-reference", _XDSI, says="the document does not list itself",
          remedy="leave the manifest out of its own evidence"),
    _rule("warning", "kos-evidence-items", _EVIDENCE, says="the evidence has one item for its study",
          remedy="put all series in one item"),
    _rule("error", "kos-study-date", _MADO, says="StudyDate and StudyTime have values",
          remedy="correct the study at the archive"),
    _rule("error", "kos-timezone", "PS3.3 C.12.1.1.8", says="TimezoneOffsetFromUTC says in which zone the times are",
          remedy="write the offset in force at the study"),
    _rule("error", "kos-institution", _MADO, says="InstitutionName says who made the manifest",
          remedy="set the institution of the tenant"),
    _rule("error", "kos-required", _MADO, says="every attribute that the profile demands has a value",
          remedy="write the attribute"),
)  # fmt: skip

_PATIENT = (
    _rule("error", "kos-no-patient-id", "PS3.3 C.7.1.1", says="PatientID names the patient",
          remedy="publish under an identifier of the sharing domain"),
    _rule("error", "kos-no-ins", _DRIM, says="the patient is named by a qualified INS",
          remedy="qualify the identity, then release the exam"),
    _rule("error", "kos-authority", "drim-m §11", says="the INS has a known assigning authority",
          remedy="correct the OID of the authority"),
    _rule("error", "kos-other-ins", "drim-m §11", says="one patient has one INS",
          remedy="find out which matricule is the patient's"),
    _rule("error", "kos-no-trait", _DRIM, says="birth name, first given name, sex and birth date are there",
          remedy="complete the identity"),
    _rule("error", "kos-patient-issuer", _MADO, says="every patient identifier has the OID of its issuer",
          remedy="write Issuer of Patient ID Qualifiers Sequence"),
    _rule("error", "kos-other-ids", _MADO, says="Other Patient IDs repeats the primary identifier",
          remedy="write it as an item of Other Patient IDs Sequence"),
    _rule("error", "kos-issuer-form", "PS3.3 10.14", says="an issuer is an OID",
          remedy="write the OID of the issuer, type ISO"),
    _rule("warning", "kos-sex", "PS3.3 C.7.1.1", says="PatientSex is M, F or O",
          remedy="write a term of DICOM"),
    _rule("note", "kos-name", "PS3.5 6.2.1", says="of a name, family and first given name are carried",
          remedy="nothing, if the other parts may be lost"),
)  # fmt: skip

_ORDERS = (
    _rule("error", "kos-no-accession", f"{_DRIM}; {_MADO}",
          says="every order has an accession number, and there is an order",
          remedy="have the order's number stated by the report, or give the study one and keep it"),
    _rule("error", "kos-accession", _XDSI,
          says="AccessionNumber of the study is the only one, empty when there are several (drim-m: always)",
          remedy="write it in Referenced Request Sequence"),
    _rule("error", "kos-accession-issuer", _MADO, says="every accession number has the OID of its issuer",
          remedy="write Issuer of Accession Number Sequence"),
    _rule("error", "kos-placer-issuer", _MADO, says="every placer order number has the OID of its issuer",
          remedy="write Order Placer Identifier Sequence"),
    _rule("warning", "kos-request-twice", _MADO,
          says="one request item stands for each pair of accession and placer number",
          remedy="list each pair once"),
    _rule("error", "kos-request-study", "PS3.3 C.17.6.2", says="every request names the study of the manifest",
          remedy="write the study's UID in the request"),
)  # fmt: skip

_RETRIEVAL = (
    _rule("error", "kos-retrieve-base", _MADO, says="the WADO-RS base is an http(s) address without /studies",
          remedy="set the base address of the tenant"),
    _rule("error", "kos-retrieve-http", "PS3.3 10.3", says="RetrieveURL is an http(s) address",
          remedy="write the address of the WADO-RS service"),
    _rule("error", "kos-retrieve-none", _DRIM, says="every series has its RetrieveURL",
          remedy="write the address of the series"),
    _rule("error", "kos-retrieve-form", f"{_DRIM}; {_MADO}",
          says="RetrieveURL is the base (drim-m: down to /studies/…/series/…)",
          remedy="write the form of the profile"),
    _rule("error", "kos-retrieve-other", _DRIM, says="RetrieveURL is that of this study and series",
          remedy="write the address of the series it stands at"),
    _rule("warning", "kos-retrieve-slash", _MADO, says="RetrieveURL does not end in a slash",
          remedy="leave the slash out"),
    _rule("warning", "kos-retrieve-level", "PS3.3 10.3", says="RetrieveURL stands at each series",
          remedy="move it to the series"),
    _rule("error", "kos-location", f"{_XDSI}; {_MADO}", says="every series has its Retrieve Location UID",
          remedy="set the OID of the image source"),
    _rule("error", "kos-ae-title", _XDSI, says="every series has its Retrieve AE Title, 1 to 16 characters",
          remedy="set the AE title of the image source"),
    _rule("error", "kos-viewer-url", _MADO, says="Display URI is an http(s) address",
          remedy="set the address of the viewer"),
)  # fmt: skip

_TREE = (
    _rule("error", "kos-evidence-tree", _XDSI, says="the tree refers to exactly the instances of the evidence",
          remedy="list each instance at both places"),
    _rule("error", "kos-value-type", _CONTENT, says="a reference has the value type of its SOP class",
          remedy="write IMAGE for images, WAVEFORM for waveforms, COMPOSITE for the rest"),
    _rule("error", "kos-relationship", _TID,
          says="references and containers are contained, descriptors are acquisition context",
          remedy="write the relationship of the template"),
    _rule("error", "kos-by-reference", _TID, says="no item points at another one",
          remedy="repeat the item"),
    _rule("warning", "kos-purpose", _TID, says="a reference has no purpose",
          remedy="remove Purpose of Reference Code Sequence"),
    _rule("error", "kos-continuity", _CONTENT, says="every container has ContinuityOfContent",
          remedy="write SEPARATE in every container"),
    _rule("error", "kos-template", _CONTENT, says="Content Template Sequence says DCMR 2010",
          remedy="write the template"),
    _rule("warning", "kos-item", _TID, says="the template has no other container than the Image Library",
          remedy="remove the container"),
    _rule("error", "kos-note", _DRIM,
          says="a key-image note told beside an image has its instance and title, and is listed",
          remedy="list the note, or do not tell of it"),
    _rule("note", "kos-modality", _DRIM, says="the text for people states the modality of each series",
          remedy="write the line of each series"),
    _rule("note", "kos-series-number", _DRIM, says="every series has its SeriesNumber",
          remedy="write it where the images have it"),
)  # fmt: skip

_DESCRIPTION = (
    _rule("error", "kos-library", _LIBRARY, says="Manifest with Description has one Image Library, Manifest none",
          remedy="give the document the title of what it holds"),
    _rule("error", "kos-evidence-library", _MADO, says="the library has exactly the instances of the evidence",
          remedy="list each instance at both places"),
    _rule("error", "kos-group", _MADO, says="every series has one group of its own, and every instance a group",
          remedy="write one Image Library Group for each series"),
    _rule("error", "kos-count", _MADO, says="the counts are those of the evidence",
          remedy="count what is listed"),
    _rule("error", "kos-count-text", "CP-2595", says="a count is a NUM",
          remedy="write NUM with its unit"),
    _rule("error", "kos-sibling", "PS3.16 TID 1601", says="an instance's descriptors are its children",
          remedy="move them into the item of the instance"),
    _rule("error", "kos-library-modality", _MADO, says="the library states the modalities of the study",
          remedy="write one Modality for each"),
    _rule("error", "kos-no-region", _MADO, says="the library states a coarse region of the study",
          remedy="have the report state a region, or the images their body part"),
    _rule("error", "kos-series-modality", _MADO, says="every series has its modality",
          remedy="correct the series at the archive"),
    _rule("warning", "kos-laterality", "PS3.16 CID 244", says="a laterality is a code of CID 244",
          remedy="write left, right or both"),
)  # fmt: skip

RULES = (*_OBJECT, *_STUDY, *_PATIENT, *_ORDERS, *_RETRIEVAL, *_TREE, *_DESCRIPTION)
"""All of them; ids are unique."""
