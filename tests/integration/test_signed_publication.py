"""A tenant that signs, from report to index: real store, real index node, a certificate that ends and is renewed."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from lxml import etree

from gateway.lab.index import Fault, Switch
from gateway.lab.ris import LabExam
from indexer.ports import Submission
from indexer.xds.setsignature import read_signature
from security.keys.lab_pki import LabAuthority
from security.keys.signer import SigningPair
from security.outbox.states import State
from security.xmlsig.verifying import Trust
from tests.support.world import TENANT, World, world

EXAM = LabExam()
STUDY = EXAM.studies[0]


def pair(w: World, folder: Path, name: str, *, days: float) -> SigningPair:
    """A pair valid from yesterday, for ``days``, in the files that the tenant names."""
    now = w.clock.now()
    issued = LabAuthority.create(folder / name, now=now).issue(
        "sign", not_before=now - timedelta(days=1), not_after=now + timedelta(days=days)
    )
    for source, target in ((issued.certificate, "sign.pem"), (issued.key, "sign.key")):
        (folder / target).write_bytes(source.read_bytes())
        (folder / target).chmod(0o600)
        os.utime(folder / target, ns=(0, len(name)))
    return SigningPair(folder / "sign.pem", folder / "sign.key", w.clock)


@pytest.fixture
async def w(tmp_path: Path):
    async with world(tmp_path) as made:
        yield made


def signing(w: World, files: SigningPair) -> None:
    w.policy = replace(w.policy, signer=files.signer)
    w.restart("live")


async def stored(w: World) -> Submission:
    job = await w.last(STUDY)
    found = await w.store.read(lambda tx: w.ledger.submission_of(tx, TENANT, job.job_id))
    assert found is not None
    return found[1]


async def test_a_tenant_that_signs_publishes_both_documents(w: World, tmp_path: Path) -> None:
    files = pair(w, tmp_path, "first", days=30)
    signing(w, files)
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED
    assert len(await w.entries(EXAM)) == 2
    sent = await stored(w)
    kos, signature = sent.documents.values()
    trust = Trust(certificates=(files.signer().certificate,))
    assert read_signature(signature, trust=trust, at=w.clock.now()).covers(sent.unique_id, kos)
    back = await w.client.retrieve_document(etree.fromstring(signature).get("Id"), w.index.repository_unique_id)
    assert back == signature


async def test_i5_a_retry_sends_the_signature_of_the_first_attempt(w: World, tmp_path: Path) -> None:
    signing(w, pair(w, tmp_path, "first", days=30))
    w.pacs.hold(EXAM)
    w.index.switches.set(Switch(name=Fault.BUSY, on=("ITI-41",), times=2))
    sent: list[tuple[bytes, ...]] = []
    original = w.client.provide_and_register

    async def recorded(submission):
        sent.append((submission.metadata, *submission.documents.values()))
        return await original(submission)

    w.client.provide_and_register = recorded  # type: ignore[method-assign]
    await w.report(EXAM)
    await w.settle()
    assert len(sent) == 3
    assert len(set(sent)) == 1


async def test_f14_an_expired_certificate_holds_nothing_for_ever(w: World, tmp_path: Path) -> None:
    files = pair(w, tmp_path, "first", days=1)
    signing(w, files)
    w.clock.advance(2 * 86_400)
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle(rounds=6)
    job = await w.last(STUDY)
    assert (job.state, job.reason) == (State.SETTLING, "sign-certificate-expired")
    assert await w.entries(EXAM) == []
    pair(w, tmp_path, "second", days=30)
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED


async def test_what_the_assertion_alone_says_is_kept_beside_the_bytes(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(replace(EXAM, flags=EXAM.flags | {"CONNEXION_SECRETE": "Y"}))
    await w.settle()
    sent = await stored(w)
    assert sent.is_secret
    assert sent.sender is not None
    assert sent.sender.identifier
    assert b"CONNEXION_SECRETE" not in sent.metadata


async def test_a_submission_stored_by_an_older_version_can_still_be_sent(w: World) -> None:
    """Before there were assertions, only metadata and documents were stored."""
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    row = await w.store.read(lambda tx: tx.row("SELECT study_uid, version FROM manifest"))
    key = f"manifest.submission/{row['study_uid']}/{row['version']}"
    sealed = w.vault.seal(TENANT, key, b'{"metadata":"PGEvPg==","documents":[["d","eA=="]]}')
    await w.store.write(lambda tx: tx.change("UPDATE manifest SET submission = :sealed", sealed=sealed))
    assert await stored(w) == Submission(
        unique_id=(await stored(w)).unique_id, metadata=b"<a/>", documents={"d": b"x"}, is_secret=False, sender=None
    )
