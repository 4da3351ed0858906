"""The laboratory's index: each switch does to a real client what it says, and the node behind keeps its word."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest
from lxml import etree

from gateway.lab.index import REPOSITORY, Fault, LabIndex, Switch, switch_of
from indexer.ports import (
    Accepted,
    Ambiguous,
    EntryAbsent,
    EntryFound,
    EntryUnknown,
    NotSent,
    Rejected,
    StatusChange,
    Submission,
)
from indexer.xds.client import XdsClient, XdsEndpoint
from security.clock import SystemClock
from tests.fixtures.xds_submissions import MANIFEST, Draft, update

UID = "2.25.100001"


class TurnedClock(SystemClock):
    """A clock whose monotonic hand a test may turn forward."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


def stored(draft: Draft) -> Submission:
    return Submission(
        unique_id=draft.unique_id, metadata=etree.tostring(draft.request), documents={draft.entry_id: draft.content}
    )


SUBMISSION = stored(Draft())


@asynccontextmanager
async def client_of(url: str, *, total_timeout_s: float = 20.0):
    client = XdsClient(
        XdsEndpoint(
            registry_url=url, repository_url=url, repository_unique_id=REPOSITORY, total_timeout_s=total_timeout_s
        )
    )
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
async def index(tmp_path):
    async with LabIndex(tmp_path / "index") as index:
        yield index


@pytest.fixture
async def client(index):
    async with client_of(index.url) as client:
        yield client


async def test_without_a_switch_it_is_an_index(index, client):
    assert await client.find_document(UID) == EntryAbsent()
    assert isinstance(await client.provide_and_register(SUBMISSION), Accepted)
    found = await client.find_document(UID)
    assert isinstance(found, EntryFound)
    assert found.status == "Approved"
    assert await client.retrieve_document(UID, REPOSITORY) == MANIFEST
    assert index.switches.counts == {"ITI-18": 2, "ITI-41": 1, "ITI-43": 1}


async def test_f07_the_node_commits_and_the_connection_dies(index, client):
    index.switches.set(Switch(name=Fault.COMMIT_THEN_RESET, on=("ITI-41",), times=1))
    assert isinstance(await client.provide_and_register(SUBMISSION), Ambiguous)
    assert isinstance(await client.find_document(UID), EntryFound)
    again = await client.provide_and_register(SUBMISSION)  # a client that did not ask first
    assert not isinstance(again, Accepted)
    assert index.switches.counts["ITI-41"] == 2


async def test_a_dropped_request_leaves_nothing(index, client):
    index.switches.set(Switch(name=Fault.DROP_BEFORE, times=1))
    assert isinstance(await client.provide_and_register(SUBMISSION), Ambiguous)
    assert await client.find_document(UID) == EntryAbsent()


async def test_f09_an_accepted_document_shows_late(tmp_path):
    clock = TurnedClock()
    async with LabIndex(tmp_path / "index", clock=clock) as index, client_of(index.url) as client:
        index.switches.set(Switch(name=Fault.INVISIBLE, seconds=600))
        assert isinstance(await client.provide_and_register(SUBMISSION), Accepted)
        clock.ahead_s = 590
        assert await client.find_document(UID) == EntryAbsent()
        clock.ahead_s = 601
        assert isinstance(await client.find_document(UID), EntryFound)


@pytest.mark.parametrize("fault", [Fault.HTML_MAINTENANCE, Fault.EMPTY_200, Fault.TRUNCATED_MTOM])
async def test_f10_an_unreadable_200_is_never_a_success(index, client, fault):
    index.switches.set(Switch(name=fault))
    assert not isinstance(await client.provide_and_register(SUBMISSION), Accepted)
    assert isinstance(await client.find_document(UID), EntryUnknown)
    index.switches.set()
    reached = fault is Fault.TRUNCATED_MTOM
    assert isinstance(await client.find_document(UID), EntryFound if reached else EntryAbsent)


async def test_a_busy_index_says_so_in_the_words_of_the_standard(index, client):
    index.switches.set(Switch(name=Fault.BUSY, times=1))
    answer = await client.provide_and_register(SUBMISSION)
    assert isinstance(answer, Rejected)
    assert (answer.codes, answer.lasting, answer.known) == (("XDSRepositoryBusy",), False, True)
    assert isinstance(await client.provide_and_register(SUBMISSION), Accepted)


async def test_a_503_says_when_to_come_back(index, client):
    index.switches.set(Switch(name=Fault.HTTP_503, seconds=7))
    answer = await client.provide_and_register(SUBMISSION)
    assert isinstance(answer, Rejected)
    assert (answer.codes, answer.lasting, answer.retry_after_s) == (("http-503",), False, 7.0)


async def test_a_refusal_carries_the_code_that_was_asked_for(index, client):
    index.switches.set(Switch(name=Fault.REFUSE, code="XDSUnknownPatientId"))
    answer = await client.provide_and_register(SUBMISSION)
    assert isinstance(answer, Rejected)
    assert (answer.codes, answer.lasting) == (("XDSUnknownPatientId",), True)
    assert isinstance(await client.find_document(UID), EntryUnknown)


async def test_a_slow_index_is_given_up_in_time_and_may_have_committed(index):
    index.switches.set(Switch(name=Fault.DELAY, seconds=1.0, on=("ITI-41",)))
    async with client_of(index.url, total_timeout_s=0.3) as impatient:
        assert isinstance(await impatient.provide_and_register(SUBMISSION), Ambiguous)
    async with client_of(index.url) as client, asyncio.timeout(10):
        while not isinstance(await client.find_document(UID), EntryFound):
            await asyncio.sleep(0.05)


async def test_a_closed_index_is_not_reached(tmp_path):
    async with LabIndex(tmp_path / "index") as index:
        url = index.url
    async with client_of(url) as client:
        assert isinstance(await client.provide_and_register(SUBMISSION), NotSent)


async def test_the_control_address_turns_switches_and_tells_counts(index, client):
    control = f"http://127.0.0.1:{index.control_port}"
    async with aiohttp.ClientSession() as session:
        wanted = [{"name": "refuse", "code": "XDSRegistryError", "on": ["ITI-41"], "times": 2}]
        async with session.put(control + "/faults", json=wanted) as answer:
            assert answer.status == 204
        assert isinstance(await client.provide_and_register(SUBMISSION), Rejected)
        async with session.get(control + "/faults") as answer:
            assert [(f["name"], f["times"]) for f in await answer.json()] == [("refuse", 1)]
        async with session.delete(control + "/faults") as answer:
            assert answer.status == 204
        assert isinstance(await client.provide_and_register(SUBMISSION), Accepted)
        async with session.get(control + "/counts") as answer:
            assert await answer.json() == {"ITI-41": 2}
        async with session.put(control + "/faults", json=[{"name": "gremlins"}]) as answer:
            assert answer.status == 400


def test_a_switch_can_be_written_in_one_word():
    assert switch_of("delay=1.5") == Switch(name=Fault.DELAY, seconds=1.5)
    assert switch_of("refuse=XDSRegistryError") == Switch(name=Fault.REFUSE, code="XDSRegistryError")
    assert switch_of("busy") == Switch(name=Fault.BUSY)
    with pytest.raises(ValueError, match="gremlins"):
        switch_of("gremlins")


@asynccontextmanager
async def process(directory, *words: str, **environ: str):
    """The laboratory index as a process of its own; whoever uses it may kill it."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.lab.index", "--dir", str(directory), *words,
        stdout=asyncio.subprocess.PIPE, env={**os.environ, **environ},
    )  # fmt: skip
    try:
        assert child.stdout is not None
        ready = json.loads(await asyncio.wait_for(child.stdout.readline(), 30))
        yield child, f"http://127.0.0.1:{ready['port']}/xds"
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


async def test_f01_an_answered_submission_survives_kill_nine(tmp_path):
    async with process(tmp_path) as (child, url), client_of(url) as client:
        assert isinstance(await client.provide_and_register(SUBMISSION), Accepted)
        child.send_signal(signal.SIGKILL)
        await child.wait()
    async with process(tmp_path) as (_, url), client_of(url) as client:
        assert isinstance(await client.find_document(UID), EntryFound)
        assert await client.retrieve_document(UID, REPOSITORY) == MANIFEST


@pytest.mark.parametrize(
    ("point", "kept"), [("registry-written", EntryAbsent), ("registry-committed", EntryFound)], ids=str
)
async def test_f01_a_node_killed_between_writing_and_answering_holds_all_or_nothing(tmp_path, point, kept):
    async with process(tmp_path, POTERNE_CRASH_AT=point) as (child, url), client_of(url) as client:
        assert isinstance(await client.provide_and_register(SUBMISSION), Ambiguous)
        assert await child.wait() == -signal.SIGKILL
    async with process(tmp_path) as (_, url), client_of(url) as client:
        assert isinstance(await client.find_document(UID), kept)
        again = await client.provide_and_register(SUBMISSION)
        assert isinstance(again, Accepted) == (kept is EntryAbsent)
        assert isinstance(await client.find_document(UID), EntryFound)


async def test_the_process_takes_its_faults_from_the_command_line(tmp_path):
    async with process(tmp_path, "--fault", "busy") as (child, url), client_of(url) as client:
        assert isinstance(await client.provide_and_register(SUBMISSION), Rejected)
        child.terminate()
        assert await child.wait() == 0


# -- ITI-57 ------------------------------------------------------------------------------------------------------


async def withdrawing(client: XdsClient) -> StatusChange:
    """The document in the index, and the request that withdraws it."""
    assert isinstance(await client.provide_and_register(SUBMISSION), Accepted)
    found = await client.find_document(UID)
    assert isinstance(found, EntryFound)
    return StatusChange(unique_id=UID, entry_uuid=found.entry_uuid, metadata=update(found.entry_uuid))


async def test_a_withdrawal_by_our_client_is_taken_once(index, client):
    change = await withdrawing(client)
    assert await client.update_status(change) == Accepted()
    assert await client.find_document(UID) == EntryAbsent()
    assert isinstance(await client.update_status(change), Ambiguous)
    assert index.switches.counts["ITI-57"] == 2


async def test_f09_a_withdrawal_shows_late(tmp_path):
    clock = TurnedClock()
    async with LabIndex(tmp_path / "index", clock=clock) as index, client_of(index.url) as client:
        change = await withdrawing(client)
        index.switches.set(Switch(name=Fault.INVISIBLE, seconds=600))
        clock.ahead_s = 601
        assert await client.update_status(change) == Accepted()
        found = await client.find_document(UID)
        assert isinstance(found, EntryFound)
        assert (found.entry_uuid, found.status) == (change.entry_uuid, "Approved")
        clock.ahead_s = 1300
        assert await client.find_document(UID) == EntryAbsent()


async def test_the_faults_of_the_wire_befall_a_withdrawal_too(index, client):
    change = await withdrawing(client)
    index.switches.set(Switch(name=Fault.BUSY, on=("ITI-57",), times=1))
    busy = await client.update_status(change)
    assert isinstance(busy, Rejected)
    assert (busy.codes, busy.lasting) == (("XDSRegistryBusy",), False)
    index.switches.set(Switch(name=Fault.DROP_BEFORE, on=("ITI-57",), times=1))
    assert isinstance(await client.update_status(change), Ambiguous)
    assert isinstance(await client.find_document(UID), EntryFound)
    index.switches.set(Switch(name=Fault.COMMIT_THEN_RESET, on=("ITI-57",), times=1))
    assert isinstance(await client.update_status(change), Ambiguous)
    assert await client.find_document(UID) == EntryAbsent()


async def test_a_withdrawal_that_does_not_leave_was_not_sent(tmp_path):
    async with LabIndex(tmp_path / "index") as index, client_of(index.url) as client:
        change = await withdrawing(client)
    async with client_of(index.url) as client:
        assert isinstance(await client.update_status(change), NotSent)
