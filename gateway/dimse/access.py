"""Which action of the policy each DIMSE service is, and whether a peer may ask for it: pure.

``PeerTable`` says who may associate; this says what an associated peer may ask for. A command without an action here
is served to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.dimse.command import Field, Status
from gateway.dimse.services import Admitted
from security.policy import INSTALLATION, Action, Allow, Purpose, Subject, Zone, decide

ACTIONS: Final[Mapping[int, Action]] = {
    Field.C_ECHO: Action.DICOM_ECHO,
    Field.C_STORE: Action.DICOM_STORE,
    Field.C_FIND: Action.DICOM_FIND,
    Field.C_GET: Action.DICOM_RETRIEVE,
    Field.C_MOVE: Action.DICOM_RETRIEVE,
    Field.N_CREATE: Action.DICOM_NOTIFY,
    Field.N_SET: Action.DICOM_NOTIFY,
}
"""Every command the door serves (PS3.7 E.1-1)."""


def refusal(peer: Admitted, field: int) -> int:
    """0 when the peer may ask for it, else the status to answer (PS3.7 annex C)."""
    action = ACTIONS.get(field)
    if action is None:
        return Status.UNRECOGNIZED_OPERATION
    subject = Subject(name=peer.name, roles=peer.roles)
    judged = decide(subject, Purpose.OPERATION, action, INSTALLATION, Zone.PACS)
    return Status.SUCCESS if isinstance(judged, Allow) else Status.NOT_AUTHORIZED
