"""The door as a site configures it: what its associations leave in the audit trail (T06), renewed certificates."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from gateway.certificates.link import TrustedLink
from gateway.certificates.links import link_of
from gateway.components import COMPONENTS
from gateway.dimse.door import AssociationTrail, Exams, dicom_door
from gateway.settings import DicomPeerSettings, DicomSettings
from indexer import gate
from indexer.admission import Admission
from indexer.ledger import Ledger
from security.clock import SystemClock
from security.keys.lab_pki import LabAuthority, PemPair
from security.keys.tls import client_context
from security.seal import Vault
from security.store.opening import open_store
from tests.fixtures.dicom_objects import CT, EXPLICIT, ROOT, data_set
from tests.support.dimse import TENANT
from tests.support.dimse_raw import RawScu


def nobody(vault: Vault) -> Exams:
    """No exam, no PACS: what comes in is kept and told to nobody."""
    return Exams(
        admission=Admission(tenant=TENANT, ledger=Ledger(vault), rules=gate.Rules()), sources=(), nudge=lambda: None
    )


async def test_associations_leave_rows_that_a_flood_cannot_multiply(tmp_path: Path) -> None:
    settings = DicomSettings(
        listen="127.0.0.1:0",
        folder=tmp_path / "received",
        peers={"scanner": DicomPeerSettings(aet="SCU", networks=["127.0.0.1/32"])},
    )
    store, clock = await open_store(tmp_path / "door.db", COMPONENTS), SystemClock()
    seen: list[tuple[str, str]] = []
    try:
        vault = await Vault.load(store, bytes(range(32)), [TENANT], clock)
        async with dicom_door(
            settings,
            tenant=TENANT,
            store=store,
            vault=vault,
            clock=clock,
            room=lambda: True,
            free_bytes_min=0,
            observe=lambda what, outcome: seen.append((what, outcome)),
            exams=nobody(vault),
        ) as listener:

            def call(aet: str) -> int:
                with RawScu(listener.port) as scu:
                    if not scu.associate([(CT, [EXPLICIT])], aet=aet):
                        return -1
                    return scu.store(1, CT, f"{ROOT}.1.1.1", data_set())

            assert await asyncio.to_thread(call, "SCU") == 0
            assert [await asyncio.to_thread(call, "NOBODY") for _ in range(20)] == [-1] * 20
        rows = await store.read(lambda tx: tx.rows("SELECT * FROM audit_record ORDER BY seq"))
    finally:
        await store.close()
    told = {(row["event"], row["actor"], row["object_id"], row["outcome"]) for row in rows}
    assert told == {
        ("dicom.received", "pacs-peer scanner", f"{ROOT}.1", 0),
        ("dicom.association-accepted", "pacs-peer scanner", "127.0.0.1", 0),
        ("dicom.association-rejected", "pacs-peer", "127.0.0.1", 4),
    }
    rejected = [row["detail"] for row in rows if row["event"] == "dicom.association-rejected"]
    assert sum(int(detail.split()[0]) for detail in rejected) == 20
    assert len(rejected) <= 4
    assert all(detail.endswith("calling AE title") for detail in rejected)
    assert ("object", "new") in seen


async def test_from_a_thousand_addresses_on_they_are_counted_together(tmp_path: Path) -> None:
    store, clock = await open_store(tmp_path / "door.db", COMPONENTS), SystemClock()
    try:
        trail = AssociationTrail(tenant=TENANT, store=store, clock=clock)
        for number in range(5000):
            trail.note("dropped", origin=f"10.0.{number // 256}.{number % 256}")
        await trail.write()
        rows = await store.read(lambda tx: tx.rows("SELECT object_id, detail FROM audit_record"))
    finally:
        await store.close()
    assert len(rows) == 1001
    assert {row["detail"] for row in rows if row["object_id"] == "many"} == {"4000"}


async def test_renewed_certificate_files_are_taken_into_use_and_bad_ones_are_not(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    days = {"not_before": now - timedelta(hours=1), "not_after": now + timedelta(days=1)}
    authority = LabAuthority.create(tmp_path / "pki", now=now)
    first, second, scu = (authority.issue(name, **days) for name in ("first", "second", "scu"))
    own, key = tmp_path / "own.pem", tmp_path / "own.key"

    def put(pair: PemPair) -> None:
        shutil.copy(pair.certificate, own)
        shutil.copy(pair.key, key)

    put(first)
    settings = DicomSettings(
        listen="127.0.0.1:0",
        folder=tmp_path / "received",
        ca_file=authority.certificate,
        certificate_file=own,
        key_file=key,
        peers={"scanner": DicomPeerSettings(aet="SCU", networks=["127.0.0.1/32"], certificate_file=scu.certificate)},
    )
    store, clock = await open_store(tmp_path / "door.db", COMPONENTS), SystemClock()
    try:
        vault = await Vault.load(store, bytes(range(32)), [TENANT], clock)
        facts = {
            "tenant": TENANT,
            "store": store,
            "vault": vault,
            "clock": clock,
            "free_bytes_min": 0,
            "exams": nobody(vault),
        }
        (found,) = link_of("dicom", settings)
        link = TrustedLink(found, clock=clock, grace_s=0)
        async with dicom_door(
            settings, room=lambda: True, observe=lambda _a, _b: None, link=link, **facts
        ) as listener:

            def shown() -> int:
                context = client_context(scu.certificate, scu.key, authority.certificate)
                with RawScu(listener.port, tls=context) as sender:
                    assert sender.associate([(CT, [EXPLICIT])]) == {1: 0}
                    secured = sender.socket
                    assert isinstance(secured, ssl.SSLSocket)
                    return int(str(secured.getpeercert()["serialNumber"]), 16)  # type: ignore[index]

            async def serves(pair: PemPair) -> None:
                wanted = x509.load_pem_x509_certificate(pair.certificate.read_bytes()).serial_number
                async with asyncio.timeout(5):
                    while await asyncio.to_thread(shown) != wanted:
                        await asyncio.sleep(0.02)

            await serves(first)
            own.write_text("no certificate")
            link.look()
            assert link.fault
            await serves(first)
            put(second)
            told: list[tuple[str, str]] = []
            link.look(lambda key, shown: told.append((key, shown)))
            assert not link.fault
            assert told == [("dicom", link.shown)]
            await serves(second)
    finally:
        await store.close()
