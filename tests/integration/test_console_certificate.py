"""The certificate of the console is renewed while the gateway runs: no restart, no connection cut."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import ssl
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from gateway.certificates.page import Page
from gateway.settings import load
from security.clock import SystemClock
from security.errors import Broken
from security.keys.lab_pki import PemPair
from tests.integration.test_surroundings import door, serving
from tests.support.pki import DAY, Pki, der
from tests.unit.configuration import changed, write


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


def put(pair: PemPair, folder: Path) -> tuple[Path, Path]:
    """The pair under the names that the console's section gives."""
    places = folder / "console.pem", folder / "console.key"
    for source, place in zip((pair.key, pair.certificate), reversed(places), strict=True):
        fresh = place.with_suffix(".new")
        shutil.copy(source, fresh)
        fresh.chmod(0o600)
        fresh.replace(place)
    return places


def _counted(made: list[int]):
    async def count(*_told: object) -> None:
        made.append(1)

    return count


async def shown(host: str, port: int, context: ssl.SSLContext) -> bytes:
    """The certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return bytes(found)


@pytest.mark.timeout(120)
async def test_ff40_a_running_console_shows_its_new_certificate_and_cuts_no_connection(tmp_path: Path, pki: Pki):
    first, second = pki.pair("first"), pki.pair("second")
    put(first, tmp_path)
    tls = 'listen = "127.0.0.1:0"\ncertificate_file = "console.pem"\nkey_file = "console.key"'
    text = changed('listen = "127.0.0.1:9090"', tls).replace("127.0.0.1:2575", "127.0.0.1:0")
    context = ssl.create_default_context(cafile=str(pki.ca))
    async with serving(load(write(tmp_path, text), {})) as running:
        host, port = door(running, "ops")
        made: list[int] = []
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_counted(made))
        calls = {"connector": aiohttp.TCPConnector(ssl=context, limit=1), "trace_configs": [trace]}
        async with aiohttp.ClientSession(f"https://{host}:{port}", **calls) as kept:
            assert await shown(host, port, context) == der(first)
            async with kept.get("/live") as answer:
                assert answer.status == 200
            put(second, tmp_path)
            async with asyncio.timeout(20):
                while await shown(host, port, context) != der(second):
                    await asyncio.sleep(0.2)
            async with kept.get("/live") as answer:
                assert answer.status == 200
            assert made == [1], "the connection that was open stayed open"
        rows = await running.gateway._store.read(
            lambda tx: tx.rows("SELECT * FROM audit_record WHERE event = 'certificate.changed'")
        )
    assert [(row["object_id"], row["detail"]) for row in rows] == [
        ("ops", f"sha256 {hashlib.sha256(der(second)).hexdigest()}")
    ]


def test_what_cannot_be_served_changes_nothing_and_is_told_until_it_is_mended(tmp_path: Path, pki: Pki):
    first, second = pki.pair("first"), pki.pair("second")
    over = pki.pair("over", not_before=pki.now - 3 * DAY, not_after=pki.now - timedelta(minutes=1))
    files = put(first, tmp_path)
    page = Page("ops", *files, None, clock=SystemClock())
    before = page.context.generation
    told: list[str] = []

    def look() -> str:
        page.look(lambda _key, digest: told.append(digest))
        return page.fault

    shutil.copy(second.certificate, files[0])
    assert look() == "key-mismatch", "half of a pair"
    put(over, tmp_path)
    assert look() == "certificate-expired"
    files[0].unlink()
    assert look() != ""
    assert (page.context.generation, told) == (before, [])
    put(second, tmp_path)
    assert look() == ""
    assert told == [hashlib.sha256(der(second)).hexdigest()]
    assert look() == "", "nothing changed since"
    assert len(told) == 1


def test_a_console_whose_certificate_is_over_starts_and_one_without_its_key_does_not(tmp_path: Path, pki: Pki):
    over = pki.pair("over", not_before=pki.now - 3 * DAY, not_after=pki.now - timedelta(minutes=1))
    certificate_file, key_file = put(over, tmp_path)
    assert Page("ops", certificate_file, key_file, None, clock=SystemClock()).fault == ""
    with pytest.raises(Broken):
        Page("ops", certificate_file, pki.pair("other").key, None, clock=SystemClock())
