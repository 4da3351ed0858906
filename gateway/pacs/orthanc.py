"""``OrthancSource``: asks Orthanc through its REST interface, with requests.

Invariants:

* one session per question, in one thread (a requests Session is not made to be shared), cut with it;
* every answer is capped, status 200, ``application/json``, parsed by ``security.parse.json``; redirects,
  proxies, netrc and compressed bodies are refused or ignored, and no body is read before its head is judged;
* ``Absent`` only after a clean empty look-up, then a clean ``/system``, then, when a control study is
  configured, that study found (FF-54); everything else that is not the whole study is ``Unknown``.

Which calls, measured on Orthanc 1.10.1 with 1,300 CT instances of 131 kB (2 cores, SQLite index, loopback):
``/tools/bulk-content`` with metadata 0.06 s (SOP class from the index, no file read) · one
``/instances/{id}/metadata/SopClassUid`` each 0.87 s · ``/studies/{id}/instances-tags?simplify`` 0.17 s, but it
reads every file and grows with enhanced multi-frame headers · ``/studies/{id}/instances`` 0.05 s without SOP
classes · ``/studies/{id}/shared-tags`` 0.1 s, SOP class only if all instances share it. Hence bulk-content
(Orthanc ≥ 1.9.4).

Texts come as UTF-8, converted by Orthanc from each file's character set; ``DefaultEncoding`` of Orthanc decides
where a file states none.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from gateway.bridge import Call
from gateway.pacs import door
from gateway.pacs.door import Inconclusive
from gateway.pacs.source import PacsSource
from indexer.study import Absent, Found, Instance, PacsPatient, Series, Study, StudyAnswer
from security.errors import BadInput
from security.identity import Uid
from security.parse.json import member, parse_json

# 850 bytes and 20 values per instance were measured: room for 75,000, which the parser's VALUES_MAX makes 50,000
ANSWER_BYTES_MAX = 64 * 1024 * 1024
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class OrthancPeer:
    """One Orthanc and how long it is waited for.

    ``url``: base address. ``password``: the secret itself, read by the caller; no user, no authentication.
    ``timeout_s``: to connect, and without progress; ``deadline_s``: for a whole question. ``control``: a
    study that this PACS always holds, None when the site names none. ``ca_file``: authorities for https,
    None for the system's.
    """

    name: str
    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    timeout_s: float = 30.0
    deadline_s: float = 120.0
    control: Uid | None = None
    ca_file: Path | None = None
    calls_max: int = 4


class OrthancSource(PacsSource):
    """A PACS behind Orthanc's REST interface (``indexer.ports.StudySource``)."""

    def __init__(self, peer: OrthancPeer) -> None:
        super().__init__(peer.name, workers=peer.calls_max, deadline_s=peer.deadline_s)
        self._peer = peer

    def _ask(self, call: Call, study: Uid) -> StudyAnswer:
        with OrthancClient.session(self._peer, call) as orthanc:
            try:
                found = orthanc.lookup_study(study)
                if not found:
                    return self._absent(orthanc)
                if len(found) > 1:  # Orthanc keeps one study per (PatientID, StudyInstanceUID)
                    raise Inconclusive("ambiguous-study", f"{len(found)} patients share this StudyInstanceUID")
                return Found(study=_study(orthanc, study, found[0]))
            except BadInput as shape:
                raise Inconclusive("bad-answer", shape.args[0]) from None

    def _absent(self, orthanc: OrthancClient) -> Absent:
        version = orthanc.version()
        evidence = f"/tools/lookup: empty; /system: Orthanc {version}"
        if self._peer.control is None:
            return Absent(evidence=evidence)
        if len(orthanc.lookup_study(self._peer.control)) != 1:
            raise Inconclusive("control-missing", "the peer lacks its control study too: its database is not whole")
        return Absent(evidence=f"{evidence}; control study: found")


class OrthancClient:
    """The calls we need, typed; one question long. Raises ``Inconclusive``, or ``BadInput`` for a wrong shape."""

    def __init__(self, peer: OrthancPeer, session: requests.Session) -> None:
        self._peer = peer
        self._session = session

    @classmethod
    @contextmanager
    def session(cls, peer: OrthancPeer, call: Call) -> Iterator[OrthancClient]:
        """A client whose sockets are shut when ``call`` is cut."""
        with _StraightSession() as session:
            session.trust_env = False  # no proxy, no netrc: the PACS is where the configuration says
            session.headers.update({"Accept": "application/json", "Accept-Encoding": "identity"})
            if peer.username:
                session.auth = HTTPBasicAuth(peer.username.encode(), peer.password.encode())
            if peer.ca_file is not None:
                session.verify = str(peer.ca_file)
            adapter = _CuttableAdapter()
            call.on_cut(adapter.cut)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            yield cls(peer, session)

    def version(self) -> str:
        """``GET /system``: proof of life."""
        return member(self._json("GET", "/system"), "Version", str, what="/system")

    def lookup_study(self, study: Uid) -> list[str]:
        """``POST /tools/lookup``: Orthanc's identifiers of the studies with this UID."""
        matches = _list(self._json("POST", "/tools/lookup", data=study.encode()), what="/tools/lookup")
        return [
            member(match, "ID", str, what="/tools/lookup")
            for match in matches
            if member(match, "Type", str, what="/tools/lookup") == "Study"
        ]

    def study(self, orthanc_id: str) -> dict[str, Any]:
        """``GET /studies/{id}``."""
        return _object(self._json("GET", f"/studies/{orthanc_id}"), what="/studies/{id}")

    def patient_module(self, orthanc_id: str) -> dict[str, Any]:
        """``GET /studies/{id}/module-patient``: has IssuerOfPatientID, which the index does not keep."""
        return _object(self._json("GET", f"/studies/{orthanc_id}/module-patient?simplify"), what="module-patient")

    def series(self, orthanc_id: str) -> list[Any]:
        """``GET /studies/{id}/series``, expanded."""
        return _list(self._json("GET", f"/studies/{orthanc_id}/series"), what="/studies/{id}/series")

    def instances(self, orthanc_id: str) -> list[Any]:
        """``POST /tools/bulk-content``: every instance of the study with its metadata, from the index."""
        body = {"Resources": [orthanc_id], "Level": "Instance", "Metadata": True}
        return _list(self._json("POST", "/tools/bulk-content", json=body), what="/tools/bulk-content")

    def _json(self, method: str, path: str, **body: Any) -> Any:
        what = path.partition("?")[0]
        try:
            with self._session.request(
                method,
                self._peer.url.rstrip("/") + path,
                timeout=self._peer.timeout_s,
                allow_redirects=False,
                stream=True,
                **body,
            ) as response:
                _check(response)
                data = _read(response)
        except requests.Timeout:
            raise Inconclusive("timeout", f"no progress for {self._peer.timeout_s:g} s") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as cause:
            raise Inconclusive("unreachable", f"the exchange broke ({type(cause).__name__})") from None
        return parse_json(data, what=what, limit=ANSWER_BYTES_MAX)


def _check(response: requests.Response) -> None:
    status = response.status_code
    if status in (401, 403):
        raise Inconclusive("unauthorised", f"HTTP {status}: check the user and password of this PACS")
    if status == 404:
        raise Inconclusive("changing", "what the peer just listed is gone: the study changes right now")
    if status != 200:
        raise Inconclusive(f"http-{status}", f"HTTP {status} where 200 is due")
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json" or response.headers.get("Content-Encoding", "identity") != "identity":
        raise Inconclusive("bad-answer", "the answer is no plain JSON: is this address really Orthanc?")


def _read(response: requests.Response) -> bytes:
    data = bytearray()
    for chunk in response.iter_content(_CHUNK):
        data += chunk
        if len(data) > ANSWER_BYTES_MAX:
            raise Inconclusive("too-large", f"more than {ANSWER_BYTES_MAX} bytes")
    return bytes(data)


class _StraightSession(requests.Session):
    """A session for which no answer is a redirect.

    ``allow_redirects=False`` alone does not do: requests then still prepares the next request, for which it reads
    the whole body of the answer and parses ``Location``.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002 - the signature of requests
        return None


class _CuttableAdapter(HTTPAdapter):
    """An adapter that knows its sockets, so that a thread waiting on one can be woken.

    A request is repeated at most once, only a GET, only when the connection broke before an answer (a kept
    connection that the peer closed meanwhile).
    """

    def __init__(self) -> None:
        self._opened: list[socket.socket] = []
        self._is_cut = False
        again = urllib3.Retry(
            total=1, connect=0, read=1, redirect=0, status=0, other=0, allowed_methods={"GET"}, backoff_factor=0
        )
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=again)

    def cut(self) -> None:
        """Shut every socket. Never blocks."""
        self._is_cut = True
        for opened in tuple(self._opened):
            _shut(opened)

    def close(self) -> None:
        """Close the pool and every socket: the pool alone waits for the garbage collector."""
        super().close()
        for opened in self._opened:
            opened.close()

    def _watch(self, opened: socket.socket) -> None:
        self._opened.append(opened)
        if self._is_cut:  # it was cut while connecting
            _shut(opened)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        watch = self._watch

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                watch(self.sock)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                watch(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}


def _shut(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        socket.socket.shutdown(opened, socket.SHUT_RDWR)  # the plain one: another thread may be inside the TLS one


def _list(value: Any, *, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise Inconclusive("bad-answer", f"{what} did not answer a list")
    return value


def _object(value: Any, *, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Inconclusive("bad-answer", f"{what} did not answer an object")
    return value


def _tag(tags: dict[str, Any], keyword: str) -> str:
    """A tag of a simplified answer, "" when Orthanc holds none (it lists a tag only when it has a value)."""
    value = tags.get(keyword, "")
    return value.strip("\0 ") if isinstance(value, str) else ""


def _study(orthanc: OrthancClient, asked: Uid, orthanc_id: str) -> Study:
    tags = member(orthanc.study(orthanc_id), "MainDicomTags", dict, what="/studies/{id}")
    door.same_study(_tag(tags, "StudyInstanceUID") or "-", asked)
    patient = orthanc.patient_module(orthanc_id)

    def identity(found: dict[str, Any], keyword: str) -> str:
        return door.identity(_tag(found, keyword), exact=True, keyword=keyword)

    return door.study(
        study_uid=asked,
        patient=PacsPatient(
            patient_id=identity(patient, "PatientID"),
            issuer=identity(patient, "IssuerOfPatientID"),
            name=identity(patient, "PatientName"),
            birth_date=identity(patient, "PatientBirthDate"),
            sex=identity(patient, "PatientSex"),
        ),
        accession_number=identity(tags, "AccessionNumber"),
        date=_tag(tags, "StudyDate"),
        time=_tag(tags, "StudyTime"),
        description=_tag(tags, "StudyDescription"),
        study_id=_tag(tags, "StudyID"),
        referring_physician=_tag(tags, "ReferringPhysicianName"),
        series=_series(orthanc.series(orthanc_id), orthanc.instances(orthanc_id)),
    )


def _series(listed: list[Any], bulk: list[Any]) -> list[Series]:
    """Joins the two listings; they are two moments, so they must agree."""
    members: defaultdict[str, list[Instance]] = defaultdict(list)
    identifiers: defaultdict[str, set[str]] = defaultdict(set)
    for entry in bulk:
        parent = member(entry, "ParentSeries", str, what="bulk-content")
        identifiers[parent].add(member(entry, "ID", str, what="bulk-content"))
        members[parent].append(_instance(entry))
    stated = {
        member(entry, "ID", str, what="series"): set(member(entry, "Instances", list, what="series"))
        for entry in listed
    }
    if stated != identifiers:
        raise Inconclusive("changing", "instances came or went while the study was read")
    return [
        door.series(
            series_uid=_tag(tags, "SeriesInstanceUID"),
            modality=_tag(tags, "Modality"),
            number_text=_tag(tags, "SeriesNumber"),
            description=_tag(tags, "SeriesDescription"),
            body_part=_tag(tags, "BodyPartExamined"),
            instances=members[member(entry, "ID", str, what="series")],
        )
        for entry in listed
        for tags in [member(entry, "MainDicomTags", dict, what="series")]
    ]


def _instance(entry: Any) -> Instance:
    tags = member(entry, "MainDicomTags", dict, what="bulk-content")
    return door.instance(
        sop_class=_tag(member(entry, "Metadata", dict, what="bulk-content"), "SopClassUid"),
        sop_instance=_tag(tags, "SOPInstanceUID"),
        number_text=_tag(tags, "InstanceNumber"),
        frames_text=_tag(tags, "NumberOfFrames"),
    )
