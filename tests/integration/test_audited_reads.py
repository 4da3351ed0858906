"""Who read what of the index stands in its trail before the first byte of the answer leaves."""

from __future__ import annotations

import pytest

from security.errors import Unavailable
from tests.fixtures.xds_submissions import Draft
from tests.integration.registry_lab import running


async def records(peer, event: str) -> list[dict]:
    return await peer.store.read(
        lambda tx: tx.rows("SELECT * FROM audit_record WHERE event = :event ORDER BY seq", event=event)
    )


async def test_a_query_is_recorded_by_blind_index_and_keyed_digest(tmp_path):
    async with running(tmp_path) as peer:
        await peer.submit(Draft())
        await peer.entry("2.25.100001")
        [found] = await records(peer, "index.queried")

    assert (found["outcome"], found["detail"], found["address"]) == (0, "Success", "127.0.0.1")
    assert len(found["patient"]) == 64
    assert len(found["object_id"]) == 64
    assert found["object_type"] == "query"


async def test_a_read_that_cannot_be_recorded_is_not_answered(tmp_path, monkeypatch):
    async with running(tmp_path) as peer:
        await peer.submit(Draft())

        async def full(_reading):
            raise Unavailable("the disk is full", code="disk-full", hint="make room")

        monkeypatch.setattr("indexer.registry.node.IndexNode.record", lambda _self, reading: full(reading))
        with pytest.raises(AssertionError) as caught:
            await peer.entry("2.25.100001")
        async with peer._session.get(f"{peer.base}/fhir/DocumentReference?status=current") as answer:
            status = answer.status

    assert "soap:Fault" in str(caught.value)
    assert status == 503


async def test_a_refused_read_over_fhir_is_recorded_too(tmp_path):
    async with running(tmp_path) as peer:
        async with peer._session.get(f"{peer.base}/fhir/Binary/nowhere") as answer:
            assert answer.status == 404
        [found] = await records(peer, "index.document-read")

    assert (found["outcome"], found["detail"], found["patient"]) == (4, "HTTP 404", "")
