"""One request performed and answered: the DIMSE services of the door (PS3.7 9, 10; PS3.4 A, B, C).

Invariants:

* nothing is performed for a peer whom the policy does not let ask for it;
* every request gets exactly one final response, unless the association ends first;
* what a service raises is logged by type and answered 0x0110, never passed on;
* a query that is taken back stops at the next match with 0xFE00; after ``rows_max`` matches it ends with 0xA700
  (T14);
* a C-MOVE goes only to a destination the peer is allowed (T15).
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace

import structlog

from gateway.dimse.access import refusal
from gateway.dimse.association import Association, Operation
from gateway.dimse.command import Field, Status, Tag, response, store_request
from gateway.dimse.services import (
    Failure,
    Gather,
    NormalizedService,
    Outgoing,
    RetrieveService,
    Services,
    SubOperations,
)
from security.crash import crash_point

log = structlog.get_logger()

Observe = Callable[[str, int], None]
"""What was performed, by the name of its command, and the status it was answered with."""
Counts = Mapping[Tag, int | str]
_COUNT_MAX = 0xFFFF


async def perform(association: Association, operation: Operation, services: Services, observe: Observe) -> None:
    """Perform ``operation`` and send its final response."""
    command = operation.request.command
    more: Counts = {}
    try:
        status, more = await _performed(association, operation, services)
    except Failure as failure:
        status, more = failure.status, _told(failure)
    except Exception:  # supervision edge: the peer is told that we failed, the association goes on
        log.exception("dimse-operation-failed", peer=association.peer_name, command=command.field)
        status = Status.PROCESSING_FAILURE
    finally:
        if operation.sink is not None:
            operation.sink.abandon()
    observe(Field(command.field).name.lower() if command.field in _FIELDS else "other", status)
    await association.respond(operation.context, response(command, status, more=more), is_final=True)
    if command.field == Field.C_STORE:
        crash_point("dimse-store-answered")


async def _performed(  # noqa: PLR0911  one table, one return per row
    association: Association, operation: Operation, services: Services
) -> tuple[int, Counts]:
    """Status and counts of the final response."""
    request = operation.request
    if status := refusal(request.peer, request.command.field):
        log.warning("dimse-operation-denied", peer=association.peer_name, command=request.command.field)
        association.note("operation-denied")
        return status, {}
    match request.command.field:
        case Field.C_ECHO:
            return Status.SUCCESS, {}
        case Field.C_STORE if operation.sink is not None:
            return await operation.sink.finish(), {}
        case Field.C_FIND if services.find is not None:
            matches = services.find.find(request, await _data(operation))
            return await _find(association, operation, matches), {}
        case Field.C_MOVE if services.retrieve is not None:
            return await _move(association, operation, services.retrieve)
        case Field.C_GET if services.retrieve is not None:
            return await _get(association, operation, services.retrieve)
        case Field.N_CREATE | Field.N_SET if request.sop_class in services.normalized:
            return await _normalized(operation, services.normalized[request.sop_class])
        case _:
            return Status.UNRECOGNIZED_OPERATION, {}


_FIELDS = frozenset(Field)


async def _normalized(operation: Operation, service: NormalizedService) -> tuple[int, Counts]:
    """N-CREATE or N-SET; a creation that names no instance gets a UID of ours (PS3.7 10.1.5.1.4)."""
    request, more = operation.request, dict[Tag, int | str]()
    data = await _data(operation)
    if request.command.field == Field.N_SET:
        return await service.set(request, data), more
    if not request.command.sop_instance:
        made = f"2.25.{uuid.uuid4().int}"
        more[Tag.AFFECTED_SOP_INSTANCE_UID] = made
        request = replace(request, command=replace(request.command, sop_instance=made))
    return await service.create(request, data), more


def _told(failure: Failure) -> Counts:
    """Error Comment and Error ID of a refusal (PS3.7 C.4)."""
    told: dict[Tag, int | str] = {Tag.ERROR_COMMENT: failure.comment}
    return told | ({Tag.ERROR_ID: failure.error_id} if failure.error_id else {})


async def _data(operation: Operation) -> bytes:
    """The gathered data set of a request.

    Raises:
        Failure: it was larger than is gathered, or there is none.
    """
    if not isinstance(operation.sink, Gather):
        raise Failure(Status.CANNOT_UNDERSTAND)
    status = await operation.sink.finish()
    if status != Status.SUCCESS:
        raise Failure(status)
    return bytes(operation.sink.data)


async def _find(association: Association, operation: Operation, matches: AsyncIterator[bytes]) -> int:
    rows = 0
    try:
        async for match in matches:
            if association.is_cancelled(operation.request):
                return Status.CANCELLED
            if rows == operation.request.peer.rows_max:
                log.warning("dimse-query-capped", peer=association.peer_name, rows=rows)
                return Status.OUT_OF_RESOURCES
            rows += 1
            pending = response(operation.request.command, Status.PENDING, has_data=True)
            await association.respond(operation.context, pending, match, is_final=False)
    finally:
        await _close(matches)
    return Status.CANCELLED if association.is_cancelled(operation.request) else Status.SUCCESS


async def _move(association: Association, operation: Operation, retrieve: RetrieveService) -> tuple[int, Counts]:
    request = operation.request
    if request.command.move_destination not in request.peer.destinations:
        log.warning("dimse-move-destination-refused", peer=association.peer_name)
        association.note("move-refused")
        return Status.MOVE_DESTINATION_UNKNOWN, {}
    reports = retrieve.move(request, await _data(operation), request.command.move_destination)
    last = SubOperations(remaining=0, completed=0)
    try:
        async for last in reports:
            if association.is_cancelled(request):
                return Status.CANCELLED, _counts(last)
            pending = response(request.command, Status.PENDING, more=_counts(last))
            await association.respond(operation.context, pending, is_final=False)
    finally:
        await _close(reports)
    return _final(last), _counts(last, is_final=True)


async def _get(association: Association, operation: Operation, retrieve: RetrieveService) -> tuple[int, Counts]:
    request = operation.request
    objects = retrieve.get(request, await _data(operation))
    done = SubOperations(remaining=0, completed=0)
    try:
        async for outgoing in objects:
            if association.is_cancelled(request):
                return Status.CANCELLED, _counts(done)
            answer = await _send_back(association, outgoing, done.completed + done.failed + done.warning + 1)
            done = SubOperations(
                remaining=outgoing.left,
                completed=done.completed + (answer == Status.SUCCESS),
                failed=done.failed + (answer is None or not _is_kept(answer)),
                warning=done.warning + (answer not in {None, Status.SUCCESS} and _is_kept(answer)),
            )
            pending = response(request.command, Status.PENDING, more=_counts(done))
            await association.respond(operation.context, pending, is_final=False)
    finally:
        await _close(objects)
    return _final(done), _counts(done, is_final=True)


def _is_kept(status: int | None) -> bool:
    """Success, or a warning of C-STORE: coercion and the like (PS3.4 B.2.3)."""
    return status is not None and (status == Status.SUCCESS or status & 0xF000 == 0xB000)


async def _send_back(association: Association, outgoing: Outgoing, message_id: int) -> int | None:
    """One C-STORE sub-operation; its status, None when it could not be sent."""
    context = association.context_for(outgoing.sop_class, outgoing.transfer_syntax)
    if context is None:
        await _close(outgoing.pieces)
        return None
    pieces = aiter(outgoing.pieces)

    async def following() -> bytes | None:
        return await anext(pieces, None)

    asked = store_request(message_id=message_id, sop_class=outgoing.sop_class, sop_instance=outgoing.sop_instance)
    send: Callable[[], Awaitable[bytes | None]] = following
    try:
        answer = await association.invoke(context, message_id, asked, send)
    finally:
        await _close(outgoing.pieces)
    return answer.status if answer else None


async def _close(results: AsyncIterator[object]) -> None:
    """End a service's generator now, not when the collector finds it."""
    close = getattr(results, "aclose", None)
    if close is not None:
        await close()


def _final(done: SubOperations) -> int:
    """PS3.4 C.4.2.1.5: all failed, some failed, none."""
    if done.failed and not (done.completed or done.warning):
        return 0xA702  # out of resources: unable to perform sub-operations
    return Status.WARNING_SUBOPERATIONS if done.failed or done.warning else Status.SUCCESS


def _counts(done: SubOperations, *, is_final: bool = False) -> Counts:
    counts: dict[Tag, int | str] = {
        Tag.COMPLETED: min(done.completed, _COUNT_MAX),
        Tag.FAILED: min(done.failed, _COUNT_MAX),
        Tag.WARNING: min(done.warning, _COUNT_MAX),
    }
    return counts if is_final else {Tag.REMAINING: min(done.remaining, _COUNT_MAX)} | counts
