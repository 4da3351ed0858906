"""The HL7 door met by a sender nobody here wrote: the MLLP client of the ``hl7`` library."""

from __future__ import annotations

import asyncio
from pathlib import Path

import hl7
from hl7.client import MLLPClient

from gateway.hl7.mllp import serve_mllp
from gateway.lab.ris import LabExam, build_oru
from tests.support.world import world


def _send(port: int, messages: list[bytes]) -> list[bytes]:
    with MLLPClient("127.0.0.1", port) as client:
        return [client.send_message(message) for message in messages]


async def test_a_sender_of_another_make_is_answered_and_reads_the_answers(tmp_path: Path) -> None:
    async with world(tmp_path) as w, await serve_mllp("127.0.0.1", 0, w.intake.handle) as server:
        messages = [
            build_oru(LabExam(), control_id="FOREIGN-1"),
            build_oru(LabExam(), control_id="FOREIGN-1"),
            b"MSH|^~\\&|A|B|C|D|20260101||SIU^S12|FOREIGN-2|P|2.5\rPID|1\r",
        ]
        answers = await asyncio.to_thread(_send, server.port, messages)
        read = [hl7.parse(answer.strip(b"\x0b\x1c\r").decode()) for answer in answers]
        assert [str(ack.segment("MSA")[1]) for ack in read] == ["AA", "AA", "AR"]
        assert [str(ack.segment("MSA")[2]) for ack in read] == ["FOREIGN-1", "FOREIGN-1", "FOREIGN-2"]
        assert answers[0] == answers[1]
        assert str(read[2].segment("ERR")[3]).startswith("200^")
        assert await w.count("report") == 1
