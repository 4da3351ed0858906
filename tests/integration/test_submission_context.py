"""FF-29: two ways to a new version, a report that changed or images that did, and the assertion each one carries.

Real store, real index node; the assertions are those the client made for each ITI-41, read back as an index reads them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from indexer.xds.client import XdsClient
from indexer.xds.vihf import NS_SAML, Errand, read_security_header, security_header
from security.keys.signer import PemSigner
from security.xmlsig.verifying import Trust
from tests.integration.test_lifecycle import CORRECTION, EXAM, FLAGS, look, publish
from tests.support.signing import NOW
from tests.support.world import World, world
from tests.unit.test_vihf import CLAIMS

SECRET = replace(EXAM, flags={**FLAGS, "CONNEXION_SECRETE": "Y"})
OTHER_DOCTOR = "899900000025"
Said = tuple[str, dict[str, tuple[str, ...]]]


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def listen(w: World, signer: PemSigner, trust: Trust) -> list[Said]:
    """NameID and attributes of the assertion of each request that publishes, in order."""
    heard: list[Said] = []

    def assertion(errand: Errand) -> bytes:
        number = f"_a{len(heard)}"
        header = security_header(CLAIMS, errand, assertion_id=number, now=NOW, signer=signer)
        element = etree.fromstring(header)
        (name,) = (one.text for one in element.iter(f"{{{NS_SAML}}}NameID"))
        if errand.patient_id:  # a query names no patient
            attributes = read_security_header(element, trust=trust, now=NOW).attributes
            heard.append((str(name), dict(attributes)))
        return header

    assert isinstance(w.client, XdsClient)
    w.client._assertion = assertion
    return heard


async def test_ff29_images_that_changed_go_out_under_the_context_of_the_last_submission(
    w: World, signer: PemSigner, trust: Trust
) -> None:
    heard = listen(w, signer, trust)
    await publish(w, SECRET)
    w.restart("live")
    w.pacs.hold(EXAM, instances=5)
    await look(w)
    first, second = heard
    assert second == first
    assert EXAM.doctor_id in first[0]
    assert any("CONNEXION_SECRETE" in value for values in first[1].values() for value in values)


async def test_ff29_a_report_that_changed_brings_its_own_context_and_later_images_keep_that_one(
    w: World, signer: PemSigner, trust: Trust
) -> None:
    heard = listen(w, signer, trust)
    await publish(w)
    changed = replace(CORRECTION, doctor_id=OTHER_DOCTOR, flags={**FLAGS, "MASQUE_PS": "Y"})
    assert "MSA|AA|" in await w.report(changed, order_control="RO")
    await w.settle()
    w.pacs.hold(EXAM, instances=5)
    await look(w)
    first, by_report, by_images = heard
    assert EXAM.doctor_id in first[0]
    assert OTHER_DOCTOR in by_report[0]
    assert by_images == by_report
