"""The lab PACS by HTTP: its rows as QIDO-RS (PS3.18 10.6) below ``/dicom-web`` and as Orthanc's REST interface.

Invariants:

* both faces show the rows of one ``LabPacs`` and play its ``fault``, read at every request;
* lists are sent row by row in chunks, so that a fault may strike between two rows; what is no list (``/system``,
  one study) is answered whole;
* an empty QIDO-RS answer is 204, an empty list of Orthanc is ``[]``; ``page_max`` caps a QIDO-RS page whatever
  limit is asked for, with Warning 299, as archives do.

Of Orthanc there are the calls of ``gateway.pacs.orthanc`` alone. 127.0.0.1 only, no authentication.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import signal
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from gateway.lab.pacs import COUNTS, IMAGE, SERIES, STUDY, LabPacs, PacsFault, Row, endless, miscounted

_PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
_STUDY_TAGS = tuple(key for key in STUDY if key not in _PATIENT)
_LABELS = {
    PacsFault.LATIN1: "; charset=iso-8859-1",
    PacsFault.LATIN1_UNLABELLED: "",
    PacsFault.LATIN1_MISLABELLED: "; charset=utf-8",
}
_UID = "([0-9.]+)"
_QIDO = (
    (re.compile("/dicom-web/studies"), "STUDY"),
    (re.compile(f"/dicom-web/studies/{_UID}/series"), "SERIES"),
    (re.compile(f"/dicom-web/studies/{_UID}/instances"), "IMAGE"),
    (re.compile(f"/dicom-web/studies/{_UID}/series/{_UID}/instances"), "IMAGE"),
)
_METADATA = re.compile(f"/dicom-web/studies/{_UID}/series/{_UID}/instances/{_UID}/metadata")
_ORTHANC_STUDY = re.compile("/studies/([0-9a-f]{40})(/series|/module-patient|)")
_ORTHANC_SERIES = re.compile("/series/([0-9a-f]{40})/module")
_ORTHANC_INSTANCE = re.compile("/instances/([0-9a-f]{40})/tags")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """``body``: one JSON object, or the rows of a list. ``warning``: a Warning header, "" for none."""

    body: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    media_type: str = "application/json"
    warning: str = ""


class LabPacsHttp:
    """The two faces of ``pacs``. Use as a context manager, or ``start`` and ``stop``."""

    def __init__(self, pacs: LabPacs, *, port: int = 0, page_max: int | None = None) -> None:
        self.pacs = pacs
        self.page_max = page_max
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", port), self)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="lab-pacs-http"
        )

    @property
    def url(self) -> str:
        """Orthanc's face."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def dicomweb_url(self) -> str:
        """The QIDO-RS face."""
        return f"{self.url}/dicom-web"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close the listener and every connection, and wait for their threads."""
        self.stopping.set()
        self._server.shutdown()
        self._server.end_connections()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 50

    def __init__(self, address: tuple[str, int], face: LabPacsHttp) -> None:
        self.face = face
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        for connection in tuple(self._open):
            with suppress(OSError):  # closed meanwhile
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        try:
            self._serve()
        except OSError:  # the other side closed first
            self.close_connection = True

    do_POST = do_GET  # noqa: N815 - the name http.server calls

    def log_message(self, *_arguments: object) -> None:
        pass  # an address line may hold a UID

    def _serve(self) -> None:
        face = self.server.face
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = face.pacs.fault
        if fault is PacsFault.HANG:
            face.stopping.wait()
            self.close_connection = True
        elif fault is PacsFault.REFUSE:
            self._status(403)
        elif fault is PacsFault.FAIL_STATUS:
            self._status(500)
        elif (reply := _reply(face, self.command, self.path, body)) is None:
            self._status(404)
        elif not reply.body and reply.media_type == "application/dicom+json":
            self._status(204)
        else:
            self._send(reply, fault)

    def _status(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, reply: _Reply, fault: PacsFault | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", reply.media_type + _LABELS.get(fault, "") if fault else reply.media_type)
        self.send_header("Transfer-Encoding", "chunked")
        if reply.warning:
            self.send_header("Warning", reply.warning)
        self.end_headers()
        encoding = "latin-1" if fault in _LABELS else "utf-8"
        for piece in self._pieces(reply, fault):
            data = piece.encode(encoding)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        if not self.close_connection:
            self.wfile.write(b"0\r\n\r\n")

    def _pieces(self, reply: _Reply, fault: PacsFault | None) -> Iterator[str]:
        """The JSON text, row by row; a fault ends it early and the connection with it."""
        face = self.server.face
        if isinstance(reply.body, Mapping):
            yield json.dumps(reply.body, ensure_ascii=False)
            return
        rows = list(reply.body)
        yield "["
        for number, row in enumerate(endless(rows) if fault is PacsFault.PENDING_FOREVER else rows):
            if face.stopping.wait(face.pacs.pause_s(fault)):
                self.close_connection = True
                return
            yield ("," if number else "") + json.dumps(row, ensure_ascii=False)
            if fault is PacsFault.ABORT_MID_FIND:
                self._reset()
                return
        yield "]"

    def _reset(self) -> None:
        """End the connection by RST, inside the body."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def _reply(face: LabPacsHttp, method: str, target: str, body: bytes) -> _Reply | None:
    address = urlsplit(target)
    for pattern, level in _QIDO:
        if method == "GET" and (named := pattern.fullmatch(address.path)):
            return _search(face, level, named.groups(), parse_qsl(address.query))
    if method == "POST":
        return _posted(face.pacs, address.path, body)
    if address.path == "/system":
        return _Reply(body={"Name": "Poterne lab", "Version": "1.10.1"})
    if named := _ORTHANC_STUDY.fullmatch(address.path):
        return _orthanc_study(face.pacs, named[1], named[2])
    return _told(face.pacs, address.path)


def _told(pacs: LabPacs, path: str) -> _Reply | None:
    """What is asked of one series or one instance."""
    if named := _METADATA.fullmatch(path):
        keys = dict(zip(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), named.groups(), strict=True))
        held = pacs.matches("IMAGE", keys)
        rows = [pacs.data_set(row["SOPInstanceUID"]).to_json_dict() for row in held]
        return _Reply(body=rows, media_type="application/dicom+json")
    if named := _ORTHANC_SERIES.fullmatch(path):
        of_series = [row for row in pacs.matches("SERIES", {}) if _identifier(row["SeriesInstanceUID"]) == named[1]]
        return _Reply(body=_tags(of_series[0], SERIES)) if of_series else None
    if named := _ORTHANC_INSTANCE.fullmatch(path):
        of_image = [row for row in pacs.matches("IMAGE", {}) if _image_entry(row)["ID"] == named[1]]
        return _Reply(body=_simplified(pacs.data_set(of_image[0]["SOPInstanceUID"]))) if of_image else None
    return None


def _simplified(found: Dataset) -> dict[str, Any]:
    """A data set as Orthanc simplifies it: texts by keyword, sequences as lists."""
    return {
        element.keyword: [_simplified(item) for item in element.value] if element.VR == "SQ" else str(element.value)
        for element in found
        if element.keyword
    }


def _found(pacs: LabPacs, level: str, keys: Row) -> list[Row]:
    if pacs.fault is PacsFault.EMPTY:
        return []
    rows = pacs.matches(level, {} if pacs.fault is PacsFault.IGNORES_KEYS else keys)
    return [{**row, "SOPInstanceUID": ""} for row in rows] if pacs.fault is PacsFault.NO_UIDS else rows


# QIDO-RS


def _search(face: LabPacsHttp, level: str, path: tuple[str, ...], query: list[tuple[str, str]]) -> _Reply:
    asked = {_keyword(name): value for name, value in query}
    keys = asked | dict(zip(("StudyInstanceUID", "SeriesInstanceUID"), path, strict=False))
    rows = _found(face.pacs, level, keys)
    offset = 0 if face.pacs.fault is PacsFault.IGNORES_OFFSET else int(asked.get("offset", 0))
    left = rows[offset:]
    most = [int(asked["limit"])] if "limit" in asked else []
    most += [face.page_max] if face.page_max is not None else []
    page = left[: min(most)] if most else left
    capped = face.page_max is not None and len(page) == face.page_max < len(left)
    return _Reply(
        body=[_data_set(row, face.pacs.fault) for row in page],
        media_type="application/dicom+json",
        warning='299 lab "The number of results exceeded the maximum supported by the server"' if capped else "",
    )


def _keyword(name: str) -> str:
    """The keyword of a query parameter that is an attribute, given as one or as a tag; else its name."""
    return keyword_for_tag(int(name, 16)) or name if re.fullmatch("[0-9A-Fa-f]{8}", name) else name


def _data_set(row: Row, fault: PacsFault | None) -> dict[str, Any]:
    """One row in DICOM JSON (PS3.18 F.2)."""
    found = {}
    for keyword in (key for key in row if key != "NumberOfFrames" or row[key]):
        value = miscounted(row[keyword], fault) if keyword in COUNTS else row[keyword]
        vr = dictionary_VR(keyword)
        element: dict[str, Any] = {"vr": vr}
        if value:
            element["Value"] = [_json_value(part, vr) for part in value.split("\\")]
        found[f"{tag_for_keyword(keyword) or 0:08X}"] = element
    return dict(sorted(found.items()))


def _json_value(value: str, vr: str) -> Any:
    if vr == "PN":
        return {"Alphabetic": value}
    return int(value) if vr == "IS" else value


# Orthanc


def _identifier(uid: str) -> str:
    return hashlib.sha1(uid.encode(), usedforsecurity=False).hexdigest()


def _posted(pacs: LabPacs, path: str, body: bytes) -> _Reply | None:
    match path:
        case "/tools/lookup":
            rows = _found(pacs, "STUDY", {"StudyInstanceUID": body.decode("ascii", "replace")})
            listed = [_identifier(row["StudyInstanceUID"]) for row in rows]
            return _Reply(body=[{"ID": one, "Path": f"/studies/{one}", "Type": "Study"} for one in listed])
        case "/tools/find":
            wanted = json.loads(body)
            made = _study_entry if wanted["Level"] == "Study" else _series_entry
            return _Reply(body=[made(pacs, row) for row in _found(pacs, wanted["Level"].upper(), wanted["Query"])])
        case "/tools/bulk-content":
            wanted = json.loads(body)
            studies = [row for each in wanted["Resources"] if (row := _study_row(pacs, each))]
            return _Reply(body=[_image_entry(row) for study in studies for row in _below(pacs, "IMAGE", study)])
        case _:
            return None


def _orthanc_study(pacs: LabPacs, identifier: str, part: str) -> _Reply | None:
    row = _study_row(pacs, identifier)
    if row is None:
        return None
    match part:
        case "/series":
            return _Reply(body=[_series_entry(pacs, each) for each in _below(pacs, "SERIES", row)])
        case "/module-patient":
            return _Reply(body=_tags(row, _PATIENT))
        case _:
            return _Reply(body=_study_entry(pacs, row))


def _study_row(pacs: LabPacs, identifier: str) -> Row | None:
    rows = _found(pacs, "STUDY", {})
    return next((row for row in rows if _identifier(row["StudyInstanceUID"]) == identifier), None)


def _below(pacs: LabPacs, level: str, row: Row) -> list[Row]:
    """What Orthanc keeps below a resource it found, by its own links: no key to ignore."""
    keys = {key: row[key] for key in ("StudyInstanceUID", "SeriesInstanceUID") if key in row}
    rows = pacs.matches(level, keys)
    return [{**each, "SOPInstanceUID": ""} for each in rows] if pacs.fault is PacsFault.NO_UIDS else rows


def _study_entry(pacs: LabPacs, row: Row) -> dict[str, Any]:
    return {
        "ID": _identifier(row["StudyInstanceUID"]),
        "MainDicomTags": _tags(row, _STUDY_TAGS),
        "Series": [_identifier(each["SeriesInstanceUID"]) for each in _below(pacs, "SERIES", row)],
        "Type": "Study",
    }


def _series_entry(pacs: LabPacs, row: Row) -> dict[str, Any]:
    return {
        "ID": _identifier(row["SeriesInstanceUID"]),
        "Instances": [_image_entry(each)["ID"] for each in _below(pacs, "IMAGE", row)],
        "MainDicomTags": _tags(row, SERIES[:-1]),  # Laterality is not in the index
        "ParentStudy": _identifier(row["StudyInstanceUID"]),
        "Type": "Series",
    }


def _image_entry(row: Row) -> dict[str, Any]:
    return {
        "ID": _identifier(f"{row['SeriesInstanceUID']} {row['SOPInstanceUID']} {row['InstanceNumber']}"),
        "MainDicomTags": _tags(row, IMAGE),
        "Metadata": {"SopClassUid": row["SOPClassUID"]},
        "ParentSeries": _identifier(row["SeriesInstanceUID"]),
        "Type": "Instance",
    }


def _tags(row: Row, keys: tuple[str, ...]) -> dict[str, str]:
    """Orthanc lists a tag only when it has a value."""
    return {key: row[key] for key in keys if row[key]}


def main(arguments: list[str] | None = None) -> None:
    """Run the node with its three faces until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m gateway.lab.pacs_http", description="A PACS for tests.")
    parser.add_argument("--aet", default="LABPACS")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--fault", type=PacsFault, choices=list(PacsFault), default=None)
    chosen = parser.parse_args(arguments)
    stop = threading.Event()

    def on_signal(_number: int, _frame: Any) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    with (
        LabPacs(chosen.dir, aet=chosen.aet, port=chosen.port, fault=chosen.fault) as pacs,
        LabPacsHttp(pacs, port=chosen.http_port) as face,
    ):
        print(json.dumps({"aet": pacs.aet, "port": pacs.port, "http_port": face.port}), flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
