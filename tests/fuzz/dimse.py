"""The DICOM door's path of foreign bytes: PDUs, association requests, command sets, data sets (T05, T13).

``target`` is what atheris calls and what ``tests/unit/test_fuzz_corpus.py`` replays: it returns, or something is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.dimse.associate import read_request
from gateway.dimse.command import read_command
from gateway.dimse.negotiation import Terms, negotiate
from gateway.dimse.pdu import Fragment, Violation
from gateway.dimse.protocol import Acceptor, Asked, Broke, Requested
from security.errors import BadInput
from security.parse.dataset import DataSetWalk
from tests.fixtures.dicom_objects import BIG_ENDIAN, CT, DEFLATED, EXPLICIT, IMPLICIT
from tests.support.dimse_raw import ECHO, associate_rq

TERMS = Terms(services=frozenset(), stores=True, gets=True, deflated=True)
SYNTAXES = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED, "1.2.840.113619.5.2")
REQUEST = associate_rq([(ECHO, [IMPLICIT]), (CT, [EXPLICIT])])


def target(data: bytes) -> None:
    """The first byte chooses what the rest is."""
    if not data:
        return
    kind, rest = data[0] % 8, data[1:]
    match kind:
        case 0:
            _stream(Acceptor(pdu_bytes_max=65_536), rest)
        case 1:
            core = Acceptor(pdu_bytes_max=65_536)
            _stream(core, REQUEST)
            _stream(core, rest)
        case 2 | 3:
            try:
                (read_request if kind == 2 else read_command)(rest)
            except Violation:
                return
        case _:
            _walk(SYNTAXES[(data[0] // 8) % len(SYNTAXES)], rest, kind)


def _stream(core: Acceptor, data: bytes) -> None:
    """Bytes on a connection, cut in two, answered as the shell would."""
    broken = 0
    for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
        for happening in core.receive(memoryview(piece)):
            assert not broken, "something happened after the abort"
            match happening:
                case Requested(proposal):
                    answer = negotiate(proposal, TERMS, pdu_bytes_max=65_536)
                    core.accept(answer, peer_bytes_max=proposal.pdu_bytes_max)
                case Asked(command, _):
                    assert command.message_id >= 0
                case Fragment():
                    bytes(happening.data)
                case Broke(pdu):
                    assert len(pdu) == 10
                    broken += 1


def _walk(syntax: str, data: bytes, cut: int) -> None:
    walk = DataSetWalk(syntax, what="an object")
    try:
        walk.feed(data[: len(data) // cut])
        walk.feed(data[len(data) // cut :])
        walk.close()
    except BadInput:
        return
    assert walk.identifiers is not None


def seeds() -> Iterator[bytes]:
    """Nothing beside the kept corpus but an association."""
    yield b"\0" + REQUEST
