"""The socket by which commands reach the running gateway."""

from __future__ import annotations

import asyncio
import os
import pwd
import stat
import sys
from pathlib import Path

import pytest
import structlog

from gateway import control
from gateway.facts import Facts, Say
from security.errors import Broken, Refused, Unavailable


async def echo(facts: Facts, _hear: Say) -> object:
    return {"heard": {name: value for name, value in facts.items() if name != "user"}}


async def whose(facts: Facts, _hear: Say) -> object:
    return facts["user"]


async def test_t46_an_operation_is_told_whose_order_it_is_by_the_kernel_and_not_by_the_order(tmp_path: Path):
    async with control.listening(tmp_path / "control", {"whose": whose}):
        told = await control.ask(tmp_path / "control", "whose", {"user": "somebody-else"})
    assert told == pwd.getpwuid(os.getuid()).pw_name


async def count(facts: Facts, hear: Say) -> object:
    for number in range(facts["to"]):
        hear({"number": number})
        await asyncio.sleep(0)
    return "counted"


async def refuse(_facts: Facts, _hear: Say) -> object:
    raise Refused("not in this state", code="wrong-job-state", hint="wait")


async def test_an_operation_gets_its_facts_and_its_answer_comes_back(tmp_path: Path):
    async with control.listening(tmp_path / "control", {"echo": echo}):
        assert await control.ask(tmp_path / "control", "echo", {"name": "É"}) == {"heard": {"name": "É"}}


async def test_a_fault_crosses_whole(tmp_path: Path):
    async with control.listening(tmp_path / "control", {"refuse": refuse}):
        with pytest.raises(Refused) as refused:
            await control.ask(tmp_path / "control", "refuse", {})

    assert (refused.value.args[0], refused.value.code, refused.value.hint) == (
        "not in this state",
        "wrong-job-state",
        "wait",
    )


async def test_what_is_said_on_the_way_is_heard_in_order(tmp_path: Path):
    heard: list[object] = []
    async with control.listening(tmp_path / "control", {"count": count}):
        assert await control.ask(tmp_path / "control", "count", {"to": 300}, heard.append) == "counted"

    assert heard == [{"number": number} for number in range(300)]


async def test_a_long_line_comes_whole(tmp_path: Path):
    async with control.listening(tmp_path / "control", {"echo": echo}):
        told = await control.ask(tmp_path / "control", "echo", {"name": "É" * 300_000})

    assert told == {"heard": {"name": "É" * 300_000}}


async def test_nobody_listening_is_said_with_what_to_do(tmp_path: Path):
    with pytest.raises(Unavailable, match="poterne serve") as silent:
        await control.ask(tmp_path / "control", "echo", {})

    assert silent.value.code == "not-running"
    assert not control.is_running(tmp_path / "control")


async def test_an_unknown_operation_is_refused(tmp_path: Path):
    async with control.listening(tmp_path / "control", {}):
        with pytest.raises(Broken, match="404"):
            await control.ask(tmp_path / "control", "erase", {})


async def test_the_socket_is_for_its_owner_and_gone_at_the_end(tmp_path: Path):
    place = tmp_path / "control"
    async with control.listening(place, {"echo": echo}):
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        assert control.is_running(place)

    assert not place.exists()


async def test_what_a_killed_process_left_is_taken_over(tmp_path: Path):
    place = tmp_path / "control"
    code = f"import socket; s = socket.socket(socket.AF_UNIX); s.bind({str(place)!r})"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    await process.wait()
    assert place.exists()

    async with control.listening(place, {"echo": echo}):
        assert await control.ask(place, "echo", {}) == {"heard": {}}


async def test_a_file_in_the_way_is_kept_and_named(tmp_path: Path):
    (tmp_path / "control").write_text("precious")

    with pytest.raises(Broken, match="in the way"):
        async with control.listening(tmp_path / "control", {}):
            pytest.fail("it must not listen")

    assert (tmp_path / "control").read_text() == "precious"


async def test_a_folder_deeper_than_a_socket_path_may_be_long_works(tmp_path: Path):
    folder = tmp_path / ("d" * 60) / ("e" * 60)
    folder.mkdir(parents=True)

    async with control.listening(folder / "control", {"echo": echo}):
        assert await control.ask(folder / "control", "echo", {}) == {"heard": {}}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_t46_another_user_is_refused_even_when_the_file_lets_him_in(tmp_path: Path):
    place = tmp_path / "control"
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    script = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(b'POST /echo HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 2\\r\\n\\r\\n{}')\n"
        "print(s.recv(64).split()[1].decode())\n"
    )
    async with control.listening(place, {"echo": echo}):
        place.chmod(0o666)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", script, str(place), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()

    assert out.decode().strip() == "403"


async def test_a_socket_that_a_living_gateway_answers_on_is_not_taken_away(tmp_path: Path):
    place = tmp_path / "control"
    async with control.listening(place, {"echo": echo}):
        with pytest.raises(Broken) as refused:
            async with control.listening(place, {}):
                pass

        assert await control.ask(place, "echo", {}) == {"heard": {}}
    assert refused.value.code == "control-place"


async def leak(_facts: Facts, _hear: Say) -> object:
    raise ValueError("CANARINOM")


async def test_t34_a_defect_in_an_operation_is_told_without_its_words_and_the_next_one_is_served(tmp_path: Path):
    with structlog.testing.capture_logs() as logged:
        async with control.listening(tmp_path / "control", {"leak": leak, "echo": echo}):
            with pytest.raises(Broken) as told:
                await control.ask(tmp_path / "control", "leak", {})
            assert await control.ask(tmp_path / "control", "echo", {}) == {"heard": {}}

    assert (told.value.code, "CANARINOM" in str(told.value)) == ("control-failed", False)
    assert [entry["event"] for entry in logged] == ["control-operation-failed"]
