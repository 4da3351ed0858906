"""``poterne serve`` with a DICOM listener: configured, refused, reloaded, examined, restarted."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from gateway.lab.site import Site
from gateway.settings import ConfigurationError, load
from tests.fixtures.dicom_objects import CT, EXPLICIT, ROOT, data_set
from tests.support.dimse import echo_s
from tests.support.dimse_raw import RawScu
from tests.unit.configuration import TEXT, write

PEER = """
[tenants.fantome.dicom.peers.scanner]
aet = "SCANNER1"
networks = ["127.0.0.1"]
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def store(port: int, body: bytes) -> int:
    with RawScu(port) as scu:
        assert scu.associate([(CT, [EXPLICIT])], aet="SCANNER1") == {1: 0}
        return scu.store(1, CT, f"{ROOT}.1.1.1", body)


@pytest.mark.timeout(180)
async def test_a_site_receives_objects_by_dicom(tmp_path: Path) -> None:
    port = free_port()
    sections = {
        "tenants.site.dicom": {
            "listen": f"127.0.0.1:{port}",
            "folder": str(tmp_path / "received"),
            "segment": "trusted-lan",
        },
        "tenants.site.dicom.peers.scanner": {"aet": "SCANNER1", "networks": ["127.0.0.1"]},
    }
    async with Site(tmp_path / "site", settings=sections) as site:
        await site.start_pacs(prefer_orthanc=False)
        await site.start_index()
        gateway = await site.start_gateway()
        assert gateway.bound["dicom:site"] == f"127.0.0.1:{port}"
        assert await asyncio.to_thread(echo_s, port, aet="SCANNER1") < 2
        assert await asyncio.to_thread(store, port, data_set()) == 0
        assert await asyncio.to_thread(store, port, data_set()[:-9]) == 0xC210
        await asyncio.sleep(1.5)

        def scrape() -> str:
            with build_opener(ProxyHandler({})).open(f"http://{gateway.bound['ops']}/metrics", timeout=5) as page:
                return str(page.read().decode())

        page = await asyncio.to_thread(scrape)
        assert 'dicom_events_total{outcome="new",what="object"} 1.0' in page
        assert 'dicom_events_total{outcome="quarantined",what="object"} 1.0' in page

        _, printed = await site.command("doctor", "--json")
        (line,) = [line for line in json.loads(printed)["findings"] if line["probe"] == "dicom"]
        assert line["verdict"] == "warning"
        assert "1" in line["cause"]
        await gateway.end()
        await site.start_gateway()
        assert await asyncio.to_thread(store, port, data_set()) == 0


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ('listen = "127.0.0.1:11113"', {"folder", "peers", "segment"}),
        ('listen = "127.0.0.1:11113"\nfolder = "in"' + PEER, {"segment"}),
        (
            'listen = "127.0.0.1:11113"\nfolder = "in"\nsegment = "trusted-lan"'
            + PEER.replace("127.0.0.1", "10.0.0.0/99"),
            {"peers.scanner.networks"},
        ),
        ('listen = "0.0.0.0:104"\nfolder = "in"\nsegment = "trusted-lan"' + PEER, {"listen"}),
        (
            'listen = "127.0.0.1:11113"\nfolder = "in"\nca_file = "ca.pem"\ncertificate_file = "own.pem"\n'
            'key_file = "own.key"' + PEER,
            {"peers.scanner.certificate_file"},
        ),
        ('listen = "127.0.0.1:11113"\nfolder = "absent/in"\nsegment = "trusted-lan"' + PEER, {"folder"}),
        (
            'listen = "127.0.0.1:11113"\nfolder = "in"\nsegment = "trusted-lan"'
            + PEER
            + PEER.replace("peers.scanner", "peers.other"),
            {"peers.other.aet"},
        ),
        (
            'listen = "127.0.0.1:11113"\nfolder = "in"\nsegment = "trusted-lan"\nnotes_ae_title = "POTERNE"' + PEER,
            {"notes_ae_title"},
        ),
        (
            'listen = "127.0.0.1:11113"\nfolder = "in"\nsegment = "trusted-lan"' + PEER + 'may = ["queries"]\n',
            {"peers.scanner.may"},
        ),
        ('listen = "127.0.0.1:2575"\nfolder = "in"\nsegment = "trusted-lan"' + PEER, {"hl7.listen", "listen"}),
        ('listen = "127.0.0.1:11113"\nfolder = "poterne.db"\nsegment = "trusted-lan"' + PEER, {"folder"}),
    ],
    ids=[
        "bare",
        "clear",
        "network",
        "open-address",
        "tls",
        "no-parent",
        "same-title",
        "notes-title",
        "permission",
        "same-port",
        "same-place",
    ],
)
def test_a_listener_that_cannot_be_right_is_refused_by_key(tmp_path: Path, section: str, keys: set[str]) -> None:
    path = write(tmp_path, TEXT + "\n[tenants.fantome.dicom]\n" + section + "\n")
    with pytest.raises(ConfigurationError) as refused:
        load(path, {})
    found = {
        problem.key.removeprefix("tenants.fantome.dicom.").removeprefix("tenants.fantome.")
        for problem in refused.value.problems
    }
    assert found <= keys
    assert found


def test_a_listener_in_tls_with_its_peer_is_usable(tmp_path: Path) -> None:
    section = (
        'listen = "127.0.0.1:11113"\nfolder = "in"\nca_file = "ca.pem"\ncertificate_file = "own.pem"\n'
        'key_file = "own.key"' + PEER + 'certificate_file = "own.pem"\n'
    )
    settings = load(write(tmp_path, TEXT + "\n[tenants.fantome.dicom]\n" + section), {})
    assert settings.tenants["fantome"].dicom.peers["scanner"].aet == "SCANNER1"
