"""``poterne doctor`` on a whole site, then with one thing wrong at a time: that line says so, the others stay."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway import doctor
from gateway.components import COMPONENTS
from gateway.doctor import examination, local
from gateway.doctor.context import Context
from gateway.doctor.examination import PROBES, Examination
from gateway.doctor.findings import Line, Verdict
from gateway.i18n import words
from gateway.lab.site import Site
from gateway.settings import load
from security.store.opening import open_store
from tests.support.receivers import receiver, relay
from tests.support.world import TENANT as WORLD_TENANT
from tests.support.world import world
from tests.unit.configuration import TEXT, changed, write


def line(found: Examination, probe: str, subject: str = "") -> Line:
    (one,) = (one for one in found.lines if one.probe == probe and one.subject == subject)
    return one


def verdicts(found: Examination) -> dict[str, str]:
    return {f"{one.probe} {one.subject}".strip(): one.finding.verdict.value for one in found.lines}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with Site(tmp_path_factory.mktemp("doctor") / "site") as made:
        await made.start_pacs()
        await made.start_index()
        gateway = await made.start_gateway()
        made._write_gateway_conf(hl7=gateway.bound["hl7:site"], ops=gateway.bound["ops"])
        yield made


@pytest.mark.asyncio(loop_scope="module")
async def test_ff47_a_healthy_site_has_no_failed_line(site: Site) -> None:
    found = await doctor.examine(site.conf, {})

    bad = [one for one in found.lines if one.finding.verdict is Verdict.FAILED]
    assert bad == []
    assert found.exit_code == 0
    well = verdicts(found)
    for probe in (
        *("store", "integrity", "kek", "disk", "files", "process", "ops", "queue", "hl7 site", "pacs site/main"),
        *("index site", "clock site", "zone site", "version pydicom", "version openssl"),
    ):
        assert well[probe] == "ok", probe
    assert line(found, "process").finding.cause.by(words("en")) == f"running, process {site.gateway.process.pid}"
    assert well["control-study site/main"] == "warning"
    assert well.get("orthanc site/main", "ok") == "ok", "asked where the PACS is an Orthanc"
    assert line(found, "index-certificate", "site").finding.verdict is not Verdict.FAILED


@pytest.mark.asyncio(loop_scope="module")
async def test_ff47_an_index_that_is_down_is_named_and_nothing_else(site: Site) -> None:
    await site.index.end()
    found = await doctor.examine(site.conf, {})
    await site.start_index()

    failed = [name for name, verdict in verdicts(found).items() if verdict == "failed"]
    assert failed == ["index site", "index-certificate site"]
    assert found.exit_code == 1
    assert line(found, "index", "site").finding.detail.startswith("index-no-connection")


@pytest.mark.asyncio(loop_scope="module")
async def test_the_command_prints_french_for_people_and_json_for_programs(site: Site, capsys) -> None:
    assert await doctor.report(site.conf, {}, lang="fr") == 0
    french = capsys.readouterr().out
    assert "bon        base — lisible, toutes les migrations sont appliquées\n" in french
    assert "→ Nommer un examen qu’il gardera toujours\u00a0: control_study." in french
    assert await doctor.report(site.conf, {}, lang="en", as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"probe", "subject", "verdict", "what", "cause", "remedy", "detail", "took_ms"} == set(told["findings"][0])
    assert told["counts"]["failed"] == 0


async def test_ff47_a_configuration_that_cannot_be_used_is_exit_2(tmp_path: Path) -> None:
    found = await doctor.examine(write(tmp_path, changed("[ops]", "[opz]")), {})
    assert found.exit_code == 2
    assert [one.probe for one in found.lines] == ["configuration"] * len(found.lines)


def configured(folder: Path, *more: str, **changes: str) -> Path:
    """The world's database under a configuration whose peers are nobody's."""
    text = TEXT.replace('"poterne.db"', '"gateway.db"').replace("[tenants.fantome", f"[tenants.{WORLD_TENANT}")
    text = text.replace("https://index.fantome.example", "http://127.0.0.1:1").replace('ca_file = "ca.pem"\n', "")
    text = text.replace('certificate_file = "own.pem"\n', "").replace('key_file = "own.key"\n', "")
    for old, new in changes.items():
        text = text.replace(old, new)
    path = write(folder, text + "\n".join(more))
    (folder / "kek").write_bytes(bytes(range(32)))
    return path


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    async with world(tmp_path):
        pass
    return tmp_path


async def test_a_key_file_that_is_not_the_databases_is_named(folder: Path) -> None:
    path = configured(folder)
    (folder / "kek").write_bytes(bytes(range(32, 64)))
    found = line(await doctor.examine(path, {}), "kek")
    assert found.finding.verdict is Verdict.FAILED
    assert found.finding.cause.by(words("fr")) == "le fichier de clé n’ouvre pas les clés de cette base"
    assert found.finding.remedy.by(words("fr"))


async def test_files_that_others_may_read_are_named(folder: Path) -> None:
    path = configured(folder)
    (folder / "gateway.db.lock").chmod(0o644)
    found = line(await doctor.examine(path, {}), "files")
    assert found.finding.verdict is Verdict.FAILED
    assert str(folder / "gateway.db.lock") in found.finding.cause.by(words("en"))


async def test_a_damaged_database_is_named(folder: Path) -> None:
    path = configured(folder)
    with (folder / "gateway.db").open("r+b") as file:
        file.seek(4096 * 4)
        file.write(b"\xff" * 4096 * 2)
    found = await doctor.examine(path, {})
    assert {line(found, "integrity").finding.verdict, line(found, "store").finding.verdict} & {Verdict.FAILED}


async def test_a_disk_under_its_limits_is_named(folder: Path) -> None:
    low = configured(folder, f"[disk]\nlow_bytes = {2**62}\n")
    assert line(await doctor.examine(low, {}), "disk").finding.verdict is Verdict.WARNING
    full = configured(folder, f"[disk]\nlow_bytes = {2**62}\nreserve_bytes = {2**61}\n")
    assert line(await doctor.examine(full, {}), "disk").finding.verdict is Verdict.FAILED


async def test_a_library_below_its_floor_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(local.FLOORS, "pydicom", (99, 0, 0))
    found = line(await doctor.examine(configured(folder), {}), "version", "pydicom")
    assert found.finding.verdict is Verdict.FAILED
    assert "99.0.0" in found.finding.cause.by(words("en"))


async def test_without_a_database_the_first_start_is_what_is_missing(tmp_path: Path) -> None:
    found = line(await doctor.examine(configured(tmp_path), {}), "store")
    assert found.finding.verdict is Verdict.WARNING
    assert "poterne serve" in found.finding.remedy.by(words("fr"))
    assert not (tmp_path / "gateway.db").exists(), "looking makes nothing"


async def test_warnings_fail_only_where_a_setting_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "PROBES", tuple(one for one in PROBES if one.name == "process"))
    assert (await doctor.examine(configured(folder), {})).exit_code == 0
    assert (await doctor.examine(configured(folder, "[doctor]\nwarnings_fail = true\n"), {})).exit_code == 1


async def test_a_peer_that_says_nothing_ends_within_the_limit_and_hides_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tuple(
        one
        if one.name != "index"
        else type(one)(name="index", what=one.what, run=one.run, subjects=one.subjects, limit_s=0.3)
        for one in PROBES
        if one.name in {"index", "store"}
    )
    monkeypatch.setattr(examination, "PROBES", short)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        async with asyncio.timeout(3):
            found = await doctor.examine(configured(folder, **{"127.0.0.1:1/xds": f"{where}/xds"}), {})
    assert line(found, "index", WORLD_TENANT).finding.verdict is Verdict.FAILED
    assert line(found, "index", WORLD_TENANT).finding.cause.by(words("fr")) == "pas de réponse en 0,3\u00a0s"
    assert line(found, "store").finding.verdict is Verdict.OK


async def test_a_probe_that_breaks_hides_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_context: Any, _subject: str) -> Any:
        raise RuntimeError("CANARINOM")

    made = type(PROBES[0])(name="broken", what="broken", run=broken)
    monkeypatch.setattr(examination, "PROBES", (made, PROBES[0]))
    found = await doctor.examine(configured(folder), {})
    assert verdicts(found) == {"broken": "failed", "store": "ok"}
    assert "CANARINOM" not in found.text(words("en"))


@pytest.mark.parametrize(("minutes", "verdict"), [(0, Verdict.OK), (5, Verdict.WARNING), (-5, Verdict.WARNING)])
async def test_ff42_a_clock_that_differs_from_the_indexs_is_named(
    folder: Path, minutes: int, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        stated = datetime.now(UTC) + timedelta(minutes=minutes)
        return web.Response(status=503, headers={"Date": f"{stated:%a, %d %b %Y %H:%M:%S} GMT"})

    monkeypatch.setattr(examination, "PROBES", tuple(one for one in PROBES if one.name == "clock"))
    app = web.Application()
    app.router.add_post("/{rest:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    where = f"127.0.0.1:{runner.addresses[0][1]}"
    found = await doctor.examine(configured(folder, **{"127.0.0.1:1/xds": f"{where}/xds"}), {})
    await runner.cleanup()
    assert line(found, "clock", WORLD_TENANT).finding.verdict is verdict


async def test_alerts_reach_their_receivers_only_when_asked_and_marked_test(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "PROBES", tuple(one for one in PROBES if one.name == "channel"))
    async with relay() as post, receiver() as service:
        path = configured(
            folder,
            f'[alerts.webhook]\nurl = "{service.url}"\n[alerts.mail]\nhost = "127.0.0.1"\nport = {post.port}\n'
            'security = "none"\nsender = "p@fantome.example"\nrecipients = ["a@fantome.example"]\n',
        )
        looked = await doctor.examine(path, {})
        assert verdicts(looked) == {"channel mail": "ok", "channel webhook": "ok"}
        assert (post.mails, [body for body in service.bodies if body]) == ([], [])
        assert verdicts(await doctor.examine(path, {}, send_test=True)) == {
            "channel mail": "ok",
            "channel webhook": "ok",
        }
        assert post.mails[0]["Subject"].startswith("TEST ")
        assert json.loads(service.bodies[-1])["subject"].startswith("TEST ")
    gone = await doctor.examine(path, {})
    assert verdicts(gone) == {"channel mail": "failed", "channel webhook": "failed"}


@pytest.mark.postgres
async def test_a_database_server_is_judged_by_what_its_commits_promise(tmp_path: Path, postgres_place) -> None:
    store = await open_store(postgres_place, COMPONENTS)
    server = f'[store.postgres]\nhost = "{postgres_place.host}"\ndatabase = "poterne"\nuser = "poterne"\n'
    settings = load(
        write(tmp_path, changed('path = "poterne.db"\nkek_file = "kek"\n', f'kek_file = "kek"\n{server}')), {}
    )
    context = Context(settings=settings, now=datetime.now(UTC), store=store, store_fault=None, send_test=False)
    try:
        for probe in (local.store, local.integrity, local.kek, local.queue, local.disk, local.files, local.process):
            assert (await probe(context, "")).verdict is Verdict.OK, probe
        promised = (await local.integrity(context, "")).cause.by(words("en"))
        assert promised.startswith(
            f"PostgreSQL {(await store.read(local._server_settings))['server_version_num'][:2]}"
        )
    finally:
        await store.close()


def test_a_server_that_may_lose_what_it_confirmed_is_refused() -> None:
    safe = {"server_version_num": "150014", "synchronous_commit": "on", "fsync": "on", "full_page_writes": "on"}
    safe |= {"lag_s": "0.0", "standbys": "0"}
    assert local._server(safe).verdict is Verdict.OK
    assert local._server(safe | {"server_version_num": "140002"}).verdict is Verdict.FAILED
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        assert local._server(safe | {name: "off"}).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("status", "system", "verdict"),
    [
        (200, {"Version": "1.9.4"}, Verdict.OK),
        (200, {"Version": "1.12.10"}, Verdict.OK),
        (200, {"Version": "mainline"}, Verdict.OK),
        (200, {"Version": "1.9.3"}, Verdict.FAILED),
        (200, {}, Verdict.FAILED),
        (200, "maintenance", Verdict.FAILED),
        (401, {"Version": "1.12.10"}, Verdict.FAILED),
    ],
)
async def test_an_orthanc_below_its_floor_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, status: int, system: object, verdict: Verdict
) -> None:
    monkeypatch.setattr(examination, "PROBES", tuple(one for one in PROBES if one.name == "orthanc"))
    app = web.Application()

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(system, status=status)

    app.router.add_get("/system", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    where = f"127.0.0.1:{runner.addresses[0][1]}"
    found = await doctor.examine(configured(folder, **{"127.0.0.1:8042": where}), {})
    await runner.cleanup()
    assert verdicts(found) == {f"orthanc {WORLD_TENANT}/main": verdict.value}
