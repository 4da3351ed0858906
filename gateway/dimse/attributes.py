"""The attributes of an N-CREATE or N-SET (PS3.7 10.1), read by keyword; what is wrong with them is a status."""

from __future__ import annotations

from gateway.dimse.command import Status
from gateway.dimse.part10 import Meta, write_head
from gateway.dimse.services import Failure, Request
from indexer.kos.nodes import Findings, Node
from indexer.kos.rejection import named
from indexer.study import PacsPatient
from security.errors import BadInput
from security.identity import Uid
from security.parse.dicom import charsets, parse_untrusted


def attributes(request: Request, data: bytes) -> Node:
    """The data set of a request.

    Raises:
        Failure: 0x0110 it cannot be read.
    """
    head = write_head(
        Meta(
            sop_class=request.sop_class,
            sop_instance=request.command.sop_instance,
            transfer_syntax=request.transfer_syntax,
            source_aet=request.calling_aet,
        )
    )
    try:
        dataset = parse_untrusted(head + data, what="the attributes of a request")
        return Node(dataset, "", charsets(dataset, default="ISO_IR 6"), Findings())
    except BadInput as fault:
        raise Failure(Status.PROCESSING_FAILURE, fault.code) from fault


def instance_of(request: Request) -> Uid:
    """The SOP instance that a request names.

    Raises:
        Failure: 0x0117.
    """
    try:
        return Uid(request.command.sop_instance)
    except BadInput as fault:
        raise Failure(Status.INVALID_INSTANCE, "the SOP Instance UID is no UID") from fault


def required_uid(node: Node, name: str) -> Uid:
    """A UID that must be there.

    Raises:
        Failure: 0x0120, 0x0106.
    """
    stated = text(node, name)
    if not stated:
        raise Failure(Status.MISSING_ATTRIBUTE, f"{name} is missing")
    try:
        return Uid(stated)
    except BadInput as fault:
        raise Failure(Status.INVALID_ATTRIBUTE_VALUE, f"{name} is no UID") from fault


def patient(node: Node) -> PacsPatient:
    """Whom the attributes name.

    Raises:
        Failure: 0x0106.
    """
    try:
        return named(node)
    except BadInput as fault:
        raise Failure(Status.INVALID_ATTRIBUTE_VALUE, "the patient is no text") from fault


def text(node: Node, name: str) -> str:
    """A value as text, "" when absent.

    Raises:
        Failure: 0x0106.
    """
    try:
        return node.text(name)
    except BadInput as fault:
        raise Failure(Status.INVALID_ATTRIBUTE_VALUE, f"{name} is no text") from fault
