"""The lab PACS: a real DICOM node with its own state, and faults on demand.

It answers C-ECHO, C-STORE and C-FIND (Study Root, three levels) on 127.0.0.1 only; ``gateway.lab.pacs_http`` shows
the same rows by QIDO-RS and as Orthanc does. Its state is a folder of Part 10 files, read again at start.

Invariants:

* C-STORE is answered 0x0000 only when the object is on stable storage (FF-01);
* file names are hashes, never text from a peer (T07);
* an upper level's unique key is demanded, as non-relational PACS do (PS3.4 C.4.1.2.2.1, FF-12);
* ``fault`` may be set at any time and holds for the next request.

Run on its own: ``python -m gateway.lab.pacs_http --aet LABPACS --port 0 --http-port 0 --dir D [--fault NAME]`` prints
one JSON line ``{"aet": …, "port": …, "http_port": …}`` when ready and ends cleanly on SIGTERM; ``PacsProcess`` does
so for a lab site.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # the library makes these names at import
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)
from pynetdicom.transport import ThreadedAssociationServer

from security.errors import BadInput
from security.identity import Uid
from security.parse.dicom import charsets, parse_untrusted, text

STUDY = (
    "StudyInstanceUID", "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "AccessionNumber", "StudyDate", "StudyTime", "StudyDescription", "StudyID", "ReferringPhysicianName",
)  # fmt: skip
SERIES = (
    "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "BodyPartExamined", "SeriesDate",
    "SeriesTime", "Laterality",
)  # fmt: skip
IMAGE = ("SOPInstanceUID", "SOPClassUID", "InstanceNumber", "NumberOfFrames")
COUNTS = ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances")
_LEVELS = {  # level: keys it knows, its unique key, unique keys it demands
    "STUDY": (STUDY, "StudyInstanceUID", ()),
    "SERIES": (STUDY + SERIES, "SeriesInstanceUID", ("StudyInstanceUID",)),
    "IMAGE": (STUDY + SERIES + IMAGE, "SOPInstanceUID", ("StudyInstanceUID", "SeriesInstanceUID")),
}
_LOCALISED_VR = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})  # PS3.5 6.1.2.3

Row = Mapping[str, str]


class PacsFault(StrEnum):
    """How the PACS misbehaves: by C-FIND; then by HTTP (QIDO-RS and Orthanc alike), where a row is one of a list."""

    REFUSE = "refuse"  # rejects every association; 403
    HANG = "hang"  # takes the question and never answers
    ABORT_MID_FIND = "abort-mid-find"  # one match, then A-ABORT; one row, then a reset inside the body
    FAIL_STATUS = "fail-status"  # one match, then 0xC001; 500
    EMPTY = "empty"  # Success, no match, whatever is asked; a clean empty list
    NO_COUNTS = "no-counts"  # leaves the counts empty
    WRONG_COUNTS = "wrong-counts"  # counts one too many
    LATIN1 = "latin1"  # answers in ISO_IR 100, and says so; JSON in Latin-1 with charset=iso-8859-1
    LATIN1_UNLABELLED = "latin1-unlabelled"  # answers in ISO_IR 100 without (0008,0005); without charset
    LATIN1_MISLABELLED = "latin1-mislabelled"  # answers in ISO_IR 100 and says ISO_IR 192; charset=utf-8
    PENDING_FOREVER = "pending-forever"  # matches without end; a body without end
    SLOW = "slow"  # half a second before each match or row (``slow_s``)
    IGNORES_KEYS = "ignores-keys"  # answers with everything it holds
    IGNORES_OFFSET = "ignores-offset"  # nothing of C-FIND; QIDO-RS gives the first page again, Orthanc pages nothing
    NO_UIDS = "no-uids"  # leaves SOPInstanceUID empty


class _Server(ThreadedAssociationServer):
    """The library's listener, which ends within a tenth of a second."""

    def serve_forever(self, poll_interval: float = 0.1) -> None:
        super().serve_forever(poll_interval)


class _Node(AE):
    def make_server(self, *arguments: Any, **options: Any) -> Any:
        return super().make_server(*arguments, **(options | {"server_class": _Server}))


class LabPacs:
    """The node. Use as a context manager, or ``start`` and ``stop``."""

    def __init__(self, folder: Path, *, aet: str = "LABPACS", port: int = 0, fault: PacsFault | None = None) -> None:
        self.aet = aet
        self.port = port
        self.fault = fault
        self.slow_s = 0.5
        self._folder = folder
        self._lock = threading.Lock()
        self._rows: dict[str, Row] = {}  # by SOPInstanceUID
        self._stopping = threading.Event()
        self._entity = _Node(ae_title=aet)
        self._entity.require_called_aet = True
        self._entity.maximum_associations = 50
        self._entity.add_supported_context(Verification)
        self._entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        for context in AllStoragePresentationContexts:
            self._entity.add_supported_context(context.abstract_syntax or "", ALL_TRANSFER_SYNTAXES)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Read the folder, then listen; ``port`` holds the real port afterwards."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._folder.glob("*.dcm")):
            row = _row(path)
            self._rows[row["SOPInstanceUID"]] = row
        server = self._entity.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, _on_open),
                (evt.EVT_REQUESTED, self._on_requested),
                (evt.EVT_C_ECHO, lambda _event: 0x0000),
                (evt.EVT_C_STORE, self._on_store),
                (evt.EVT_C_FIND, self._on_find),
            ],
        )
        assert server is not None  # block=False returns it
        self.port = server.server_address[1]

    def stop(self) -> None:
        """Close the listener and every association. Idempotent."""
        self._stopping.set()
        self._entity.shutdown()

    def store(self, data: bytes) -> Uid:
        """Keep one Part 10 object durably, as C-STORE does; the same SOPInstanceUID replaces. Returns it.

        Raises:
            BadInput: not readable as DICOM, or without its UIDs.
        """
        row = _row(data)
        name = hashlib.sha256(row["SOPInstanceUID"].encode()).hexdigest()
        part = self._folder / f"{name}.part{threading.get_ident()}"
        with part.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        part.rename(self._folder / f"{name}.dcm")
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        with self._lock:
            self._rows[row["SOPInstanceUID"]] = row
        return Uid(row["SOPInstanceUID"])

    def load(self, objects: Iterable[bytes | Path]) -> None:
        """Keep many, given as bytes or files."""
        for data in objects:
            self.store(data.read_bytes() if isinstance(data, Path) else data)

    def data_set(self, sop_instance: str) -> Dataset:
        """The whole header of an object it holds."""
        name = hashlib.sha256(sop_instance.encode()).hexdigest()
        return parse_untrusted(self._folder / f"{name}.dcm", what="object of the lab PACS")

    def delete_study(self, study_uid: str) -> None:
        """Remove a study for good."""
        with self._lock:
            gone = [uid for uid, row in self._rows.items() if row["StudyInstanceUID"] == study_uid]
            for uid in gone:
                del self._rows[uid]
        for uid in gone:
            (self._folder / f"{hashlib.sha256(uid.encode()).hexdigest()}.dcm").unlink()

    def _on_requested(self, event: evt.Event) -> None:
        if self.fault is PacsFault.REFUSE:
            event.assoc.acse.send_reject(0x02, 0x03, 0x01)  # transient, presentation, temporary congestion
            event.assoc.kill()

    def _on_store(self, event: evt.Event) -> int:
        try:
            self.store(event.encoded_dataset())
        except BadInput:
            return 0xC000  # cannot understand
        except OSError:
            return 0xA700  # out of resources
        return 0x0000

    def _on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        fault = self.fault
        if fault is PacsFault.HANG:
            self._stopping.wait()
            return
        if fault is PacsFault.EMPTY:
            yield 0x0000, None
            return
        wanted = event.identifier
        keys = _keys(wanted)
        level = keys.get("QueryRetrieveLevel", "")
        if level not in _LEVELS or not all(keys.get(key) for key in _LEVELS[level][2]):
            yield 0xA900, None  # identifier does not match SOP class
            return
        matches = self.matches(level, {} if fault is PacsFault.IGNORES_KEYS else keys)
        for row in endless(matches) if fault is PacsFault.PENDING_FOREVER else matches:
            if not event.assoc.is_established or self._stopping.wait(self.pause_s(fault)):
                return
            yield 0xFF00, _answer(wanted, row, fault)
            if fault is PacsFault.ABORT_MID_FIND:
                event.assoc.abort()
                return
            if fault is PacsFault.FAIL_STATUS:
                yield 0xC001, None
                return
        yield 0x0000, None

    def pause_s(self, fault: PacsFault | None) -> float:
        """Seconds to wait before a row."""
        return {PacsFault.SLOW: self.slow_s, PacsFault.PENDING_FOREVER: 0.001}.get(fault, 0.0) if fault else 0.0

    def matches(self, level: str, keys: Row) -> list[Row]:
        """The rows of a level (STUDY, SERIES or IMAGE) that match, with the counts of their study."""
        known, unique, _demanded = _LEVELS[level]
        with self._lock:
            held = list(self._rows.values())
        found: dict[str, dict[str, str]] = {}
        for row in held:
            if all(_fits(keys.get(key, ""), row[key], dictionary_VR(key)) for key in known):
                found.setdefault(row[unique], {key: row[key] for key in known})
        for match in found.values():
            in_study = [row for row in held if row["StudyInstanceUID"] == match["StudyInstanceUID"]]
            series = {row["SeriesInstanceUID"] for row in in_study}
            match["NumberOfStudyRelatedSeries"] = str(len(series))
            match["NumberOfStudyRelatedInstances"] = str(len(in_study))
            match["ModalitiesInStudy"] = "\\".join(sorted({row["Modality"] for row in in_study}))
            if level != "STUDY":
                same = [row for row in in_study if row["SeriesInstanceUID"] == match["SeriesInstanceUID"]]
                match["NumberOfSeriesRelatedInstances"] = str(len(same))
        return list(found.values())


def _on_open(event: evt.Event) -> None:
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class PacsProcess:
    """The lab PACS as a process of its own, filled by C-STORE as a modality would."""

    def __init__(self, process: subprocess.Popen[str], *, aet: str, port: int, http_port: int) -> None:
        self._process = process
        self.aet = aet
        self.port = port
        self.http_port = http_port

    @classmethod
    def start(cls, folder: Path, *, fault: PacsFault | None = None) -> Self:
        """Start it on a free port and wait until it listens.

        Raises:
            RuntimeError: it ended before it was ready.
        """
        command = [sys.executable, "-m", "gateway.lab.pacs_http", "--dir", str(folder)]
        command += ["--fault", fault] if fault else []
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None  # a pipe was asked for
        ready = process.stdout.readline()
        if not ready:
            process.stdout.close()
            raise RuntimeError(f"the lab PACS ended with code {process.wait()} before it was ready")
        return cls(process, **json.loads(ready))

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> int:
        """SIGTERM, then wait; returns the exit code. Idempotent."""
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.terminate()
        return self._process.wait(30)

    def settings(self, kind: Literal["dimse", "dicomweb", "orthanc"] = "dimse") -> dict[str, Any]:
        """The section of a gateway's configuration that reaches this PACS by that door."""
        if kind != "dimse":
            root = "/dicom-web" if kind == "dicomweb" else ""
            return {"kind": kind, "url": f"http://127.0.0.1:{self.http_port}{root}"}
        return {
            "kind": "dimse",
            "host": "127.0.0.1",
            "port": self.port,
            "called_aet": self.aet,
            "calling_aet": "POTERNE",
        }

    def load(self, objects: Iterable[Path]) -> None:
        """Send files by C-STORE.

        Raises:
            RuntimeError: the PACS did not take one.
        """
        files = list(objects)
        metas = [parse_untrusted(path, what=path.name).file_meta for path in files]
        entity = AE(ae_title="LABMODALITY")
        for kind in {(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas}:
            entity.add_requested_context(*kind)
        association = entity.associate("127.0.0.1", self.port, ae_title=self.aet)
        try:
            for path in files:
                if association.send_c_store(path).get("Status") != 0x0000:
                    raise RuntimeError(f"the lab PACS did not take {path.name}")
        finally:
            association.release()


def endless(matches: list[Row]) -> Iterator[Row]:
    """The matches again and again; none stays none."""
    while matches:
        yield from matches


def _row(source: bytes | Path) -> Row:
    found = parse_untrusted(source, what="object for the lab PACS")
    charset = charsets(found, default="ISO_IR 100")
    row = {key: text(found, tag_for_keyword(key) or 0, charset=charset).value for key in STUDY + SERIES + IMAGE}
    for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        Uid(row[key])
    return row


def _keys(wanted: Dataset) -> dict[str, str]:
    """The attributes of a C-FIND identifier by keyword; sequences are not supported and match everything."""
    charset = charsets(wanted, default="ISO_IR 6")
    return {
        keyword_for_tag(tag): text(wanted, tag, charset=charset).value
        for tag in list(wanted.keys())
        if keyword_for_tag(tag) not in ("", "SpecificCharacterSet") and dictionary_VR(tag) != "SQ"
    }


def _fits(key: str, value: str, vr: str) -> bool:
    """Attribute matching of PS3.4 C.2.2.2: universal, list of UID, wildcard, range of dates, single value."""
    if key in ("", "*"):
        return True
    if vr == "UI":
        return value in key.split("\\")
    if vr in ("DA", "TM") and "-" in key:
        first, _, last = key.partition("-")
        return bool(value) and (not first or first <= value) and (not last or value <= last)
    return fnmatch.fnmatchcase(value, key.replace("[", "[[]"))


def _answer(wanted: Dataset, row: Row, fault: PacsFault | None) -> Dataset:
    """One match, holding exactly the attributes asked for."""
    latin = fault in (PacsFault.LATIN1, PacsFault.LATIN1_UNLABELLED, PacsFault.LATIN1_MISLABELLED)
    answer = Dataset()
    for tag in sorted(wanted.keys()):
        keyword = keyword_for_tag(tag)
        if not keyword or keyword == "SpecificCharacterSet":
            continue
        value = wanted.QueryRetrieveLevel if keyword == "QueryRetrieveLevel" else row.get(keyword, "")
        if keyword in COUNTS and value:
            value = miscounted(value, fault)
        if keyword == "SOPInstanceUID" and fault is PacsFault.NO_UIDS:
            value = ""
        if latin and dictionary_VR(tag) in _LOCALISED_VR:
            encoded = value.encode("latin-1")
            answer.add_new(tag, "UN", encoded + b" " * (len(encoded) % 2))  # as bytes: the label is ours
        else:
            setattr(answer, keyword, value.split("\\") if "\\" in value else value)
    if fault is not PacsFault.LATIN1_UNLABELLED:
        answer.SpecificCharacterSet = "ISO_IR 100" if fault is PacsFault.LATIN1 else "ISO_IR 192"
    return answer


def miscounted(count: str, fault: PacsFault | None) -> str:
    """The count as a PACS with that fault states it."""
    if fault is PacsFault.NO_COUNTS:
        return ""
    return str(int(count) + 1) if fault is PacsFault.WRONG_COUNTS else count
