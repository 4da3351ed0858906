"""The support bundle: enough to help, and no patient in it."""

from __future__ import annotations

import gzip
import json
import tarfile
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway import bundle
from gateway.components import COMPONENTS
from gateway.lab.ris import LabExam, LabOrder, LabPatient
from security.errors import Broken
from security.outbox import jobs
from security.store.opening import open_store
from tests.support.world import TENANT, world
from tests.unit.configuration import TEXT, write

CANARIES = (
    *("CANARINOM", "CANARIPRENOM", "CANARIUTILISE", "IPPCANARI77", "ACCCANARI88", "CANARIPLACER", "19330717"),
    *("1933-07-17", "canari-personne", "canari-mot-de-passe", "1.2.250.1.213.4.5.9.2.4242"),
)
PATIENT = LabPatient(
    birth_name="CANARINOM",
    first_given_name="CANARIPRENOM",
    given_names="CANARIPRENOM",
    used_name="CANARIUTILISE",
    birth_date=date(1933, 7, 17),
    ipp="IPPCANARI77",
)
EXAM = replace(
    LabExam(),
    patient=PATIENT,
    orders=(LabOrder(accession_number="ACCCANARI88", placer_number="CANARIPLACER"),),
    studies=("1.2.250.1.213.4.5.9.2.4242",),
)
LOG = [
    {"ts": "2026-03-02T09:30:00.000+00:00", "level": "warning", "event": "hl7-refused", "code": "AE", "sender": "CANARINOM"},
    {"ts": "2026-03-02T09:30:01.000+00:00", "level": "info", "event": "CANARINOM CANARIPRENOM", "number": 3},
    {"ts": "2026-03-02T09:30:02.000+00:00", "level": "error", "event": "unhandled-error", "ipp": 19330717,
     "exception": [{"type": "ValueError", "message": "CANARINOM", "at": ["gateway/x.py:12 y"]}]},
]  # fmt: skip


def configuration(folder: Path) -> Path:
    """The usual configuration over the world's database, with canaries in its comments, names and secrets."""
    text = TEXT.replace('"poterne.db"', '"gateway.db"').replace("[tenants.fantome", f"[tenants.{TENANT}")
    text = text.replace('name = "Clinique Fantôme"', 'name = "CANARINOM"  # patient CANARIPRENOM')
    path = write(folder, text)
    (folder / "kek").write_bytes(bytes(range(32)))
    (folder / "password").write_text("canari-mot-de-passe")
    return path


async def made(folder: Path, **more: Any) -> Path:
    return await bundle.make(configuration(folder), {}, out=folder / "bundle.tar.gz", **more)


def members(place: Path) -> dict[str, bytes]:
    with tarfile.open(place) as archive:
        return {
            member.name.removeprefix("poterne-support/"): archive.extractfile(member).read()
            for member in archive.getmembers()
        }


@pytest.fixture
async def place(tmp_path: Path) -> Path:
    async with world(tmp_path) as w:
        w.pacs.hold(EXAM)
        assert "\rMSA|AA|" in await w.report(EXAM)
        await w.settle()
        assert "\rMSA|A" in await w.report(
            replace(EXAM, patient=replace(PATIENT, ins_status="PROV")), control_id="CANARINOM"
        )
        assert "\rMSA|AR|" in await w.raw(b"MSH|^~\\&|CANARINOM|||||||CANARI|1|P|2.5\rPID|CANARINOM\r")

        def give_up(tx) -> None:
            number = jobs.enqueue(
                tx, tenant=TENANT, lane=EXAM.studies[0], kind="publish", job_class=jobs.JobClass.P1, now=w.clock.now(),
                state=jobs.State.BLOCKED, reason="identity-pacs-name", detail="CANARINOM",
            )  # fmt: skip
            jobs.discard(
                tx, tenant=TENANT, job_id=number, now=w.clock.now(), actor="canari-personne", reason="canari-personne"
            )

        await w.store.write(give_up)
        log = tmp_path / "poterne.log"
        log.write_text("".join(f"{json.dumps(line)}\n" for line in LOG) + "Traceback: CANARINOM\n")
        return await made(tmp_path, log_file=log)


async def test_no_patient_value_stands_in_the_bundle_nor_in_its_members(place: Path) -> None:
    whole = gzip.decompress(place.read_bytes())
    texts = [place.read_bytes(), whole, *members(place).values()]
    texts += [json.dumps(json.loads(data), ensure_ascii=False).encode() for data in members(place).values()]
    matricule = PATIENT.matricule
    assert matricule
    found = {word for word in (*CANARIES, matricule) for text in texts if word.encode() in text}
    assert found == set()


async def test_the_bundle_holds_what_helps_and_says_what_it_holds(place: Path) -> None:
    files = {name: json.loads(data) for name, data in members(place).items()}
    assert [one["name"] for one in files["MANIFEST.json"]["files"]] == [
        name for name in files if name != "MANIFEST.json"
    ]
    assert files["MANIFEST.json"]["missing"] == ""
    assert place.stat().st_mode & 0o777 == 0o600
    assert {row["component"] for row in files["migrations.json"]} >= {"ground", "exams", "inbox"}
    published = [job for job in files["jobs.json"] if job["state"] == "PUBLISHED"]
    assert [step["to_state"] for step in published[0]["history"]][-1] == "PUBLISHED"
    assert {job["study"] for job in files["jobs.json"]} == {published[0]["study"]}, "one study, one hash"
    cancelled = next(job for job in files["jobs.json"] if job["state"] == "CANCELLED")
    assert [step["reason"] for step in cancelled["history"]] == ["identity-pacs-name", "[removed]"]
    tenant = files["configuration.json"]["tenants"][TENANT]
    assert tenant["name"] == "[removed]"
    assert tenant["pacs"]["main"]["url"] == "http://127.0.0.1:8042"
    assert [(line["event"], line.get("code")) for line in files["log.json"]["lines"]] == [
        ("hl7-refused", None),
        ("unhandled-error", None),
    ]
    assert files["log.json"]["lines"][1]["exception"] == [{"type": "ValueError", "at": ["gateway/x.py:12 y"]}]
    assert files["log.json"]["left_out"] == 2


async def test_two_bundles_hash_the_same_study_differently(place: Path, tmp_path: Path) -> None:
    other = await bundle.make(tmp_path / "poterne.toml", {}, out=tmp_path / "other.tar.gz")
    one, two = (json.loads(members(file)["jobs.json"]) for file in (place, other))
    assert {job["study"] for job in one}.isdisjoint({job["study"] for job in two})


async def test_what_exists_is_not_overwritten(place: Path, tmp_path: Path) -> None:
    before = place.read_bytes()
    with pytest.raises(Broken) as caught:
        await bundle.make(tmp_path / "poterne.toml", {}, out=place)
    assert caught.value.code == "bundle-exists"
    assert place.read_bytes() == before


async def test_without_a_database_the_bundle_says_what_is_missing(tmp_path: Path) -> None:
    files = members(await made(tmp_path))
    assert json.loads(files["MANIFEST.json"])["missing"] == "database: store-place"
    assert "doctor.json" in files


async def test_a_configuration_that_cannot_be_used_is_named_instead(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT.replace("[ops]", "[opz]"))
    code, said = await bundle.run(path, {}, out=tmp_path / "b.tar.gz", log_file=None, lang="fr")
    assert code == 2
    assert "opz" in said
    assert not (tmp_path / "b.tar.gz").exists()


@pytest.mark.postgres
async def test_the_database_parts_read_from_a_server_too(postgres_place) -> None:
    store = await open_store(postgres_place, COMPONENTS)
    try:
        await store.write(
            lambda tx: jobs.enqueue(
                tx,
                tenant=TENANT,
                lane=EXAM.studies[0],
                kind="publish",
                job_class=jobs.JobClass.P1,
                now=datetime.now(UTC),
            )
        )
        (job,) = await store.read(lambda tx: bundle._jobs(tx, lambda _study: "hashed"))
        assert (job["study"], [step["event"] for step in job["history"]]) == ("hashed", ["enqueued"])
        for part in (bundle._migrations, bundle._queue, bundle._messages, bundle._alerts, bundle._capabilities):
            json.dumps(await store.read(part))
    finally:
        await store.close()


async def test_t60_the_address_of_a_webhook_is_a_secret_and_the_control_study_a_study(tmp_path: Path) -> None:
    path = configuration(tmp_path)
    text = path.read_text(encoding="utf-8").replace(
        'kind = "orthanc"', 'kind = "orthanc"\ncontrol_study = "1.2.250.1.213.4.5.9.2.4242"'
    )
    text += '[alerts.webhook]\nurl = "https://hooks.fantome.example/services/canari-mot-de-passe"\n'
    path.write_text(text, encoding="utf-8")

    place = await bundle.make(path, {}, out=tmp_path / "bundle.tar.gz")

    files = members(place)
    assert not [word for word in CANARIES for data in files.values() if word.encode() in data]
    assert b"https://hooks.fantome.example" in files["configuration.json"]
