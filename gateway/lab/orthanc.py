"""The real Orthanc of the machine, as a private process on loopback: a PACS that nobody here wrote.

Orthanc binds its ports on every interface whatever it is told; ``RemoteAccessAllowed`` false makes it refuse
others by request. It is for tests and demonstrations only (known flaws in old packages: loopback use).
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import requests

_READY_S = 30.0
_STOP_S = 15.0
_DICOM_WEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")  # Debian: orthanc-dicomweb


def available() -> str | None:
    """The path of the Orthanc executable, None when the machine has none."""
    return shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/orthanc/bin")


class OrthancProcess:
    """One Orthanc with its own configuration, password, ports and storage; made by ``start``."""

    aet = "LABORTHANC"
    username = "lab"

    def __init__(self, folder: Path, extra: Mapping[str, object]) -> None:
        self._folder = folder
        self._extra = extra
        self.password = secrets.token_urlsafe(18)
        self.password_file = folder / "password"
        self.http_port, self.dicom_port = _free_ports()
        self._process = self._launched()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    def start(cls, folder: Path, **extra: object) -> Self:
        """Start one with its files below ``folder`` and wait until it answers. ``extra``: keys of its configuration.

        Raises:
            FileNotFoundError: the machine has no Orthanc.
            RuntimeError: it did not come up; the message names its log.
        """
        orthanc = cls(folder, extra)
        ends = time.monotonic() + _READY_S
        while not orthanc._answers():
            if orthanc._process.poll() is not None or time.monotonic() > ends:
                orthanc.stop()
                raise RuntimeError(f"Orthanc did not come up; see {folder / 'orthanc.log'}")
            time.sleep(0.05)
        return orthanc

    def stop(self) -> None:
        """End it, by force if it lingers, also when it is stopped by a signal. Idempotent."""
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def settings(self) -> dict[str, Any]:
        """The section of a gateway's configuration that reaches this PACS."""
        return {
            "kind": "orthanc",
            "url": self.url,
            "username": self.username,
            "password_file": str(self.password_file),
        }

    def load(self, objects: Iterable[bytes | Path]) -> None:
        """Store Part 10 objects, given as bytes or files, by ``POST /instances`` (ten times faster than C-STORE)."""
        with self._session() as session:
            for item in objects:
                data = item.read_bytes() if isinstance(item, Path) else item
                session.post(f"{self.url}/instances", data=data, timeout=30).raise_for_status()

    def delete_study(self, study_uid: str) -> None:
        """Remove a study for good."""
        with self._session() as session:
            found = session.post(f"{self.url}/tools/lookup", data=study_uid, timeout=30).json()
            for entry in found:
                session.delete(f"{self.url}{entry['Path']}", timeout=30).raise_for_status()

    def _launched(self) -> subprocess.Popen[bytes]:
        executable = available()
        if executable is None:
            raise FileNotFoundError("no Orthanc on this machine (Debian: apt-get install orthanc)")
        self._folder.mkdir(parents=True, exist_ok=True)
        configuration = self._folder / "orthanc.json"
        for path, content in (
            (self.password_file, self.password),
            (configuration, json.dumps(self._configuration())),
        ):
            path.touch(mode=0o600)
            path.write_text(content, encoding="utf-8")
        with (self._folder / "orthanc.log").open("wb") as log:
            return subprocess.Popen([executable, str(configuration)], stdout=log, stderr=log)

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.auth = (self.username, self.password)
        return session

    def _answers(self) -> bool:
        try:
            with self._session() as session:
                return session.get(f"{self.url}/system", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def _configuration(self) -> dict[str, object]:
        storage = str(self._folder / "storage")
        return {
            "Name": "Poterne lab",
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "Plugins": [str(_DICOM_WEB)] if _DICOM_WEB.exists() else [],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": self.aet,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowStore": True,
            "DefaultEncoding": "Utf8",  # else C-FIND answers in Latin-1 whatever the files say
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {self.username: self.password},
            "OverwriteInstances": True,
            **self._extra,
        }


def _free_ports() -> tuple[int, int]:
    """Two ports nobody listens on now; Orthanc cannot say which port it took, so it cannot take port 0."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
