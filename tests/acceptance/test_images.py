"""A running site hears by DICOM that images were rejected; killed in between, it goes on from its rows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from gateway.lab.ris import LabExam, build_oru
from gateway.lab.site import Site
from tests.acceptance.test_dicom_door import free_port
from tests.fixtures.rejections import note
from tests.support.imaging import EVERYTHING, NOTES, _stored, imaged, named


def scrape(ops: str) -> str:
    with build_opener(ProxyHandler({})).open(f"http://{ops}/metrics", timeout=5) as page:
        return str(page.read().decode())


@pytest.mark.timeout(180)
async def test_f01_a_note_that_was_stored_when_the_gateway_was_killed_is_obeyed_after_its_restart(
    tmp_path: Path,
) -> None:
    port, one = free_port(), LabExam()
    sections = {
        "tenants.site.dicom": {
            "listen": f"127.0.0.1:{port}",
            "folder": str(tmp_path / "received"),
            "notes_ae_title": NOTES,
            "segment": "trusted-lan",
        },
        "tenants.site.dicom.peers.pacs": {"aet": "SCU", "networks": ["127.0.0.1"], "may": EVERYTHING},
    }
    made = imaged(one)
    patient = f"{one.patient.matricule}^^^&{one.patient.ins_oid}&ISO^NH"

    async def shown(site: Site) -> list[str]:
        found = await site.entries(patient=patient, study=one.studies[0])
        return [str(entry["unique_id"]) for entry in found if entry["status"] == "Approved"]

    async def another(site: Site, before: list[str]) -> list[str]:
        """The one approved entry, once it is another than before."""
        async with asyncio.timeout(40):
            while (now := await shown(site)) == before or len(now) != 1:
                await asyncio.sleep(0.3)
        return now

    async with Site(tmp_path / "site", settings=sections) as site:
        await site.start_pacs(prefer_orthanc=False)
        await site.load([stored.data for stored in made.objects])
        await site.start_index()
        # the crash point is passed by the note's row alone, not by what the doors do before
        gateway = await site.start_gateway({"POTERNE_CRASH_AT": "dimse-object-committed#1"})
        assert b"MSA|AA|" in await site.report(build_oru(one, control_id="S1"))
        first = await another(site, [])
        told = note({one.studies[0]: made.objects[:1]}, title="113037", **named(one))
        with pytest.raises((AssertionError, AttributeError, OSError)):
            await asyncio.to_thread(_stored, port, told, NOTES, "SCU", "1.2.840.10008.5.1.4.1.1.88.59")
        assert await gateway.process.wait() == -9
        restarted = await site.start_gateway()
        await another(site, first)

        wrong = note({one.studies[0]: made.objects}, uid="1.2.9.9", **named(one, PatientID="ELSE"))
        answer = await asyncio.to_thread(_stored, port, wrong, NOTES, "SCU", "1.2.840.10008.5.1.4.1.1.88.59")
        assert answer == (0xC000, "kept, not obeyed: rejection-other-patient")
        code, printed = await site.command("pacs", "inbox", "--json")
        assert code == 0
        facts = json.loads(printed)
        assert [(each["keeping"], each["reason"]) for each in facts["objects"]] == [
            ("quarantined", "rejection-other-patient")
        ]
        assert [each["study"] for each in facts["refused_notes"]] == [one.studies[0]]
        code, printed = await site.command("pacs", "inbox", "--lang", "fr")
        assert "une note de rejet qui nomme un autre patient" in printed
        assert one.patient.birth_name not in printed
        page = await asyncio.to_thread(scrape, restarted.bound["ops"])
        assert 'dicom_inbox_objects{keeping="quarantined",tenant="site"} 1.0' in page
