"""A-ASSOCIATE-RQ read, A-ASSOCIATE-AC written (PS3.8 9.3.2, 9.3.3; PS3.7 D.3.3).

Bytes to frozen values and back; what is accepted is decided in ``negotiation``. Values of a request are foreign text:
they are compared and stored, never trusted. Unknown user information is stepped over (PS3.8 9.3.1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.dimse.pdu import PduType, Violation, whole_pdu

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_ITEM = struct.Struct(">BxH")
_FIXED = 68  # protocol version, reserved, two AE titles, reserved


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedContext:
    """One proposed presentation context."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """SCP/SCU roles of one SOP class, as the requestor would play them (PS3.7 D.3.3.4)."""

    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UserIdentity:
    """Who the requestor says its user is (PS3.7 D.3.3.7). ``kind``: 1 name, 2 name and passcode, 3 Kerberos, 4 SAML,
    5 JWT. Both fields are secrets and never shown."""

    kind: int
    primary: bytes = field(repr=False)
    secondary: bytes = field(repr=False)
    wants_answer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An association request. ``pdu_bytes_max``: what the requestor receives, 0 for any. ``window``: operations
    invoked and performed, None when not proposed. ``extended``: application information by SOP class."""

    called_aet: str
    calling_aet: str
    application_context: str
    is_version_1: bool
    contexts: tuple[ProposedContext, ...]
    pdu_bytes_max: int
    implementation: str
    window: tuple[int, int] | None
    roles: Mapping[str, Role]
    extended: Mapping[str, bytes]
    identity: UserIdentity | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextAnswer:
    """One presentation context answered. ``result``: 0 accepted, 3 abstract, 4 transfer syntaxes unsupported."""

    context_id: int
    abstract_syntax: str
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What is answered to a proposal."""

    contexts: tuple[ContextAnswer, ...]
    pdu_bytes_max: int
    window: tuple[int, int] | None
    roles: Mapping[str, Role]
    extended: Mapping[str, bytes]
    implementation: str
    implementation_version: str


def read_request(body: bytes) -> Proposal:
    """The request in the body of an A-ASSOCIATE-RQ.

    Raises:
        Violation: an item is cut, twice, or not where it may be.
    """
    if len(body) < _FIXED:
        raise Violation("an association request shorter than its fixed part")
    (version,) = struct.unpack_from(">H", body)
    application, contexts, user = "", dict[int, ProposedContext](), b""
    for kind, value in _items(body[_FIXED:]):
        match kind:
            case 0x10:
                application = _text(value)
            case 0x20:
                context = _context(value)
                if context.context_id in contexts:
                    raise Violation("a presentation context is proposed twice")
                contexts[context.context_id] = context
            case 0x50:
                user = value
            case _:
                pass  # unknown items are ignored
    return Proposal(
        called_aet=_text(body[4:20]),
        calling_aet=_text(body[20:36]),
        application_context=application,
        is_version_1=bool(version & 1),
        contexts=tuple(contexts.values()),
        **_user(user),
    )


def _context(value: bytes) -> ProposedContext:
    if len(value) < 4 or value[0] % 2 == 0:
        raise Violation("a presentation context without an odd identifier")
    abstract, transfer = "", list[str]()
    for kind, inner in _items(value[4:]):
        if kind == 0x30:
            abstract = _text(inner)
        elif kind == 0x40:
            transfer.append(_text(inner))
    return ProposedContext(context_id=value[0], abstract_syntax=abstract, transfer_syntaxes=tuple(transfer))


def _user(value: bytes) -> dict[str, object] | dict[str, None]:
    """The user information item (PS3.8 9.3.2.3, PS3.7 D.3.3) as fields of a proposal."""
    roles, extended = dict[str, Role](), dict[str, bytes]()
    found: dict[str, object] = {
        "pdu_bytes_max": 0, "implementation": "", "window": None, "identity": None, "roles": roles,
        "extended": extended,
    }  # fmt: skip
    for kind, item in _items(value):
        try:
            match kind:
                case 0x51:
                    (found["pdu_bytes_max"],) = struct.unpack(">L", item)
                case 0x52:
                    found["implementation"] = _text(item)
                case 0x53:
                    found["window"] = struct.unpack(">HH", item)
                case 0x54:
                    uid, rest = _prefixed(item)
                    scu, scp = struct.unpack(">BB", rest)
                    roles[_text(uid)] = Role(scu=scu == 1, scp=scp == 1)
                case 0x56:
                    uid, rest = _prefixed(item)
                    extended[_text(uid)] = rest
                case 0x58:
                    found["identity"] = _identity(item)
                case _:
                    pass  # unknown items are ignored
        except struct.error:
            raise Violation("an item of user information has not its length") from None
    return found


def _identity(item: bytes) -> UserIdentity:
    kind, wants = struct.unpack_from(">BB", item)
    primary, rest = _prefixed(item[2:])
    secondary, _ = _prefixed(rest)
    return UserIdentity(kind=kind, primary=primary, secondary=secondary, wants_answer=wants == 1)


def _prefixed(data: bytes) -> tuple[bytes, bytes]:
    """A value after its 16-bit length, and what follows."""
    (length,) = struct.unpack_from(">H", data)
    if len(data) < 2 + length:
        raise Violation("a value of user information is cut")
    return data[2 : 2 + length], data[2 + length :]


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        if len(data) - position < _ITEM.size:
            raise Violation("an item of an association request is cut")
        kind, length = _ITEM.unpack_from(data, position)
        position += _ITEM.size
        if len(data) - position < length:
            raise Violation("an item of an association request is longer than the request")
        yield kind, data[position : position + length]
        position += length


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")


def acceptance_pdu(request: bytes, answer: Acceptance) -> bytes:
    """The A-ASSOCIATE-AC to the request whose body is ``request``: its AE titles come back as they were."""
    user = [_item(0x51, struct.pack(">L", answer.pdu_bytes_max)), _item(0x52, answer.implementation.encode())]
    if answer.window is not None:
        user.append(_item(0x53, struct.pack(">HH", *answer.window)))
    user += [
        _item(0x54, _with_length(uid.encode()) + bytes((role.scu, role.scp))) for uid, role in answer.roles.items()
    ]
    user.append(_item(0x55, answer.implementation_version.encode()))
    user += [_item(0x56, _with_length(uid.encode()) + info) for uid, info in answer.extended.items()]
    items = [_item(0x10, APPLICATION_CONTEXT.encode())]
    items += [_answered(context) for context in answer.contexts]
    items.append(_item(0x50, b"".join(user)))
    body = struct.pack(">HH", 1, 0) + request[4:_FIXED] + b"".join(items)
    return whole_pdu(PduType.ASSOCIATE_AC, body)


def _answered(context: ContextAnswer) -> bytes:
    # The transfer syntax of a refused context is not significant, yet must be there (PS3.8 9.3.3.2).
    return _item(
        0x21, bytes((context.context_id, 0, context.result, 0)) + _item(0x40, context.transfer_syntax.encode())
    )


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def _with_length(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value
