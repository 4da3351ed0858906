"""A whole site on loopback: PACS, index node and gateway as processes of their own, each in its own directory.

Everything is bound to 127.0.0.1; gateway and index speak mutually authenticated TLS with certificates of a lab
authority made for this site. Used by the demo and by the acceptance tests.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gateway.hl7.mllp import MllpClient
from gateway.lab import orthanc, raw_query
from gateway.lab.pacs import PacsProcess
from gateway.lab.person import LabPerson, enrol
from security.errors import Unavailable
from security.keys.lab_pki import LabAuthority, PemPair
from security.secrets import create_kek

START_S = 30.0
TENANT = "site"
REPOSITORY = "1.2.250.1.999.1.1.2"
SOURCE = "1.2.250.1.999.1.1.1"


@dataclass
class Child:
    """One of our processes: where it writes, and what it bound."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    bound: dict[str, str]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the process by its id and wait for it."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()


class Site:
    """A site in one directory. ``async with Site(directory) as site`` starts nothing; the parts are started one
    by one, and whatever runs is ended at the exit.
    """

    def __init__(self, directory: Path, *, settings: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.directory = directory
        self._extra = settings or {}
        self._children: list[Child] = []
        self._pairs: dict[str, PemPair] = {}
        self.index: Child | None = None
        self.gateway: Child | None = None
        self.pacs: orthanc.OrthancProcess | PacsProcess | None = None
        self.conf = directory / "poterne.toml"

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        now = datetime.now(UTC)
        self._authority = LabAuthority.create(self.directory / "pki", now=now)
        for name in ("gateway", "index"):
            create_kek(self.directory / f"{name}.kek")
            self._pairs[name] = self._authority.issue(
                name, not_before=now - timedelta(hours=1), not_after=now + timedelta(days=30)
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            await child.end()
        if self.pacs:
            await asyncio.to_thread(self.pacs.stop)

    # -- parts ---------------------------------------------------------------------------------------------

    async def start_pacs(self, *, prefer_orthanc: bool = True) -> str:
        """Start Debian's Orthanc when installed, else the lab PACS; says which."""
        if prefer_orthanc and orthanc.available():
            self.pacs = await asyncio.to_thread(orthanc.OrthancProcess.start, self.directory / "orthanc")
            return "Orthanc"
        self.pacs = await asyncio.to_thread(PacsProcess.start, self.directory / "pacs")
        return "lab PACS (Orthanc is not installed)"

    async def load(self, objects: Sequence[bytes]) -> None:
        """Put Part 10 objects into the PACS."""
        folder = self.directory / "images"
        folder.mkdir(exist_ok=True)
        files = []
        for data in objects:
            files.append(folder / f"{hashlib.sha256(data).hexdigest()}.dcm")
            files[-1].write_bytes(data)
        if self.pacs:
            await asyncio.to_thread(self.pacs.load, files)

    async def start_index(self) -> Child:
        """Start the index node on the port it had before, or a free one."""
        listen = self.index.bound["index"] if self.index else "127.0.0.1:0"
        conf = self.directory / "index.toml"
        conf.write_text(
            _toml(
                {
                    "log": {"format": "json"},
                    "index_node": {"listen": listen, "repository_unique_id": REPOSITORY, **self._tls("index")},
                    "index_node.revocation": self._revocation(),
                    "index_node.store": {"path": "index.db", "kek_file": "index.kek"},
                }
            )
        )
        self.index = await self._start("index", "index", "serve", "--conf", str(conf))
        return self.index

    async def start_gateway(self, environ: Mapping[str, str] | None = None) -> Child:
        """Start the gateway on the ports it had before, or free ones."""
        bound = self.gateway.bound if self.gateway else {}
        self._write_gateway_conf(hl7=bound.get(f"hl7:{TENANT}", "127.0.0.1:0"), ops=bound.get("ops", "127.0.0.1:0"))
        self.gateway = await self._start("gateway", "serve", "--conf", str(self.conf), environ=environ)
        return self.gateway

    def _write_gateway_conf(self, *, hl7: str, ops: str) -> None:
        if self.index is None or self.pacs is None:
            raise Unavailable(
                "the gateway needs its PACS and its index first",
                code="site-incomplete",
                hint="start the parts in order: PACS, index, gateway",
            )
        address = self.index.bound["index"]
        sections: dict[str, dict[str, Any]] = {
            "store": {"path": "gateway.db", "kek_file": "gateway.kek"},
            "ops": {"listen": ops},
            "log": {"format": "json"},
            "disk": {"low_bytes": 2**20, "reserve_bytes": 2**20},
            "outbox": {"pacs_retry_base_s": 1.0, "pacs_retry_cap_s": 2.0, "retry_base_s": 0.5, "visibility_s": 5.0},
            f"tenants.{TENANT}": {"name": "Centre d'imagerie FANTÔME", "mode": "live"},
            f"tenants.{TENANT}.hl7": {"listen": hl7},
            f"tenants.{TENANT}.pacs.main": self.pacs.settings(),
            f"tenants.{TENANT}.index": {
                "registry_url": f"https://{address}/xds/registry",
                "repository_url": f"https://{address}/xds/repository",
                "repository_unique_id": REPOSITORY,
                **self._tls("gateway"),
            },
            f"tenants.{TENANT}.index.revocation": self._revocation(),
            f"tenants.{TENANT}.publisher": {
                "device_id": "899711256811",
                "institution_name": "Centre d'imagerie FANTÔME",
                "institution_id": "101999999",
                "source_id": SOURCE,
                "facility_type": "SA08",
                "practice_setting": "AMBULATOIRE",
            },
            f"tenants.{TENANT}.identity": {"test_identity": "off"},
            f"tenants.{TENANT}.images": {"retrieve_base": "https://images.fantome.example/wado"},
        }
        for name, values in self._extra.items():
            sections[name] = {**sections.get(name, {}), **values}
        self.conf.write_text(_toml(sections))

    def _tls(self, name: str) -> dict[str, str]:
        return {
            "ca_file": str(self._authority.certificate),
            "certificate_file": str(self._pairs[name].certificate),
            "key_file": str(self._pairs[name].key),
        }

    def _revocation(self) -> dict[str, str]:
        return {"crl_file": str(self._authority.revocations)}

    async def _start(self, name: str, *words: str, environ: Mapping[str, str] | None = None) -> Child:
        ready = self.directory / f"{name}.ready"
        ready.unlink(missing_ok=True)
        log = self.directory / f"{name}.log"
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gateway.cli",
                *words,
                "--ready-file",
                str(ready),
                stdout=out,
                stderr=out,
                env={**os.environ, **(environ or {})},
            )
        child = Child(name=name, process=process, log=log, bound={})
        self._children.append(child)
        async with asyncio.timeout(START_S):
            while not ready.exists():
                if process.returncode is not None:
                    raise Unavailable(
                        f"{name} ended at start with exit code {process.returncode}",
                        code="part-died",
                        hint=f"see {log}",
                    )
                await asyncio.sleep(0.02)
        child.bound = json.loads(ready.read_text())
        return child

    async def person(self, name: str, *roles: str) -> LabPerson:
        """An account with these roles, made by the command and enrolled on the console as a person does.

        Raises:
            Unavailable: the gateway does not run, or the enrolment was not taken.
        """
        if self.gateway is None:
            raise Unavailable("the gateway is not running", code="site-incomplete", hint="start it first")
        wanted = [part for role in roles for part in ("--role", role)]
        code, told = await self.command("accounts", "add", name, "--person", "Camille Démo", *wanted, "--json")
        if code:
            raise Unavailable(told, code="lab-enrolment", hint="see the gateway's log")
        return await enrol(
            f"http://{self.gateway.bound['ops']}/console",
            json.loads(told)["code"],
            name=name,
            password="-".join(secrets.token_hex(2) for _ in range(4)),
            now=datetime.now(UTC),
        )

    # -- what people and peers do ----------------------------------------------------------------------------

    async def report(self, message: bytes) -> bytes:
        """Send one HL7 message as the RIS does; the acknowledgement."""
        if self.gateway is None:
            raise Unavailable(
                "the gateway is not running",
                code="site-incomplete",
                hint="start the parts in order: PACS, index, gateway",
            )
        host, _, port = self.gateway.bound[f"hl7:{TENANT}"].rpartition(":")
        async with await MllpClient.connect(host, int(port)) as client:
            return await client.send(message)

    async def command(self, *words: str) -> tuple[int, str]:
        """Run ``poterne`` as a person does; exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.cli",
            *words,
            "--conf",
            str(self.conf),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate()
        return process.returncode or 0, (out or error).decode()

    async def entries(self, *, patient: str, study: str) -> list[dict[str, Any]]:
        """What the index says it holds for a study, asked by a process that imports nothing of ours.

        ``patient``: CX as in drim-m §5.

        Raises:
            Unavailable: the index did not answer.
        """
        if self.index is None:
            raise Unavailable(
                "the index is not running",
                code="site-incomplete",
                hint="start the parts in order: PACS, index, gateway",
            )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            raw_query.__file__,
            f"https://{self.index.bound['index']}/xds/registry",
            "--patient",
            patient,
            "--reference",
            f"{study}^^^&{SOURCE}&ISO^urn:ihe:iti:xds:2016:studyInstanceUID",
            "--ca",
            str(self._authority.certificate),
            "--certificate",
            str(self._pairs["gateway"].certificate),
            "--key",
            str(self._pairs["gateway"].key),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate()
        if process.returncode:
            raise Unavailable(error.decode().strip(), code="index-silent", hint="see the index's log")
        return [json.loads(line) for line in out.decode().splitlines()]


def _toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Sections of strings and numbers as TOML; JSON's spelling of both is TOML's."""
    lines: list[str] = []
    for name, values in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
        lines.append("")
    return "\n".join(lines)
