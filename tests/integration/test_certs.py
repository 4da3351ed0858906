"""``poterne certs``: authority, renewal, white list, by the command itself (FF-40, security §2)."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from aiohttp import web
from cryptography import x509
from typer.testing import CliRunner

from gateway.certificates.fetch import Fetcher, is_allowed
from gateway.cli import app
from gateway.components import COMPONENTS
from gateway.settings import CertificatesSettings, RevocationSettings, WhiteListSettings
from gateway.whitelist import rows
from gateway.whitelist.watch import WhiteListWatch
from security.clock import SystemClock
from security.errors import BadInput, Fault, Refused, Unavailable
from security.keys.authority import Authority
from security.store.opening import open_store
from security.store.port import Store
from tests.support.pki import Pki, responding, serving
from tests.support.white_list import SIGNER, ListSigner, boxes, signed, unsigned
from tests.unit.configuration import TEXT, write

PAIR = "tenants.fantome.index"
DAY = timedelta(days=1)


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(
        app, ["certs", *map(str, words), "--lang", "en"] if "--lang" not in words else list(words)
    )
    structlog.reset_defaults()  # the command's log went to a stream that is closed now
    fault = done.exception if isinstance(done.exception, Fault) else None
    if fault is not None:
        assert code == 2, fault
        return fault.code
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A configuration with one pair towards an index, and the folder for new ones."""
    path = write(tmp_path, TEXT + '\n[certificates]\nfolder = "certificates"\n')
    (tmp_path / "authority").mkdir()
    return path


def own_authority(folder: Path) -> Authority:
    run("ca", "init", folder, "--name", "Essai", "--organization", "FANTÔME")
    return Authority.open(folder)


def test_an_authority_issues_certifies_and_revokes_and_its_keys_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    own_authority(folder)
    run("issue", folder, "node", "--host", "127.0.0.1", "--only", "server")
    for key in folder.glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    run("revoke", folder, folder / "node.pem")
    first = x509.load_pem_x509_crl((folder / "ca.crl").read_bytes())
    run("revoke", folder)
    second = x509.load_pem_x509_crl((folder / "ca.crl").read_bytes())
    node = x509.load_pem_x509_certificate((folder / "node.pem").read_bytes()).serial_number
    assert {entry.serial_number for entry in first} == {entry.serial_number for entry in second} == {node}
    numbers = [crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for crl in (first, second)]
    assert numbers == [2, 3]
    assert run("ca", "init", folder, code=2) == "authority-exists"
    other = tmp_path / "other"
    own_authority(other)
    run("issue", other, "stranger")
    assert run("revoke", folder, other / "stranger.pem", code=2) == "not-ours"


def renewed(site: Path, folder: Path, *, name: str = "poterne", host: str = "poterne.example", **how: object) -> Path:
    """A request certified by an authority of the test; the certificate file."""
    run("csr", PAIR, "--name", name, "--organization", "FANTÔME", "--host", host, "--conf", site)
    authority = Authority.open(folder)
    now = datetime.now(UTC)
    facts = {"not_before": now - timedelta(hours=1), "not_after": now + DAY} | how
    from security.keys.authority import BOTH

    facts.setdefault("purposes", BOTH)
    request = (site.parent / "certificates" / "pairs" / PAIR / "next.csr").read_bytes()
    made = folder / "made.pem"
    made.write_bytes(authority.certify(request, **facts) + authority.certificate.read_bytes())  # type: ignore[arg-type]
    return made


def test_ff40_a_pair_is_asked_for_taken_tried_switched_to_and_taken_back(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "authority" / "ca"
    own_authority(folder)
    before = (tmp_path / "own.pem").read_bytes(), (tmp_path / "own.key").read_bytes()
    made = renewed(site, folder)
    assert run("switch", PAIR, "--conf", site, code=2) == "nothing-waits"
    run("import", PAIR, made, "--conf", site)
    assert run("switch", PAIR, "--conf", site, code=2) == "not-rehearsed"
    assert run("rehearse", PAIR, "--conf", site, code=2) == "rehearsal-failed"  # nobody listens there
    assert (tmp_path / "own.pem").read_bytes() == before[0]
    run("switch", PAIR, "--unrehearsed", "--conf", site)
    assert (tmp_path / "own.pem").read_bytes() == made.read_bytes()
    assert stat.S_IMODE((tmp_path / "own.key").stat().st_mode) == 0o600
    shown = json.loads(run("show", "--json", "--conf", site))
    assert [one["subject"] for one in shown if one["pair"] == PAIR] == ["CN=poterne,O=FANTÔME"]
    run("rollback", PAIR, "--conf", site)
    assert ((tmp_path / "own.pem").read_bytes(), (tmp_path / "own.key").read_bytes()) == before
    run("rollback", PAIR, "--conf", site)
    assert (tmp_path / "own.pem").read_bytes() == made.read_bytes()


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"not_before": datetime.now(UTC) - 9 * DAY, "not_after": datetime.now(UTC) - DAY}, "certificate-expired"),
        ({"not_before": datetime.now(UTC) + DAY, "not_after": datetime.now(UTC) + 2 * DAY}, "certificate-early"),
        ({"purposes": ()}, "certificate-purpose"),
    ],
)
def test_ff40_a_certificate_that_cannot_serve_is_refused_with_its_reason(
    site: Path, tmp_path: Path, wrong: dict[str, object], code: str
) -> None:
    folder = tmp_path / "authority" / "ca"
    own_authority(folder)
    assert run("import", PAIR, renewed(site, folder, **wrong), "--conf", site, code=2) == code


def test_ff40_another_name_key_or_a_cut_chain_is_refused_with_its_reason(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "authority" / "ca"
    authority = own_authority(folder)
    made = renewed(site, folder)
    alone = tmp_path / "alone.pem"
    alone.write_bytes(made.read_bytes().split(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n")
    assert run("import", PAIR, alone, "--conf", site, code=2) == "certificate-chain"
    run("import", PAIR, alone, "--authorities", authority.certificate, "--conf", site)
    now = datetime.now(UTC)
    other = authority.issue("other", not_before=now - DAY, not_after=now + DAY)
    assert run("import", PAIR, other.certificate, "--conf", site, code=2) == "certificate-key"
    assert run("import", PAIR, tmp_path / "own.key", "--conf", site, code=2) in {
        "certificate-unusable",
        "certificate-key",
    }
    key = site.parent / "certificates" / "pairs" / PAIR / "next.key"
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from security.keys.authority import BOTH, distinguished, request

    waiting = load_pem_private_key(key.read_bytes(), None)
    for name, host, code in (("else", "poterne.example", "name"), ("poterne", "else.example", "host")):
        asked = request(waiting, distinguished(name, "FANTÔME"), (host,))  # type: ignore[arg-type]
        alone.write_bytes(
            authority.certify(asked, not_before=now - DAY, not_after=now + DAY, purposes=BOTH)
            + authority.certificate.read_bytes()
        )
        assert run("import", PAIR, alone, "--conf", site, code=2) == f"certificate-{code}"


def test_ff40_a_listeners_new_pair_is_rehearsed_by_a_caller_that_demands_chain_and_host(tmp_path: Path) -> None:
    text = TEXT + (
        '\n[certificates]\nfolder = "certificates"\n'
        '\n[tenants.fantome.dicom]\nlisten = "127.0.0.1:11113"\nfolder = "in"\nca_file = "ca.pem"\n'
        'certificate_file = "door.pem"\nkey_file = "door.key"\n[tenants.fantome.dicom.peers.scanner]\naet = "S"\n'
        'networks = ["127.0.0.1"]\ncertificate_file = "own.pem"\n'
    )
    path = write(tmp_path, text)
    pki = Pki(tmp_path / "pki")
    door = pki.pair("door", not_after=datetime.now(UTC) + DAY)
    (tmp_path / "ca.pem").write_bytes((tmp_path / "ca.pem").read_bytes() + pki.ca.read_bytes())
    for name in ("door.pem", "door.key"):
        (tmp_path / name).write_bytes((tmp_path / "pki" / name).read_bytes())
        (tmp_path / name).chmod(0o600)
    assert door
    pair = "tenants.fantome.dicom"
    run("csr", pair, "--name", "door", "--host", "pacs.example", "--conf", path)
    now = datetime.now(UTC)
    from security.keys.authority import BOTH

    request = (tmp_path / "certificates" / "pairs" / pair / "next.csr").read_bytes()
    made = tmp_path / "made.pem"
    made.write_bytes(
        pki.authority.certify(request, not_before=now - timedelta(hours=1), not_after=now + DAY, purposes=BOTH)
    )
    run("import", pair, made, "--conf", path)
    assert "pacs.example, TLSv1.3" in run("rehearse", pair, "--conf", path)
    run("switch", pair, "--conf", path)
    assert (tmp_path / "door.pem").read_bytes() == made.read_bytes()


# ── white list ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path / "list.db", COMPONENTS)
    try:
        yield opened
    finally:
        await opened.close()


def watch(pki: Pki, store: Store, **how: object) -> WhiteListWatch:
    facts: dict[str, object] = {
        "ca_file": pki.ca,
        "signer_cn": SIGNER.common_name,
        "signer_ou": SIGNER.unit,
        "revocation": RevocationSettings(crl_file=pki.crl),
    } | how
    settings = WhiteListSettings(**facts)  # type: ignore[arg-type]
    return WhiteListWatch(settings, CertificatesSettings(networks=["127.0.0.0/8"]), store=store, clock=SystemClock())


async def test_the_last_good_list_stays_whatever_comes_after_it(tmp_path: Path, store: Store) -> None:
    pki = Pki(tmp_path / "pki")
    signer, file, now = ListSigner(pki), tmp_path / "list.xml", datetime.now(UTC)
    listing = watch(pki, store, file=file)
    good = signed(unsigned(generated=now - DAY), signer)
    file.write_bytes(good)
    assert (await listing.look(actor="test")).is_new
    assert not (await listing.look(actor="test")).is_new
    for bad, code in (
        (unsigned(boxes(9)), "signature-missing"),
        (good.replace(b"db1.", b"db6."), "signature-digest"),
        (signed(unsigned(boxes(9)), ListSigner(pki, unit="1")), "signature-signer"),
        (signed(unsigned(boxes(2), generated=now - 5 * DAY), signer), "white-list-older"),
        (signed(unsigned(boxes(2), generated=now - DAY), signer, signing_time=now - 3 * DAY), "white-list-older"),
        (b"<" * 9_000_000, "fetch-too-large"),
        (b"", "xml-empty"),
    ):
        file.write_bytes(bad)
        with pytest.raises(Fault) as refused:
            await listing.look(actor="test")
        assert refused.value.code == code
        content, held = (await listing.in_use()) or pytest.fail("no list is in use")
        assert held.document == good
        assert len(content.boxes) == 3
        look = await store.read(rows.look)
        assert look is not None
        assert look.code == code
        assert await store.read(rows.troubles) == (f"white-list: {code}",)
    file.write_bytes(signed(unsigned(boxes(4)), signer))
    outcome = await listing.look(actor="test")
    assert [box.identifier for box in outcome.changes.added] == ["4"]
    assert await store.read(rows.troubles) == ()
    events = [
        row["event"] for row in await store.read(lambda tx: tx.rows("SELECT event FROM audit_record ORDER BY seq"))
    ]
    assert events[0] == events[-1] == "white-list.changed"
    assert set(events[1:-1]) == {"white-list.refused"}


async def test_a_list_in_the_store_that_was_altered_is_not_believed_and_keeps_no_good_one_out(
    tmp_path: Path, store: Store
) -> None:
    pki = Pki(tmp_path / "pki")
    signer, file = ListSigner(pki), tmp_path / "list.xml"
    listing = watch(pki, store, file=file)
    file.write_bytes(signed(unsigned(generated=datetime.now(UTC) - DAY), signer))
    await listing.look(actor="test")
    altered = file.read_bytes().replace(b"db1.", b"db6.")
    await store.write(lambda tx: tx.change("UPDATE white_list SET document = :document", document=altered))
    with pytest.raises(BadInput):
        await listing.in_use()
    file.write_bytes(signed(unsigned(boxes(4)), signer))
    assert (await listing.look(actor="test")).is_new


async def test_a_revoked_signer_is_refused_by_list_and_by_ocsp(tmp_path: Path, store: Store) -> None:
    pki = Pki(tmp_path / "pki")
    signer, file = ListSigner(pki), tmp_path / "list.xml"
    file.write_bytes(signed(unsigned(), signer))
    async with responding(pki) as responder:
        asking = watch(pki, store, file=file, revocation=RevocationSettings(ocsp_url=responder.url))
        responder.revoked.add(signer.certificate.serial_number)
        with pytest.raises(BadInput, match="revoked"):
            await asking.look(actor="test")
        responder.status = 500
        with pytest.raises(Unavailable):
            await asking.look(actor="test")
        responder.status, responder.revoked = 200, set()
        assert (await asking.look(actor="test")).is_new
    pki.authority.revoke([signer.certificate], now=datetime.now(UTC))
    with pytest.raises(BadInput, match="revoked"):
        await watch(pki, store, file=file).look(actor="test")


def test_the_command_takes_shows_and_compares_lists(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    signer, file = ListSigner(pki), tmp_path / "list.xml"
    path = write(
        tmp_path,
        TEXT + f'\n[white_list]\nfile = "list.xml"\nca_file = "pki/ca.pem"\nsigner_cn = "{SIGNER.common_name}"\n'
        f'signer_ou = "{SIGNER.unit}"\n\n[white_list.revocation]\ncrl_file = "pki/ca.crl"\n',
    )
    file.write_bytes(signed(unsigned(generated=datetime.now(UTC) - DAY), signer))
    assert "3 boxes" in run("whitelist", "refresh", "--conf", path)
    file.write_bytes(signed(unsigned({"1": "Autre", "4": "Centre FANTÔME 4"}), signer))
    assert "another list" in run("whitelist", "refresh", "--conf", path)
    file.write_bytes(unsigned(boxes(9)))
    assert run("whitelist", "refresh", "--conf", path, code=2) == "signature-missing"
    shown = json.loads(run("whitelist", "show", "--json", "--conf", path))
    assert [box["identifier"] for box in shown["boxes"]] == ["1", "4"]
    assert shown["last_look"]["code"] == "signature-missing"
    changes = run("whitelist", "diff", "--conf", path)
    assert [line.split()[:2] for line in changes.splitlines()] == [["+", "4"], ["-", "2"], ["-", "3"], ["~", "1"]]


# ── T26 ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/", "http://localhost:9/", "http://[::1]:9/", "http://169.254.169.254/latest",
        "http://[::ffff:7f00:1]:9/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://10.0.0.1/",
        "http://192.168.1.1/", "http://0.0.0.0/", "http://2130706433/", "http://0x7f.1/", "http://[fe80::1%25lo]/",
        "http://224.0.0.1/",
    ],
)  # fmt: skip
async def test_t26_an_address_nobody_named_is_not_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[object] = []

    async def never(*where: object, **_how: object) -> None:
        connected.append(where)

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
    with pytest.raises((Refused, Unavailable)):
        await Fetcher(timeout_s=3).fetch(url, bytes_max=10)
    assert connected == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/", "gopher://x/", "//x", ""])
async def test_t26_another_scheme_is_not_asked(url: str) -> None:
    with pytest.raises(Refused):
        await Fetcher(["0.0.0.0/0"]).fetch(url, bytes_max=10)


async def test_t26_a_name_is_resolved_once_and_every_address_of_it_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [("8.8.8.8", 80), ("127.0.0.1", 80)]
    asked: list[str] = []

    async def resolved(host: str, port: int, **_how: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(2, 1, 6, "", where) for where in answers]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
    with pytest.raises(Refused):
        await Fetcher().fetch("http://rebinding.example/", bytes_max=10)
    assert asked == ["rebinding.example"]


async def test_t26_a_name_that_turns_to_another_address_later_is_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: the second answer would lead to a server that must not be reached."""
    reached: list[str] = []

    async def greet(request: web.Request) -> web.Response:
        reached.append(str(request.host))
        return web.Response(text="ok")

    app_ = web.Application()
    app_.add_routes([web.get("/", greet)])
    async with serving(app_) as port:
        turns = iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])

        async def resolved(host: str, port: int, **_how: object) -> list[tuple[object, ...]]:
            return [(2, 1, 6, "", (next(turns), port))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
        answer = await Fetcher(["127.0.0.1/32"]).fetch(f"http://rebinding.example:{port}/", bytes_max=10)
        assert answer == b"ok"
        assert next(turns) == "127.0.0.2"  # it was asked once
    assert reached == [f"rebinding.example:{port}"]


async def test_t26_a_redirect_is_not_followed_and_an_answer_has_a_cap() -> None:
    reached: list[str] = []

    async def elsewhere(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/inside")

    async def inside(_request: web.Request) -> web.Response:
        reached.append("inside")
        return web.Response()

    async def bomb(_request: web.Request) -> web.Response:
        import gzip

        return web.Response(body=gzip.compress(b"\0" * 10_000_000), headers={"Content-Encoding": "gzip"})

    async def long(_request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 1000)

    app_ = web.Application()
    app_.add_routes(
        [web.get("/", elsewhere), web.get("/inside", inside), web.get("/bomb", bomb), web.get("/long", long)]
    )
    async with serving(app_) as port:
        fetcher = Fetcher(["127.0.0.0/8"])
        with pytest.raises(Unavailable, match="302"):
            await fetcher.fetch(f"http://127.0.0.1:{port}/", bytes_max=10)
        with pytest.raises(BadInput):
            await fetcher.fetch(f"http://127.0.0.1:{port}/long", bytes_max=999)
        assert len(await fetcher.fetch(f"http://127.0.0.1:{port}/bomb", bytes_max=20_000)) < 20_000  # not inflated
    assert reached == []


def test_t26_public_addresses_may_be_asked() -> None:
    import ipaddress

    assert is_allowed(ipaddress.ip_address("8.8.8.8"), ())
    assert is_allowed(ipaddress.ip_address("2001:4860:4860::8888"), ())
    assert is_allowed(ipaddress.ip_address("10.1.2.3"), (ipaddress.ip_network("10.1.0.0/16"),))
