"""From the settings to the wire: a gateway's client brings its assertion, an index node that asks for one lets it in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from gateway.peers import index_client
from gateway.settings import IndexNodeSettings, IndexXds, VihfSettings, load
from gateway.wiring import index_house
from indexer.ports import EntryAbsent, EntryUnknown
from security.keys.lab_pki import LabAuthority
from tests.unit.configuration import write


@pytest.fixture
def signing(tmp_path: Path):
    now = datetime.now(UTC)
    return LabAuthority.create(tmp_path / "pki", now=now).issue(
        "sign", not_before=now - timedelta(hours=1), not_after=now + timedelta(days=1)
    )


async def test_a_node_that_asks_for_assertions_serves_who_brings_one_and_nobody_else(tmp_path: Path, signing) -> None:
    settings = load(write(tmp_path), {})
    assert settings.index_node is not None
    node = settings.index_node.model_copy(
        update={
            "listen": "127.0.0.1:0",
            "assertion_certificates_file": signing.certificate,
            "ca_file": None,
            "certificate_file": None,
            "key_file": None,
        }
    )
    assert isinstance(node, IndexNodeSettings)
    async with index_house(node) as house, house.doors() as doors:
        where = f"http://{doors['index']}/xds"
        plain = IndexXds(
            registry_url=f"{where}/registry",
            repository_url=f"{where}/repository",
            repository_unique_id=node.repository_unique_id,
        )
        asserting = plain.model_copy(
            update={
                "sign_certificate_file": signing.certificate,
                "sign_key_file": signing.key,
                "vihf": VihfSettings(lps_id="0123456789"),
            }
        )
        (tenant,) = settings.tenants.values()
        answers = []
        for index in (plain, asserting):
            client = index_client(tenant.model_copy(update={"index": index}))
            answers.append(await client.find_document("2.25.1"))
            await client.aclose()
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{doors['index']}/fhir/metadata") as answer,
        ):
            assert answer.status == 404  # the other door knows no assertion, so it is not there
    assert isinstance(answers[0], EntryUnknown)
    assert answers[0].reason == "soap-sender"
    assert answers[1] == EntryAbsent()
