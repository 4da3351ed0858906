"""T63: the zones of a running gateway, seen from a host of each, over real network namespaces."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from security.errors import Broken
from security.listener import listening, opening
from tests.support import zone_probe
from tests.support.namespaces import Networks, needed, networks
from tests.unit.configuration import TEXT, write

ZONES = ("pacs", "peers", "clinic", "audit", "ops")
HL7, DICOM, INDEX, OPS = 2575, 11112, 8081, 9090
PORTS = (HL7, DICOM, INDEX, OPS)
POTERNE = str(Path(sys.executable).with_name("poterne"))
_START_S = 30.0


def _site(folder: Path, nets: Networks, *, bound: bool) -> Path:
    """A gateway and an index node with a listener in three zones. Every network may send reports and objects: what
    keeps others away is the interface alone."""

    def listen(zone: str, port: int) -> str:
        interface = f'interface = "{zone}"\n' if bound else ""
        return f'listen = "{nets.address(zone)}:{port}"\n{interface}'

    pair = 'certificate_file = "own.pem"\nkey_file = "own.key"\n'
    everywhere = 'segment = "trusted-lan"\nnetworks = ["10.77.0.0/16"]\n'
    text = (
        TEXT.replace('listen = "127.0.0.1:9090"\n', listen("ops", OPS) + pair)
        .replace('listen = "127.0.0.1:2575"\n', listen("pacs", HL7) + everywhere)
        .replace('listen = "127.0.0.1:8081"\n', listen("peers", INDEX) + pair + 'ca_file = "ca.pem"\n')
    )
    text += f"""
[index_node.revocation]
crl_file = "ca.crl"

[tenants.fantome.dicom]
{listen("pacs", DICOM)}segment = "trusted-lan"
folder = "received"

[tenants.fantome.dicom.peers.scanner]
aet = "SCANNER1"
networks = ["10.77.0.0/16"]
"""
    return write(folder, text)


@contextmanager
def _running(nets: Networks, conf: Path) -> Iterator[None]:
    """``poterne serve`` and ``poterne index serve`` in the gateway's namespace, doors open."""
    started: list[subprocess.Popen[bytes]] = []
    log = (conf.parent / "log").open("wb")
    try:
        for words in (("index", "serve"), ("serve",)):
            ready = conf.parent / f"ready-{words[0]}"
            command = [POTERNE, *words, "--conf", str(conf), "--ready-file", str(ready)]
            started.append(subprocess.Popen(nets.inside("gateway", command), stdout=log, stderr=log))
            ends = time.monotonic() + _START_S
            while not ready.exists():
                assert started[-1].poll() is None, (conf.parent / "log").read_text()
                assert time.monotonic() < ends, "it does not start"
                time.sleep(0.05)
        yield
    finally:
        for one in started:
            one.terminate()
        for one in started:
            one.wait(30)
        log.close()


def _ask(nets: Networks, zone: str, *words: object) -> Any:
    script = Path(zone_probe.__file__)
    return json.loads(nets.run(zone, sys.executable, str(script), *map(str, words)))


def _reached(nets: Networks) -> dict[str, set[str]]:
    """Zone → what a host there reaches of all the gateway's addresses and ports."""
    addresses, ports = ",".join(map(nets.address, ZONES)), ",".join(map(str, PORTS))
    with ThreadPoolExecutor(len(ZONES)) as pool:
        found = pool.map(lambda zone: _ask(nets, zone, "reach", addresses, ports), ZONES)
        return {zone: set(reached) for zone, reached in zip(ZONES, found, strict=True)}


OWN_ALONE = {
    "pacs": {"10.77.1.1:2575", "10.77.1.1:11112"},
    "peers": {"10.77.2.1:8081"},
    "clinic": set(),
    "audit": set(),
    "ops": {"10.77.5.1:9090"},
}


@pytest.mark.timeout(180)
def test_t63_each_zone_reaches_its_own_listeners_and_no_other_at_whatever_address(tmp_path: Path) -> None:
    with networks(*ZONES) as nets:
        conf = _site(tmp_path, nets, bound=True)
        with _running(nets, conf):
            assert _reached(nets) == OWN_ALONE
            assert _ask(nets, "pacs", "mllp", nets.address("pacs"), HL7) == "MSA"
            assert _ask(nets, "pacs", "dicom", nets.address("pacs"), DICOM) == 0
            pair = [tmp_path / name for name in ("ca.pem", "own.pem", "own.key")]
            assert _ask(nets, "peers", "https", nets.address("peers"), INDEX, *pair) == 200
            assert _ask(nets, "ops", "https", nets.address("ops"), OPS, *pair) == 200


@pytest.mark.timeout(180)
def test_t63_without_interfaces_the_printed_rules_of_the_firewall_keep_the_zones_apart(tmp_path: Path) -> None:
    nft = needed("nft")
    with networks(*ZONES) as nets:
        conf = _site(tmp_path, nets, bound=False)
        printed = subprocess.run([POTERNE, "flows", "--rules", "--conf", str(conf)], capture_output=True, check=True)
        with _running(nets, conf):
            every = {zone_listener for own in OWN_ALONE.values() for zone_listener in own}
            assert _reached(nets) == dict.fromkeys(ZONES, every), "Linux answers for every address everywhere"
            nets.run("gateway", nft, "-f", "-", stdin=printed.stdout.decode())
            assert _reached(nets) == OWN_ALONE
            assert _ask(nets, "pacs", "dicom", nets.address("pacs"), DICOM) == 0


def test_an_interface_that_is_not_there_stops_the_start_and_the_known_ones_are_named() -> None:
    with (
        pytest.raises(Broken) as caught,
        opening("ops.listen", "127.0.0.1:0", "nosuch0"),
    ):
        listening("127.0.0.1", 0, interface="nosuch0")
    assert caught.value.code == "interface-unknown"
    said, _, known = caught.value.args[0].partition("; it has ")
    assert said == "ops.interface: this machine has no network interface nosuch0"
    assert "lo" in known.split(", ")


def test_a_kernel_that_lets_nobody_bind_to_an_interface_stops_the_start_and_says_what_to_grant() -> None:
    with pytest.raises(Broken) as caught, opening("index_node.listen", "192.0.2.1:8081", "eth1"):
        raise OSError(errno.EPERM, "Operation not permitted")
    assert caught.value.code == "interface-denied"
    assert caught.value.args[0].startswith("index_node.interface: ")
    assert "CAP_NET_RAW" in caught.value.hint
    assert "poterne flows --rules" in caught.value.hint


def test_an_address_that_is_taken_is_named_by_its_setting_with_an_interface_too() -> None:
    with listening("127.0.0.1", 0, interface="lo") as one:
        port = one.getsockname()[1]
        with pytest.raises(Broken) as caught, opening("ops.listen", f"127.0.0.1:{port}", "lo"):
            listening("127.0.0.1", port, interface="lo")
    assert (caught.value.code, caught.value.args[0].partition(" ")[0]) == ("door-unavailable", "ops.listen:")
