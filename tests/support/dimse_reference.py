"""The plain reference of the door: a pynetdicom SCP with the same judgement of objects, in memory.

It answers what the door must answer and keeps what the door must keep; nothing of the door's engine is in it.
"""

from __future__ import annotations

from io import BytesIO
from typing import Self

from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from gateway.dimse.verdict import Keeping, judge
from security.errors import BadInput
from security.parse.dataset import DataSetWalk
from tests.support.dimse import AET


class ReferenceScp:
    """A listener on a free port of loopback; ``kept``: (instance, class, syntax, keeping, reason, bytes), as they came."""

    def __init__(self, classes: dict[str, list[str]]) -> None:
        self.kept: list[tuple[str, str, str, str, str, bytes]] = []
        entity = AE(ae_title=AET)
        entity.require_called_aet = True
        entity.require_calling_aet = ["SCU"]
        entity.maximum_pdu_size = 65_536
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
        entity.supported_contexts = [build_context(uid, syntaxes) for uid, syntaxes in classes.items()]
        self._entity = entity
        server = entity.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_C_ECHO, lambda _: 0)],
        )
        assert server is not None
        self.port = server.server_address[1]

    def _store(self, event: evt.Event) -> int:
        assert isinstance(event.request.DataSet, BytesIO)
        body = event.request.DataSet.getvalue()
        sop_class, sop = str(event.request.AffectedSOPClassUID), str(event.request.AffectedSOPInstanceUID)
        syntax = str(event.context.transfer_syntax)
        walk, fault = DataSetWalk(syntax, what="an object"), None
        try:
            walk.feed(body)
            walk.close()
        except BadInput as found:
            fault = found
        verdict = judge(walk.identifiers, sop_class=sop_class, sop_instance=sop, fault=fault, is_strict=False)
        assert verdict.keeping is not Keeping.REFUSED
        self.kept.append((sop, sop_class, syntax, verdict.keeping.value, verdict.reason, body))
        return verdict.status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._entity.shutdown()
