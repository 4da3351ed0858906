"""The DICOM door against Orthanc, storescp and a pynetdicom SCP, in one run, with one sender for all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.lab.orthanc import OrthancProcess
from security.keys.lab_pki import LabAuthority
from tests.benchmarks.figures import Figure, publish
from tests.support.dimse import AET, DoorProcess
from tests.support.pacs import need_orthanc

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

SIZE = 131_072  # pixels of one image
OBJECTS = 160  # per association and measurement
NAGLED = 40  # where each waits for acknowledgements
ROUNDS = 2
ROOT = Path(__file__).resolve().parents[2]
OURS, OURS_BARE, OURS_TLS = "door", "door, nothing kept", "door, TLS"
ORTHANC, STORESCP, STORESCP_BARE = "Orthanc", "storescp", "storescp --ignore"
PYNETDICOM, PYNETDICOM_BARE = "pynetdicom SCP", "pynetdicom SCP, nothing kept"
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
#include <time.h>
static int later(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct timespec wait = {0, 5000000};
    int code = real(fd);
    nanosleep(&wait, 0);
    return code;
}
int fsync(int fd) { return later("fsync", fd); }
int fdatasync(int fd) { return later("fdatasync", fd); }
"""


@dataclass
class Server:
    """A running acceptor."""

    port: int
    pid: int
    called: str = AET
    tls: list[str] = field(default_factory=list)

    def used(self) -> tuple[float, int]:
        """Processor seconds, and the most resident bytes, of it and its children."""
        family = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        seconds = sum(sum(one.cpu_times()[:2]) for one in family)
        own = psutil.Process(self.pid).cpu_times()
        peak = 0
        for one in family:
            status = Path(f"/proc/{one.pid}/status").read_text(encoding="ascii")
            stated = [line for line in status.splitlines() if line.startswith("VmHWM")]  # a dead child states none
            peak += sum(int(line.split()[1]) * 1024 for line in stated)
        return seconds + own.children_user + own.children_system, peak


@contextmanager
def running(name: str, folder: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """That server, empty."""
    folder.mkdir()
    if name.startswith(OURS):
        tls, options = [], {}
        if name == OURS_TLS:
            tls, options = _pki(folder / "pki")
        with DoorProcess.start(
            folder / "d",
            environment=environment,
            discard=name == OURS_BARE,
            limits={"connections_max": 64},
            **options,
        ) as door:
            yield Server(door.port, door.process.pid, tls=tls)
        return
    if name == ORTHANC:
        with pytest.MonkeyPatch.context() as patched:
            for key, value in environment.items():
                patched.setenv(key, value)
            orthanc = OrthancProcess.start(folder / "orthanc", DicomScpTimeout=60, StorageCompression=False)
        try:
            yield Server(orthanc.dicom_port, orthanc.pid, called=orthanc.aet)
        finally:
            orthanc.stop()
        return
    with _process(name, folder, environment) as server:
        yield server


@contextmanager
def _process(name: str, folder: Path, environment: Mapping[str, str]) -> Iterator[Server]:

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = "" if name == PYNETDICOM_BARE else str(folder)
    if name in {PYNETDICOM, PYNETDICOM_BARE}:
        command = [sys.executable, "-m", "tests.benchmarks.dimse_rival", kept]
    else:
        command = ["/usr/bin/storescp", "--fork", "-pdu", "131072", "-aet", AET]
        command += ["--ignore"] if name == STORESCP_BARE else ["+B", "-od", str(folder)]
        command.append(str(port))
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | dict(environment),
    )
    assert process.stdout is not None
    try:
        if name in {PYNETDICOM, PYNETDICOM_BARE}:
            port = int(process.stdout.readline())
        else:
            _await(port)
        yield Server(port, process.pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _await(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("it never listened")


def _pki(folder: Path) -> tuple[list[str], dict[str, object]]:
    now = datetime.now(UTC)
    authority = LabAuthority.create(folder, now=now)
    days = {"not_before": now - timedelta(hours=1), "not_after": now + timedelta(days=1)}
    own, scu = authority.issue("own", **days), authority.issue("scu", **days)
    shown = x509.load_pem_x509_certificate(scu.certificate.read_bytes()).public_bytes(Encoding.DER)
    ours = [str(own.certificate), str(own.key), str(authority.certificate), hashlib.sha256(shown).hexdigest()]
    return [str(scu.certificate), str(scu.key), str(authority.certificate)], {"tls": ours}


@dataclass
class Measured:
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    peak: int = 0

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


_runs = iter(range(1, 100_000))


def _measure(server: Server, *, associations: int, objects: int, nagle: bool, into: Measured) -> None:
    """Objects a second over all associations, while they all send."""
    senders = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.benchmarks.dimse_sender",
                json.dumps(
                    {
                        "port": server.port,
                        "called": server.called,
                        "objects": objects,
                        "run": next(_runs),
                        "size": SIZE,
                        "pdu": 16_384,
                        "nagle": nagle,
                        "tls": server.tls,
                    }
                ),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(associations)
    ]
    for sender in senders:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "ready\n"
    before, _ = server.used()
    for sender in senders:
        assert sender.stdin is not None
        sender.stdin.write("go\n")
        sender.stdin.flush()
    answers = [json.loads(sender.communicate(timeout=600)[0]) for sender in senders]
    after, peak = server.used()
    assert [answer["good"] for answer in answers] == [objects] * associations
    took = max(answer["ended"] for answer in answers) - min(answer["began"] for answer in answers)
    into.rates.append(objects * associations / took)
    into.cpu_ms.append((after - before) * 1000 / (objects * associations))
    into.peak = max(into.peak, peak)


def _compared(
    folder: Path,
    names: list[str],
    *,
    associations: int,
    objects: int = OBJECTS,
    nagle: bool = False,
    environment: Mapping[str, str] | None = None,
    rounds: int = ROUNDS,
) -> dict[str, Measured]:
    """Every server in turn, some rounds, so that a slow moment of the machine meets them all."""
    found = {name: Measured() for name in names}
    for turn in range(rounds):
        for number, name in enumerate(names):
            place = folder / f"{turn}-{number}"
            with running(name, place, environment or {}) as server:
                _measure(server, associations=1, objects=10, nagle=False, into=Measured())
                many = objects * (10 if name == OURS_BARE else 1)  # long enough to be measured
                _measure(server, associations=associations, objects=many, nagle=nagle, into=found[name])
            shutil.rmtree(place, ignore_errors=True)
    return found


def _figures(label: str, found: Mapping[str, Measured], ours: str) -> list[Figure]:
    figures = []
    print(label, {name: round(m.rate, 1) for name, m in found.items()}, flush=True)
    for name, measured in found.items():
        ratios = (
            {other: found[ours].rate / m.rate for other, m in found.items() if other != ours} if name == ours else {}
        )
        figures.append(Figure(what=f"{label}: {name}", value=measured.rate, unit="objects/s", ratios=ratios))
        figures.append(
            Figure(what=f"{label}: {name}, processor", value=statistics.median(measured.cpu_ms), unit="ms/object")
        )
        figures.append(Figure(what=f"{label}: {name}, peak", value=measured.peak / 2**20, unit="MiB"))
    return figures


def test_bench_dicom_door(tmp_path: Path) -> None:
    need_orthanc()
    figures: list[Figure] = []
    bare = [OURS_BARE, ORTHANC, STORESCP_BARE, PYNETDICOM_BARE]
    kept = [OURS, OURS_TLS, ORTHANC, STORESCP, PYNETDICOM]
    for associations in (1, 4):
        label = f"{associations} association{'s' if associations > 1 else ''}"
        some = OBJECTS if associations == 1 else OBJECTS // 2
        folder = tmp_path / f"bare-{associations}"
        folder.mkdir()
        protocol = _compared(folder, bare, associations=associations, objects=some)
        figures += _figures(f"protocol, {label}", protocol, OURS_BARE)
        folder = tmp_path / f"kept-{associations}"
        folder.mkdir()
        to_disk = _compared(folder, kept, associations=associations, objects=some)
        figures += _figures(f"to disk, {label}", to_disk, OURS)
    folder = tmp_path / "nagle"
    folder.mkdir()
    nagled = _compared(folder, [OURS, ORTHANC, STORESCP, PYNETDICOM], associations=1, objects=NAGLED, nagle=True)
    figures += _figures("to disk, Nagle on, 1 association", nagled, OURS)
    slow = _slow_fsync(tmp_path)
    if slow:
        for associations in (1, 4):
            folder = tmp_path / f"slow-{associations}"
            folder.mkdir()
            found = _compared(
                folder,
                [OURS, ORTHANC, STORESCP],
                associations=associations,
                objects=NAGLED,
                environment=slow,
                rounds=2,
            )
            figures += _figures(f"fsync takes 5 ms more, {associations}", found, OURS)
    publish(
        "dicom door",
        figures,
        conditions=f"{OBJECTS} images of {SIZE} bytes per association (80 each with 4), PDUs of 16 KiB, one sender process "
        f"per association on the same machine, median of {ROUNDS} rounds in turn; only the door fsyncs before 0x0000",
    )
    assert protocol[OURS_BARE].rate > 0


def _slow_fsync(folder: Path) -> dict[str, str]:
    """The environment in which every fsync takes 5 ms more; empty where no compiler is."""
    if shutil.which("gcc") is None:
        print("\nno gcc: the rows with a slow fsync are left out")
        return {}
    source, library = folder / "slow.c", folder / "slow.so"
    source.write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}
