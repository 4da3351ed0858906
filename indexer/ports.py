"""What the indexer needs from outside, as small protocols that the gateway's adapters satisfy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from indexer.report import Professional
from indexer.study import CalendarAnswer, StudyAnswer
from security.identity import Uid


class StudySource(Protocol):
    """A PACS that can be asked what a study holds (contract: tests/contract/test_study_source.py)."""

    name: str

    async def find(self, study: Uid) -> StudyAnswer:
        """Ask the PACS. Never raises for what a peer does: that is ``Unknown``."""
        ...


class StudyCalendar(Protocol):
    """A PACS that can list the studies of a day (same contract)."""

    name: str

    async def studies_on(self, day: date) -> CalendarAnswer:
        """Every study whose StudyDate is ``day``, by (time, UID). Never raises for what a peer does; a list that
        may be short is ``Unknown``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Exactly what goes to the index: stored before the first attempt, re-sent unchanged (I5, FF-21).

    ``metadata``: bytes of the ``lcm:SubmitObjectsRequest`` element; ``documents``: bytes by the id that the
    metadata uses; ``unique_id``: XDSDocumentEntry.uniqueId of the manifest. ``is_secret``, ``sender``: what only the
    assertion beside the request says, made anew for each attempt: CONNEXION_SECRETE, and on whose behalf we publish.
    """

    unique_id: str
    metadata: bytes
    documents: Mapping[str, bytes]
    is_secret: bool = False
    sender: Professional | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """A change of one entry (ITI-57), mostly of its availabilityStatus: stored before the first attempt, re-sent
    unchanged (I5).

    ``metadata``: bytes of the ``lcm:SubmitObjectsRequest`` element; ``unique_id``: XDSDocumentEntry.uniqueId of the
    entry, by which the effect is confirmed; ``entry_uuid``: the entry it names.
    """

    unique_id: str
    entry_uuid: str
    metadata: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """RegistryResponse Success."""

    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The index answered clearly and did not take it.

    ``lasting``: True when only other content can succeed (permanent), False when the same bytes may succeed
    later (busy, 503). ``known``: False for a code no table lists: the job is held for a person, never retried
    blindly nor declared dead (reliability §2). ``codes``: ebXML error codes or ``http-<status>``.
    """

    lasting: bool
    known: bool
    codes: tuple[str, ...]
    detail: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """The request did not leave: no connection, TLS refused. The same bytes may be sent again."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ambiguous:
    """The request may have left and no readable answer came back (FF-20, F07, F10)."""

    reason: str
    detail: str


IndexAnswer = Accepted | Rejected | NotSent | Ambiguous


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryVersion:
    """One version of an entry's metadata as the index shows it. ``entry_uuid`` changes with each version,
    ``logical_id`` never; ``repository``: its repositoryUniqueId."""

    entry_uuid: str
    logical_id: str
    version: int
    repository: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFound:
    """The index shows the document. ``status``: availabilityStatus, ``Approved``, ``Deprecated`` or ``Deleted``
    (withdrawn, by an index that still shows what was). ``codes``: its confidentialityCode, None where the answer does
    not tell; ``revision``: which version of its metadata this is, None where the index keeps none."""

    entry_uuid: str
    unique_id: str
    status: str
    codes: frozenset[str] | None = None
    revision: EntryVersion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryAbsent:
    """A clean answer without the document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryUnknown:
    """No conclusion about the document."""

    reason: str
    detail: str


EntryAnswer = EntryFound | EntryAbsent | EntryUnknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One entry of a search. ``created``: creationTime as stated (YYYYMMDDhhmmss, UTC); ``author``: identifier of the
    device that made it (XCN.1 of authorPerson), ``institution``: of the structure it acts for (XON.10 of
    authorInstitution), "" when it states none or several authors; ``patient``: the CX it was searched by."""

    entry: EntryFound
    created: str
    author: str
    institution: str
    patient: str = ""


class IndexSearch(Protocol):
    """An index that can be asked for more than one document at a time. ``spans_patients``: of several patients too
    (ITI-18 refuses that: XDSResultNotSinglePatient)."""

    spans_patients: bool

    async def find_documents(self, unique_ids: Sequence[str]) -> Mapping[str, EntryFound]:
        """What a clean answer shows of these documents, by uniqueId. Of one that is missing from it nothing is known:
        not every index reads a list to its end, so absence is for ``NationalIndex.find_document`` to tell. Never
        raises for what a peer does."""
        ...

    async def find_by_reference(self, patient: str, study: Uid, issuer: str) -> tuple[Listed, ...] | EntryUnknown:
        """Every document of this patient (CX) that refers to the study, withdrawn ones too where the index tells of
        them; no signature. Never raises for what a peer does."""
        ...


class NationalIndex(Protocol):
    """The index, whatever its wire. ``provides``, ``updates``: the transactions by which it takes a submission and a
    change of an entry (``ITI-41``)."""

    provides: str
    updates: str

    async def provide_and_register(self, submission: Submission) -> IndexAnswer:
        """ITI-41. Never raises for what a peer does."""
        ...

    async def update_status(self, change: StatusChange) -> IndexAnswer:
        """ITI-57, status change only. Never raises for what a peer does."""
        ...

    async def find_document(self, unique_id: str) -> EntryAnswer:
        """ITI-18 GetDocuments by uniqueId. Never raises for what a peer does."""
        ...

    async def retrieve_document(self, unique_id: str, repository: str) -> bytes:
        """ITI-43.

        Raises:
            Unavailable, BadInput: no document came back, with the index's own error code in ``code``.
        """
        ...
