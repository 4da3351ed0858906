"""Both doors with mutual TLS before scanners that are not ours: nothing is found beyond the list of docs/certificates.md."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.dimse.limits import Limits
from gateway.dimse.listener import DimseListener
from gateway.dimse.services import Services
from tests.integration.test_links import application
from tests.support.dimse import AET, PeerTable, peer
from tests.support.pki import Pki, serving
from tests.support.sslyze import installed, scanned

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "poterne-tests" / "sslyze"
_SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
}
# docs/certificates.md, "What scanners say"
SSLYZE_KNOWN = {"tls_curves"}  # Python 3.11 cannot leave out X448 and P-521
TESTSSL_KNOWN = {"cert_revocation", "DNS_CAArecord"}  # lists are configured, not named in certificates; no DNS name


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = Pki(tmp_path_factory.mktemp("pki"))
    for name in ("door", "scanner"):
        made.pair(name, not_after=made.now + timedelta(days=300))
    return made


@asynccontextmanager
async def opened(pki: Pki, which: str) -> AsyncIterator[int]:
    """The HTTP door or the DICOM door, wide open to many connections of one scanner."""
    link = pki.trusted(pki.pair("door"), kind="dicom")
    if which == "http":
        async with serving(application(link), tls=link.context) as port:
            yield port
        return
    limits = Limits(connections_max=500, connections_per_address_max=500, hostile_max=10_000)
    table = PeerTable([peer("SCU")], called_aet=AET, is_secured=True)
    async with await DimseListener.open(
        "127.0.0.1", 0, table, Services(), limits=limits, tls=link.context, judge=link.trust
    ) as listener:
        yield listener.port


@pytest.mark.parametrize("which", ["http", "dicom"])
async def test_sslyze_finds_nothing_beyond_the_documented_list(pki: Pki, which: str, tmp_path: Path) -> None:
    command = await asyncio.to_thread(installed, _CACHE)
    async with opened(pki, which) as port:
        shown = pki.pair("scanner")
        facts, findings = await asyncio.to_thread(
            scanned,
            command,
            port=port,
            certificate=shown.certificate,
            key=shown.key,
            authority=pki.ca,
            folder=tmp_path,
        )
    assert {finding.partition(":")[0] for finding in findings} == SSLYZE_KNOWN, findings
    for old in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        assert facts[f"{old}_cipher_suites"]["result"]["accepted_cipher_suites"] == []
    suites = {
        one["cipher_suite"]["name"] for one in facts["tls_1_2_cipher_suites"]["result"]["accepted_cipher_suites"]
    }
    assert suites
    assert suites <= _SUITES
    assert facts["tls_1_3_cipher_suites"]["result"]["accepted_cipher_suites"]
    assert facts["tls_compression"]["result"]["supports_compression"] is False
    assert facts["session_renegotiation"]["result"]["is_vulnerable_to_client_renegotiation_dos"] is False


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("which", ["http", "dicom"])
async def test_testssl_finds_nothing_beyond_the_documented_list(pki: Pki, which: str, tmp_path: Path) -> None:
    command = shutil.which("testssl") or shutil.which("testssl.sh")
    if command is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no testssl.sh on this machine")
    report = tmp_path / "report.json"
    async with opened(pki, which) as port:
        words = [
            command, "-p", "-s", "-f", "-P", "-S", "-U", "--fast", "--nodns", "none", "--quiet", "--color", "0",
            "--warnings", "off", "--add-ca", str(pki.ca), "--jsonfile", str(report), f"127.0.0.1:{port}",
        ]  # fmt: skip
        await asyncio.to_thread(subprocess.run, words, capture_output=True, check=False, timeout=500)
    told = json.loads(report.read_text())
    assert len(told) > 30
    found = {one["id"] for one in told if one["severity"] in {"LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL"}}
    assert found <= TESTSSL_KNOWN, [one for one in told if one["id"] in found - TESTSSL_KNOWN]
