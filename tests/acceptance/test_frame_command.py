"""``poterne draw frame``: from the messages of a site to FRAME.csv, in one command, with or without a running gateway."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from pathlib import Path

import pytest

from gateway import frame_command, orders
from gateway.frames import OUT_OF_PERIOD
from gateway.i18n import words
from gateway.lab.ris import build_oru
from gateway.settings import load
from sampler.draw.table import rows_of
from sampler.draw.units import commit
from sampler.frame.counts import NO_REPORT, SOURCES
from sampler.frame.rows import Exclusion, RequestState
from tests.acceptance.test_commands import ANSWERS, poterne
from tests.integration.test_frame_building import PROTOCOL, lab_exam

PERIOD = ("--from", "2026-01-08", "--to", "2026-01-08")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gateway that took eleven reports in and does not run."""
    folder = tmp_path_factory.mktemp("frame") / "site"
    assert poterne("init", str(folder), *ANSWERS).returncode == 0
    conf = folder / "poterne.toml"
    (folder / "conf.d").mkdir(exist_ok=True)
    (folder / "conf.d" / "persons.toml").write_text('[tenants.fantome.identity]\ntest_identity = "off"\n')

    async def take() -> list[str]:
        async with orders.orders(load(conf, {})) as order:
            taken = []
            for number in range(11):
                message = base64.b64encode(build_oru(lab_exam(number), control_id=f"M{number}")).decode()
                taken.append((await order("take", {"tenant": "fantome", "message": message}))[0])
            return taken

    assert asyncio.run(take()) == ["AA"] * 11
    (folder / "protocol.json").write_text(json.dumps(PROTOCOL))
    return conf


def frame(conf: Path, *more: str, lang: str = "en"):
    folder = conf.parent
    files = (str(folder / "protocol.json"), "--out", str(folder / "frame.csv"))
    return poterne("draw", "frame", *files, *(more or PERIOD), "--conf", str(conf), lang=lang)


def test_a_frame_is_built_written_and_told(site: Path) -> None:
    counts = site.with_name("counts.json")
    ran = frame(site, *PERIOD, "--counts", str(counts))
    assert ran.returncode == 0, ran.stderr
    file = site.with_name("frame.csv")
    committed = commit(rows_of(file.read_text().splitlines()))
    account = json.loads(counts.read_text())
    assert account["root"] == committed.root.hex()
    assert (account["size"], account["merged"]) == (11, {"SITE-B": "SITE-A"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "11 units of 11 practitioners" in ran.stdout
    assert "studies (PACS): no clean answer" in ran.stdout  # its PACS is not there
    assert "SITE-B had fewer than 5 units: they went to SITE-A" in ran.stdout


def test_it_speaks_french_and_json(site: Path) -> None:
    told = frame(site, lang="fr").stdout
    assert "11 unités de 11 praticiens" in told
    assert "à expliquer" in told
    ran = frame(site, *PERIOD, "--json")
    assert json.loads(ran.stdout)["size"] == 11


def test_objections_of_a_file_are_obeyed_and_counted(site: Path) -> None:
    listed = site.with_name("objections.txt")
    listed.write_text("IPP3\n\n")
    account = json.loads(frame(site, *PERIOD, "--objections", str(listed), "--json").stdout)
    assert account["exclusions"] == {"patient-objection": 1}


def test_ff51_a_campaign_that_is_forgotten_is_so_for_a_reason_in_the_trail(site: Path) -> None:
    before = json.loads(frame(site, *PERIOD, "--json").stdout)["root"]
    words_ = ("draw", "forget", "CAMP-2026", "--reason", "retention is over", "--conf", str(site))
    ran = poterne(*words_, "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["frames"] >= 1
    again = poterne(*words_, lang="fr")
    assert again.returncode == 2
    assert "Cette campagne n’a pas de clés ici" in again.stderr
    shown = poterne("audit", "show", "--between", "2020-01-01", "2100-01-01", "--event", "campaign.forgotten", "--json",
                    "--conf", str(site)).stdout  # fmt: skip
    (row,) = [json.loads(line) for line in shown.splitlines()]
    assert (row["object_id"], row["detail"]) == ("CAMP-2026", "retention is over")
    assert json.loads(frame(site, *PERIOD, "--json").stdout)["root"] != before


@pytest.mark.parametrize(
    ("period", "code", "ends"),
    [
        (("--from", "2026-01-09", "--to", "2026-01-08"), "frame-period", 2),
        (("--from", "2020-01-09", "--to", "2020-01-09"), "E_EMPTY_FRAME", 1),
    ],
)
def test_what_makes_no_frame_is_told(site: Path, period: tuple[str, ...], code: str, ends: int) -> None:
    ran = frame(site, *period)
    assert ran.returncode == ends
    assert code in ran.stderr


def test_every_reason_and_source_has_words_for_people() -> None:
    reasons = {*Exclusion, *RequestState, NO_REPORT, OUT_OF_PERIOD, "in-progress"} - {RequestState.PERFORMED}
    assert reasons == frame_command._REASONS.keys()
    assert set(SOURCES) == frame_command._SOURCES.keys()


def test_an_account_is_told_whole_in_both_languages() -> None:
    account = {
        "size": 100, "practitioners": 7, "root": "ab", "strata": {"CT": 95, "MR": 5}, "merged": {"XA": "CT"},
        "without_practitioner": 2, "exclusions": {"trial-exam": 1},
        "counts": [
            {"of": "RIS", "number": 103, "in_frame": 98, "missing": 2, "reasons": {"refused": 5}, "why": "",
             "gap_percent": "3.0", "needs_words": True},
            {"of": "PACS", "number": None, "in_frame": 0, "missing": 0, "reasons": {}, "why": "timeout",
             "gap_percent": None, "needs_words": True},
        ],
    }  # fmt: skip
    english = "\n".join(frame_command.told(account, words("en")))
    for said in ("103, of which 98 in the frame; gap 3.0 %", "5  request refused", "2 of the frame are not there", "above 2 %",
                 "no clean answer (timeout)", "1  trial exam", "2 of them without a stated practitioner"):  # fmt: skip
        assert said in english
    assert "demande refusée" in "\n".join(frame_command.told(account, words("fr")))
