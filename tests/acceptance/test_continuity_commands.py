"""``poterne reconcile``, ``backup`` and ``restore`` as a person runs them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.components import COMPONENTS
from gateway.settings import load
from gateway.stores import store_place
from security.accounts.consents import Consents
from security.clock import SystemClock
from security.secrets import read_kek
from security.store.opening import open_store
from tests.acceptance.test_commands import ANSWERS, poterne
from tests.support.people import people


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """The configuration of a gateway with a database, in shadow mode, that does not run."""
    assert poterne("init", str(tmp_path / "site"), *ANSWERS).returncode == 0
    made = tmp_path / "site" / "poterne.toml"
    assert poterne("queue", "pause", "--reason", "first look", "--conf", str(made)).returncode == 0
    return made


def live(conf: Path) -> Path:
    conf.write_text(conf.read_text().replace('mode = "shadow"', 'mode = "live"'))
    return conf


def test_in_shadow_mode_nothing_is_reconciled(conf: Path) -> None:
    ran = poterne("reconcile", "--conf", str(conf))
    assert ran.returncode == 2
    assert "reconcile-shadow" in ran.stderr


def test_days_that_do_not_belong_together_are_refused(conf: Path) -> None:
    ran = poterne("reconcile", "--from", "2026-01-08", "--conf", str(live(conf)), lang="fr")
    assert ran.returncode == 2
    assert "reconcile-period" in ran.stderr


def test_a_run_over_no_exam_says_so_and_days_a_silent_pacs_did_not_list_ask_for_a_person(conf: Path) -> None:
    live(conf)
    ran = poterne("reconcile", "--json", "--conf", str(conf))
    found = json.loads(ran.stdout)
    assert (ran.returncode, found["counts"]) == (0, {"in-step": 0})
    assert (found["trail"]["is_intact"], found["received"], found["unchecked"]) == (True, None, {})
    ran = poterne("reconcile", "--from", "2026-01-08", "--to", "2026-01-08", "--conf", str(conf), lang="fr")
    assert ran.returncode == 1
    assert "[day-unknown]" in ran.stdout
    assert "tels qu’ils ont été écrits" in ran.stdout


def test_a_backup_is_told_noted_and_put_back(conf: Path, tmp_path: Path) -> None:
    file = tmp_path / "poterne.backup"
    assert "no backup yet" in poterne("queue", "--conf", str(conf)).stdout
    ran = poterne("backup", str(file), "--conf", str(conf))
    assert ran.returncode == 0, ran.stderr
    assert "does not hold the key file" in ran.stdout
    assert "last backup" in poterne("queue", "--conf", str(conf)).stdout
    assert json.loads(poterne("queue", "--json", "--conf", str(conf)).stdout)["exposure"][0]["seconds"] == 0
    refused = poterne("restore", str(file), "--conf", str(conf))
    assert refused.returncode == 2
    assert "restore-occupied" in refused.stderr
    done = poterne("restore", str(file), "--replace", "--json", "--conf", str(conf))
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["kept"]).exists()
    assert poterne("queue", "--conf", str(conf)).returncode == 0


def agreed(conf: Path, action: str, *, tenant: str = "", by: str = "paul.roy") -> int:
    """The number of what anne.roy asked for in the database of ``conf``, and ``by`` agreed to ("": nobody yet)."""

    async def agree() -> int:
        place = load(conf, {}).gateway_store()
        store = await open_store(store_place(place), COMPONENTS)
        try:
            house = await people(store, SystemClock(), kek=read_kek(place.kek_file))
            known = {one.name for one in await house.register.every()}
            for name in {"anne.roy", "paul.roy"} - known:
                await house.enrolled(name, "security-officer")
            consents = Consents(store=store, clock=house.clock)
            number = await consents.ask(action, tenant=tenant, reason="exercice de restauration", account="anne.roy")
            if by:
                await consents.give(number, account=by)
            return number
        finally:
            await store.close()

    return asyncio.run(agree())


def test_t46_the_key_leaves_in_a_backup_only_when_two_persons_agreed_and_then_once(
    conf: Path, tmp_path: Path
) -> None:
    file, at = tmp_path / "with", ("--with-key", "--conf", str(conf))

    def refused(*consent: str) -> str:
        ran = poterne("backup", str(file), *at, *consent, lang="fr")
        assert (ran.returncode, file.exists()) == (2, False)
        return ran.stderr

    assert "[two-persons]" in refused()
    assert "[unknown-consent]" in refused("--consent", "1")
    assert "[consent-missing]" in refused("--consent", str(agreed(conf, "keys.export", by="")))
    assert "[unknown-consent]" in refused("--consent", str(agreed(conf, "exams.unpublish-all")))
    number = str(agreed(conf, "keys.export"))
    ran = poterne("backup", str(file), *at, "--consent", number, lang="fr")
    assert ran.returncode == 0, ran.stderr
    assert "CONTIENT LA CLÉ" in ran.stdout
    file.unlink()
    assert "[unknown-consent]" in refused("--consent", number)
    shown = poterne(
        "audit", "show", "--between", "2026-01-01", "2126-01-01", "--event", "consent.used", "--conf", str(conf)
    )
    assert shown.stdout.count("consent.used") == 1


def test_t46_more_withdrawals_than_a_run_may_ask_for_take_two_persons(conf: Path) -> None:
    (tenant,) = load(conf, {}).tenants
    more = ("reconcile", "--withdraw-up-to", "40", "--conf", str(conf))
    early = str(agreed(conf, "exams.unpublish-all", tenant=tenant))
    assert "[reconcile-shadow]" in poterne(*more, "--consent", early).stderr
    live(conf)
    alone = poterne(*more)
    assert (alone.returncode, "[two-persons]" in alone.stderr) == (2, True)
    other = poterne(*more, "--consent", str(agreed(conf, "exams.unpublish-all")))
    assert "[unknown-consent]" in other.stderr, "of the whole installation, not of this legal entity"
    both = poterne(*more, "--consent", early)
    assert both.returncode == 0, "what was refused before used no agreement up: " + both.stderr
    assert "[unknown-consent]" in poterne(*more, "--consent", early).stderr


def test_the_mark_alone_and_neither_file_nor_mark(conf: Path) -> None:
    assert poterne("restore", "--mark", "--conf", str(conf)).returncode == 0
    assert poterne("restore", "--conf", str(conf)).returncode == 2


def test_xdm_archives_are_written_and_read_by_the_same_two_commands(conf: Path, tmp_path: Path) -> None:
    made = poterne("backup", "--xdm", str(tmp_path / "all.zip"), "--json", "--conf", str(conf))
    assert (made.returncode, json.loads(made.stdout)["archives"]) == (0, [])
    said = poterne("backup", "--xdm", str(tmp_path / "all.zip"), "--conf", str(conf), lang="fr")
    assert "Rien à exporter" in said.stdout
    (tmp_path / "no.zip").write_bytes(b"MZ")
    planned = poterne("restore", "--xdm", str(tmp_path / "no.zip"), "--plan", "--conf", str(conf), lang="fr")
    assert (planned.returncode, "[zip-form]" in planned.stdout) == (1, True)
    missing = poterne("restore", "--xdm", str(tmp_path / "none.zip"), "--apply", "--conf", str(conf))
    assert (missing.returncode, "xdm-file" in missing.stderr) == (2, True)


def test_xdm_without_plan_or_apply_or_beside_a_backup_is_bad_usage(conf: Path, tmp_path: Path) -> None:
    archive = str(tmp_path / "a.zip")
    for asked in (
        ("restore", "--xdm", archive),
        ("restore", "--xdm", archive, "--plan", "--apply"),
        ("restore", archive, "--plan"),
        ("restore", archive, "--mark"),
        ("backup",),
        ("backup", archive, "--xdm", archive),
        ("backup", archive, "--since", "2026-01-08"),
        ("backup", "--xdm", archive, "--with-key"),
    ):
        assert poterne(*asked, "--conf", str(conf)).returncode == 2, asked


def test_a_restore_drill_measures_on_a_copy_tells_what_is_declared_and_leaves_nothing_behind(
    conf: Path, tmp_path: Path
) -> None:
    file = tmp_path / "poterne.backup"
    assert "no restore drill yet" in poterne("queue", "--conf", str(conf)).stdout
    assert poterne("backup", str(file), "--conf", str(conf)).returncode == 0
    assert poterne("queue", "resume", "--conf", str(conf)).returncode == 0  # work that the backup lacks
    before = sorted(one.name for one in conf.parent.rglob("*"))
    ran = poterne("drill", "restore", str(file), "--json", "--conf", str(conf))
    assert ran.returncode == 0, ran.stderr
    (told,) = json.loads(ran.stdout)["tenants"]
    assert (told["rpo_declared_s"], told["rto_declared_s"]) == (172_800, 900)
    assert 0 < told["rto_s"] < 900
    assert 0 < told["rpo_s"] < 900
    assert sorted(one.name for one in conf.parent.rglob("*")) == before
    (kept,) = json.loads(poterne("queue", "--json", "--conf", str(conf)).stdout)["drills"]
    assert kept["rto_s"] == pytest.approx(told["rto_s"], abs=0.001)
    assert "exercice de restauration" in poterne("queue", "--conf", str(conf), lang="fr").stdout


def test_a_drill_whose_backup_lacks_more_than_the_declared_rpo_fails(conf: Path, tmp_path: Path) -> None:
    file = tmp_path / "poterne.backup"
    assert poterne("backup", str(file), "--conf", str(conf)).returncode == 0
    assert poterne("queue", "resume", "--conf", str(conf)).returncode == 0
    lines = [line for line in conf.read_text().splitlines() if not line.startswith("rpo_s")]
    (at,) = [number for number, line in enumerate(lines) if line.endswith(".continuity]")]
    conf.write_text("\n".join([*lines[: at + 1], "rpo_s = 0.001", *lines[at + 1 :]]))
    assert poterne("drill", "restore", str(file), "--conf", str(conf)).returncode == 1


def test_a_drill_of_a_damaged_backup_tells_so_and_leaves_no_figure(conf: Path, tmp_path: Path) -> None:
    file = tmp_path / "poterne.backup"
    assert poterne("backup", str(file), "--conf", str(conf)).returncode == 0
    file.write_bytes(file.read_bytes()[:-30_000])
    ran = poterne("drill", "restore", str(file), "--conf", str(conf))
    assert ran.returncode == 2
    assert "backup-damaged" in ran.stderr
    assert "no restore drill yet" in poterne("queue", "--conf", str(conf)).stdout
