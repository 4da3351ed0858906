"""Rejection notes that came by C-STORE (IHE RAD-66, IOCM): read from the inbox, judged, and told to the exams.

A note counts wherever it was sent: under the AE title of rejection notes, or among the objects of a study, where a
key object is looked at for its title. Under the AE title of notes everything else is refused.

Invariants:

* a note's row, what it rejects, the evidence, the audit row and the question to the PACS are one transaction;
* what is no note that can be obeyed stays in quarantine with its reason, and its sender hears why; nothing follows;
* the work is done from rows: what a crash left unread is read at the next look, and once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import structlog

from gateway.dimse import inbox
from gateway.dimse.command import Status
from gateway.dimse.inbox import ZONE, ObjectKind, Unread
from gateway.dimse.services import Failure
from indexer.admission import Admission, Carrier
from indexer.decision import Arrival
from indexer.imaging.rejections import Outcome, Rejections, Standing
from indexer.kos.rejection import RejectionNote, read_rejection
from security import audit
from security.clock import Clock
from security.errors import BadInput, Broken
from security.store.port import Store, Tx

log = structlog.get_logger()

NOTE_BYTES_MAX = 8 * 1024**2
"""The largest key object that is read whole: more than 20,000 instances."""
NOT_ALLOWED = "rejection-not-allowed"
TOO_LARGE = "rejection-too-large"
_OTHER_OBJECTS = frozenset({"iocm-not-kos", "iocm-title"})


class Notes:
    """Reads the key objects of one tenant (``storage.KeyObjects``). ``peers``: whose notes count; ``read_object``:
    the bytes of a file in the inbox."""

    def __init__(
        self,
        *,
        admission: Admission,
        store: Store,
        peers: Collection[str],
        read_object: Callable[[str], bytes],
        clock: Clock,
        nudge: Callable[[], None],
    ) -> None:
        self._admission = admission
        self._tenant = admission.tenant
        self._store = store
        self._peers = frozenset(peers)
        self._read_object = read_object
        self._clock = clock
        self._nudge = nudge
        self._rejections = Rejections(tenant=admission.tenant, ledger=admission.ledger, rules=admission.rules)

    async def take(self, one: Unread) -> None:
        """Read a key object; obey it if it is a rejection note.

        Raises:
            Failure: as ``storage.KeyObjects``.
            Unavailable, Broken: the store; it is still unread.
        """
        try:
            note = await asyncio.to_thread(self._read, one)
        except BadInput as fault:
            await self._not_a_note(one, fault)
            return
        except Broken as fault:
            await self._set_aside(one, fault.code)
            raise Failure(Status.PROCESSING_FAILURE, "kept, but it cannot be read again: send it again") from fault
        if one.peer not in self._peers:
            await self._set_aside(one, NOT_ALLOWED)
            raise Failure(Status.NOT_AUTHORIZED, "kept, not obeyed: this peer may not reject")
        outcome = await self._store.write(lambda tx: self._obey(tx, one, note))
        self._nudge()
        if outcome.standing is Standing.REFUSED:
            raise Failure(Status.CANNOT_UNDERSTAND, f"kept, not obeyed: {outcome.reason}")

    def _read(self, one: Unread) -> RejectionNote:
        if one.size > NOTE_BYTES_MAX:
            raise BadInput(
                f"key object of {one.size} bytes, at most {NOTE_BYTES_MAX} are read",
                code=TOO_LARGE,
                hint="the sender must reject in several notes",
            )
        return read_rejection(self._read_object(one.file))

    async def _not_a_note(self, one: Unread, fault: BadInput) -> None:
        """Among the objects of a study a key object of another title is one of them; else it is refused."""
        if fault.code in _OTHER_OBJECTS and not one.is_note:
            now = self._clock.now()
            await self._store.write(lambda tx: inbox.read_as(tx, self._tenant, one, ObjectKind.OBJECT, now=now))
            return
        await self._set_aside(one, fault.code)
        status = Status.DATA_SET_MISMATCH if fault.code in _OTHER_OBJECTS else Status.CANNOT_UNDERSTAND
        raise Failure(status, f"kept, not obeyed: {fault.code}") from fault

    def _obey(self, tx: Tx, one: Unread, note: RejectionNote) -> Outcome:
        """Everything a note changes."""
        now = self._clock.now()
        outcome = self._rejections.take(tx, note, peer=one.peer, zone=ZONE, now=now)
        if outcome.standing is Standing.REFUSED:
            self._aside(tx, one, outcome.reason)
            return outcome
        inbox.read_as(tx, self._tenant, one, ObjectKind.DONE, now=now)
        by = Carrier(control_id=note.unique_id, zone=ZONE, at=now)
        for study in outcome.studies:
            self._admission.announce(tx, study, Arrival.IMAGES_REJECTED, by)
        for rejected in note.studies:
            self._audit(
                tx, one, rejected.study, "dicom.rejection-noted", f"{note.title} {len(rejected.instances)}", outcome=0
            )
        return outcome

    async def _set_aside(self, one: Unread, reason: str) -> None:
        await self._store.write(lambda tx: self._aside(tx, one, reason))

    def _aside(self, tx: Tx, one: Unread, reason: str) -> None:
        """Keep it for a person."""
        log.warning("dimse-note-refused", peer=one.peer, reason=reason)
        inbox.read_as(tx, self._tenant, one, ObjectKind.OBJECT, reason=reason, now=self._clock.now())
        self._audit(tx, one, one.study, "dicom.quarantined", f"1 {reason}", outcome=4)

    def _audit(self, tx: Tx, one: Unread, study: str, event: str, detail: str, *, outcome: int) -> None:
        audit.append(
            tx,
            audit.AuditRecord(
                tenant=self._tenant,
                zone=ZONE,
                at=self._clock.now(),
                event=event,
                actor=f"pacs-peer {one.peer}".strip(),
                outcome=outcome,
                object_type="study",
                object_id=study,
                detail=detail,
            ),
        )
