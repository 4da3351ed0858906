"""The core of the DICOM door, without a socket: framing, A-ASSOCIATE, command sets, states, messages.

pynetdicom's own classes are the oracle: they encode what we read and decode what we write.
"""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode, encode
from pynetdicom.fsm import TRANSITION_TABLE
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, A_RELEASE_RP, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from gateway.dimse.associate import ContextAnswer, Role, acceptance_pdu, read_request
from gateway.dimse.command import Field, Status, Tag, read_command, response, store_request, write_command
from gateway.dimse.negotiation import (
    IMPLEMENTATION,
    Terms,
    is_storage,
    negotiate,
)
from gateway.dimse.pdu import (
    RELEASE_RP,
    AbortReason,
    Fragment,
    Pdu,
    PduReader,
    PduType,
    Violation,
    abort_pdu,
    data_pdus,
    reject_pdu,
    whole_pdu,
)
from gateway.dimse.protocol import (
    Aborted,
    Acceptor,
    Answered,
    Asked,
    Broke,
    Cancelled,
    ReleaseWanted,
    Requested,
)
from gateway.dimse.states import TABLE, Event, State

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def request(contexts: list[tuple[str, list[str]]], *extra: object, called: str = "POTERNE") -> bytes:
    """The bytes of an A-ASSOCIATE-RQ as pynetdicom writes it."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "SCU", called
    longest, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    longest.maximum_length_received = 16382
    implementation.implementation_class_uid = UID("1.2.3.4")
    primitive.user_information = [longest, implementation, *extra]
    proposed = []
    for number, (abstract, syntaxes) in enumerate(contexts):
        context = build_context(abstract, syntaxes)
        context.context_id = 2 * number + 1
        proposed.append(context)
    primitive.presentation_context_definition_list = proposed
    return A_ASSOCIATE_RQ(primitive).encode()


def established(terms: Terms | None = None, contexts: list[tuple[str, list[str]]] | None = None) -> Acceptor:
    """An accepted association; context 1 is verification, 3 CT storage."""
    core = Acceptor(pdu_bytes_max=65_536)
    wanted = contexts or [(VERIFICATION, [IMPLICIT]), (CT, [EXPLICIT])]
    (asked,) = core.receive(memoryview(request(wanted)))
    assert isinstance(asked, Requested)
    answer = negotiate(asked.proposal, terms or Terms(stores=True), pdu_bytes_max=65_536)
    core.accept(answer, peer_bytes_max=asked.proposal.pdu_bytes_max)
    return core


def told(core: Acceptor, data: bytes) -> list[object]:
    """What happens; the data of fragments is copied."""
    out: list[object] = []
    for happening in core.receive(memoryview(data)):
        if isinstance(happening, Fragment):
            out.append((bytes(happening.data), happening.is_last))
        else:
            out.append(happening)
    return out


def command(field: Field, *, message_id: int = 1, has_data: bool = False, **more: int | str) -> bytes:
    elements: dict[Tag, int | str] = {
        Tag.AFFECTED_SOP_CLASS_UID: CT,
        Tag.COMMAND_FIELD: field,
        Tag.MESSAGE_ID: message_id,
        Tag.COMMAND_DATA_SET_TYPE: 1 if has_data else 0x0101,
    }
    return write_command(elements | {Tag[name.upper()]: value for name, value in more.items()})


def pdus(context_id: int, data: bytes, *, is_command: bool, bytes_max: int = 16_384) -> bytes:
    return b"".join(data_pdus(context_id, data, is_command=is_command, is_last=True, bytes_max=bytes_max))


# ── framing ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_short_pdus_are_the_octets_of_the_standard() -> None:
    """PS3.8 tables 9-21, 9-25, 9-26."""
    assert reject_pdu(1, 1, 3) == bytes.fromhex("0300 0000 0004 0001 0103")
    assert bytes.fromhex("0600 0000 0004 0000 0000") == RELEASE_RP
    assert abort_pdu(AbortReason.INVALID_PARAMETER) == bytes.fromhex("0700 0000 0004 0000 0206")
    for ours, theirs in ((reject_pdu(2, 3, 2), A_ASSOCIATE_RJ), (RELEASE_RP, A_RELEASE_RP)):
        known = theirs()
        known.decode(ours)
        assert known.encode() == ours


@pytest.mark.parametrize("size", [0, 1, 57, 58, 59, 1000])
def test_data_is_cut_into_pdus_no_longer_than_the_peer_takes(size: int) -> None:
    made = list(data_pdus(5, bytes(size), is_command=False, is_last=True, bytes_max=64))

    values = []
    for pdu in made:
        assert len(pdu) <= 64 + 6
        known = P_DATA_TF()
        known.decode(pdu)
        values += [item.presentation_data_value for item in known.presentation_data_value_items]
    assert b"".join(value[1:] for value in values) == bytes(size)
    assert [value[0] for value in values] == [0] * (len(values) - 1) + [2]


def test_t01_a_length_beyond_the_cap_is_refused_before_a_byte_of_the_body() -> None:
    for head in (b"\x04\0\xff\xff\xff\xff", b"\x01\0\x00\x04\x00\x01", b"\x05\0\x00\x00\x00\x05"):
        with pytest.raises(Violation):
            list(PduReader(data_bytes_max=65_536).receive(memoryview(head)))


def test_t01_the_longest_honest_request_is_below_the_cap() -> None:
    """121 contexts in 45 transfer syntaxes have 147,891 bytes (security §1.1)."""
    syntaxes = [f"1.2.840.10008.1.2.4.{number}" for number in range(50, 95)]
    long = request([(f"1.2.840.10008.5.1.4.1.1.{number}", syntaxes) for number in range(1, 122)])
    assert len(long) > 140_000
    (pdu,) = PduReader(data_bytes_max=16_384).receive(memoryview(long))
    assert isinstance(pdu, Pdu)
    assert len(read_request(pdu.body).contexts) == 121


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0\0\1\1",
        struct.pack(">LBB", 1, 1, 0),
        struct.pack(">LBB", 100, 1, 0),
        struct.pack(">LBB", 2, 1, 4),
        struct.pack(">LBB", 3, 1, 0) + b"a" + b"rest",
    ],
    ids=["empty", "cut", "too-short", "too-long", "reserved-bits", "leftover"],
)
def test_a_p_data_pdu_whose_values_do_not_fill_it_is_a_violation(body: bytes) -> None:
    with pytest.raises(Violation):
        list(PduReader(data_bytes_max=65_536).receive(memoryview(whole_pdu(PduType.P_DATA, body))))


def test_zero_length_fragments_and_many_values_in_one_pdu_are_taken() -> None:
    value = lambda control, data: struct.pack(">LBB", len(data) + 2, 3, control) + data  # noqa: E731
    core = established()
    told(core, pdus(3, command(Field.C_STORE, has_data=True), is_command=True))
    happened = told(core, whole_pdu(PduType.P_DATA, value(0, b"") + value(0, b"abc") + value(0, b"") + value(2, b"")))
    assert happened == [(b"", False), (b"abc", False), (b"", False), (b"", True)]


def test_t02_values_that_carry_next_to_nothing_are_taken_in_small_numbers_only() -> None:
    value = struct.pack(">LBB", 3, 3, 0) + b"x"
    core = established()
    told(core, pdus(3, command(Field.C_STORE, has_data=True), is_command=True))
    assert told(core, whole_pdu(PduType.P_DATA, value * 4000)) == [(b"x", False)] * 4000
    *_, happened = told(core, whole_pdu(PduType.P_DATA, value * 200))
    assert isinstance(happened, Broke)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=12), st.integers(64, 700), st.integers(0, 900))
def test_what_happens_does_not_depend_on_how_the_stream_is_cut(cuts: list[int], bytes_max: int, size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    rest = pdus(3, command(Field.C_STORE, has_data=True), is_command=True, bytes_max=bytes_max)
    rest += pdus(3, data, is_command=False, bytes_max=bytes_max)
    core = established()
    position, got, last = 0, b"", False
    asked = 0
    while position < len(rest):
        take = cuts[asked % len(cuts)]
        asked += 1
        for happening in core.receive(memoryview(rest[position : position + take])):
            if isinstance(happening, Fragment):
                assert not last
                got += bytes(happening.data)
                last = happening.is_last
            else:
                assert isinstance(happening, Asked)
        position += take
    assert (got, last) == (data, True)


# ── A-ASSOCIATE ──────────────────────────────────────────────────────────────────────────────────────────────


def full_request() -> bytes:
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 5, 7
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = UID(CT), True, True
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = UID(FIND), b"\x01\x01\x00"
    user = UserIdentityNegotiation()
    user.user_identity_type, user.primary_field, user.secondary_field = 2, b"zoe", b"not-a-real-one"
    user.positive_response_requested = True
    return request([(CT, [EXPLICIT, IMPLICIT]), (FIND, [IMPLICIT])], window, role, extended, user)


def test_everything_a_request_may_say_is_read() -> None:
    proposal = read_request(full_request()[6:])

    assert (proposal.called_aet, proposal.calling_aet) == ("POTERNE", "SCU")
    assert proposal.is_version_1
    assert [(c.context_id, c.abstract_syntax, c.transfer_syntaxes) for c in proposal.contexts] == [
        (1, CT, (EXPLICIT, IMPLICIT)),
        (3, FIND, (IMPLICIT,)),
    ]
    assert (proposal.pdu_bytes_max, proposal.implementation, proposal.window) == (16382, "1.2.3.4", (5, 7))
    assert proposal.roles == {CT: Role(scu=True, scp=True)}
    assert proposal.extended == {FIND: b"\x01\x01\x00"}
    assert proposal.identity is not None
    assert (proposal.identity.kind, proposal.identity.primary, proposal.identity.wants_answer) == (2, b"zoe", True)
    assert b"not-a-real-one" not in repr(proposal).encode()


def test_the_answer_is_what_another_implementation_reads() -> None:
    raw = full_request()
    terms = Terms(services=frozenset({FIND}), relational=frozenset({FIND}), stores=True, gets=True)
    ours = acceptance_pdu(raw[6:], negotiate(read_request(raw[6:]), terms, pdu_bytes_max=65_536))

    pdu = A_ASSOCIATE_AC()
    pdu.decode(ours)
    primitive = pdu.to_primitive()
    results = {
        c.context_id: (c.result, c.transfer_syntax) for c in primitive.presentation_context_definition_results_list
    }
    assert results == {1: (0, [EXPLICIT]), 3: (0, [IMPLICIT])}
    said = {type(item).__name__: item for item in primitive.user_information}
    assert said["MaximumLengthNotification"].maximum_length_received == 65_536
    assert said["ImplementationClassUIDNotification"].implementation_class_uid == IMPLEMENTATION
    window = said["AsynchronousOperationsWindowNegotiation"]
    assert (window.maximum_number_operations_invoked, window.maximum_number_operations_performed) == (1, 1)
    assert said["SCP_SCU_RoleSelectionNegotiation"].scp_role
    assert said["SOPClassExtendedNegotiation"].service_class_application_information == b"\x01"
    assert len(IMPLEMENTATION) <= 64
    assert pdu.encode() == ours


@pytest.mark.parametrize(
    "broken",
    [
        lambda raw: raw[:60],
        lambda raw: raw[:-1],
        lambda raw: raw[:68] + b"\x20\x00\xff\xff",
        lambda raw: raw + struct.pack(">BxH", 0x20, 4) + bytes([2, 0, 0, 0]),
        lambda raw: raw + struct.pack(">BxH", 0x20, 4) + bytes([1, 0, 0, 0]),
        lambda raw: raw + struct.pack(">BxH", 0x50, 6) + struct.pack(">BxH", 0x51, 2) + b"\0\0",
        lambda raw: raw + struct.pack(">BxH", 0x50, 8) + struct.pack(">BxH", 0x54, 4) + b"\0\x40ab",
    ],
    ids=["short", "cut", "item-too-long", "even-id", "same-id", "short-length", "short-role"],
)
def test_t05_a_broken_request_is_aborted_and_nothing_more_is_read(broken: object) -> None:
    body = broken(request([(CT, [EXPLICIT])])[6:])  # type: ignore[operator]
    core = Acceptor(pdu_bytes_max=65_536)

    (happened,) = told(core, whole_pdu(PduType.ASSOCIATE_RQ, body))

    assert isinstance(happened, Broke)
    assert happened.pdu[0] == 7
    assert told(core, request([(CT, [EXPLICIT])])) == []


def test_t05_unknown_items_are_stepped_over() -> None:
    body = request([(CT, [EXPLICIT])])[6:] + struct.pack(">BxH", 0x77, 3) + b"abc"
    assert len(read_request(body).contexts) == 1


# ── negotiation ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sop_class", "stored"),
    [
        (CT, True),
        ("1.2.840.10008.5.1.4.1.1.9999", True),
        ("1.2.840.10008.5.1.4.1.1.5", True),  # retired
        ("1.2.840.113619.4.30", True),  # a vendor's own
        ("1.2.840.10008.5.1.4.38.1", True),
        (FIND, False),
        ("1.2.840.10008.1.20.1", False),  # storage commitment
        ("1.2.840.10008.5.1.4.31", False),
        ("", False),
    ],
)
def test_ff04_any_storage_class_may_be_stored_and_no_other_service_is_taken_for_one(
    sop_class: str, stored: bool
) -> None:
    assert is_storage(sop_class) is stored


def answers(contexts: list[tuple[str, list[str]]], terms: Terms) -> list[ContextAnswer]:
    return list(negotiate(read_request(request(contexts)[6:]), terms, pdu_bytes_max=65_536).contexts)


def test_the_first_syntax_of_the_sender_is_taken_whatever_it_is() -> None:
    vendor = "1.2.840.113619.5.2"
    (answer,) = answers([(CT, [vendor, IMPLICIT])], Terms(stores=True))
    assert (answer.result, answer.transfer_syntax) == (0, vendor)


def test_explicit_is_preferred_to_implicit_where_a_sender_offers_both() -> None:
    (answer,) = answers([(CT, [IMPLICIT, EXPLICIT])], Terms(stores=True))
    assert answer.transfer_syntax == EXPLICIT


def test_t08_a_deflated_syntax_is_taken_only_where_the_peer_may_send_it() -> None:
    deflated = "1.2.840.10008.1.2.1.99"
    assert answers([(CT, [deflated])], Terms(stores=True))[0].result == 4
    assert answers([(CT, [deflated, IMPLICIT])], Terms(stores=True))[0].transfer_syntax == IMPLICIT
    assert answers([(CT, [deflated])], Terms(stores=True, deflated=True))[0].result == 0


def test_what_a_peer_may_not_do_is_refused_context_by_context() -> None:
    only_echo = answers([(VERIFICATION, [IMPLICIT]), (CT, [EXPLICIT]), (FIND, [IMPLICIT])], Terms())
    assert [answer.result for answer in only_echo] == [0, 3, 3]
    assert answers([(VERIFICATION, ["1.2.840.10008.1.2.4.50"])], Terms())[0].result == 4


def test_a_relational_query_is_agreed_only_where_it_is_offered() -> None:
    proposal = read_request(full_request()[6:])
    plain = negotiate(proposal, Terms(services=frozenset({FIND})), pdu_bytes_max=65_536)
    assert plain.extended == {FIND: b"\x00"}
    assert plain.roles == {}  # CT was not accepted at all


# ── command sets ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_command_set_of_another_implementation_is_read() -> None:
    theirs = Dataset()
    theirs.CommandGroupLength = 0
    theirs.AffectedSOPClassUID, theirs.AffectedSOPInstanceUID = CT, "1.2.3"
    theirs.CommandField, theirs.MessageID, theirs.Priority, theirs.CommandDataSetType = 1, 7, 2, 1
    theirs.MoveOriginatorApplicationEntityTitle, theirs.MoveOriginatorMessageID = "MOVER", 9

    read = read_command(encode(theirs, True, True))

    assert (read.field, read.message_id, read.has_data) == (Field.C_STORE, 7, True)
    assert (read.sop_class, read.sop_instance) == (CT, "1.2.3")
    assert (read.move_originator, read.move_originator_id) == ("MOVER", 9)


def test_a_response_is_byte_for_byte_that_of_another_implementation() -> None:
    primitive = C_STORE()
    primitive.MessageIDBeingRespondedTo, primitive.Status = 7, 0xA700
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CT, "1.2.3"
    message = C_STORE_RSP()
    message.primitive_to_message(primitive)
    message.command_set.CommandGroupLength = 0
    (pdata,) = message.encode_msg(3, 16_384)
    theirs = pdata.presentation_data_value_list[0][1][1:]

    asked = read_command(command(Field.C_STORE, message_id=7, has_data=True, affected_sop_instance_uid="1.2.3"))
    ours = response(asked, 0xA700)
    assert ours[12:] == theirs[12:]
    assert ours[:12] == struct.pack("<HHLL", 0, 0, 4, len(ours) - 12)


def test_counts_and_a_data_set_are_announced_as_another_implementation_reads_them() -> None:
    asked = read_command(command(Field.C_MOVE, message_id=4))
    more = {Tag.REMAINING: 3, Tag.COMPLETED: 2, Tag.FAILED: 1, Tag.WARNING: 0}
    found = decode(BytesIO(response(asked, Status.PENDING, has_data=True, more=more)), True, True)

    assert found.CommandField == 0x8021
    assert found.CommandDataSetType != 0x0101
    assert (found.NumberOfRemainingSuboperations, found.NumberOfCompletedSuboperations) == (3, 2)
    assert found.CommandGroupLength == len(response(asked, Status.PENDING, has_data=True, more=more)) - 12


def test_a_sub_operation_is_a_store_request() -> None:
    read = read_command(store_request(message_id=3, sop_class=CT, sop_instance="1.2.3"))
    assert (read.field, read.message_id, read.has_data, read.sop_instance) == (1, 3, True, "1.2.3")


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0", command(Field.C_ECHO)[:-3], struct.pack("<HHL", 8, 0, 0), struct.pack("<HHLL", 0, 0x100, 4, 1)],
    ids=["empty", "cut-head", "cut-value", "other-group", "long-number"],
)
def test_t05_a_broken_command_set_is_a_violation(data: bytes) -> None:
    with pytest.raises(Violation):
        read_command(data)


# ── states ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_state_table_is_that_of_another_implementation_of_ps3_8() -> None:
    """Table 9-10, as pynetdicom has it; ours lists the acceptor's part."""
    theirs = {
        (int(state[3:]), int(event[3:])): action.replace("_", "-")
        for (event, state), action in TRANSITION_TABLE.items()
    }
    ours = {(state.value, event.value): action.value for (state, event), (action, _) in TABLE.items()}
    assert {pair: theirs[pair] for pair in ours} == ours


@pytest.mark.parametrize("state", [s for s in State if s is not State.IDLE])
def test_whatever_a_peer_does_is_listed_in_every_state(state: State) -> None:
    from_peer = {
        Event.REQUEST_RECEIVED, Event.ASSOCIATE_AC_RECEIVED, Event.ASSOCIATE_RJ_RECEIVED, Event.DATA_RECEIVED,
        Event.RELEASE_RECEIVED, Event.RELEASE_ANSWER_RECEIVED, Event.ABORT_RECEIVED, Event.CLOSED,
        Event.UNKNOWN_RECEIVED,
    }  # fmt: skip
    assert {event for event in from_peer if (state, event) not in TABLE} == set()


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_echo_is_asked_answered_and_released() -> None:
    core = established()
    (asked,) = told(core, pdus(1, command(Field.C_ECHO), is_command=True))
    assert isinstance(asked, Asked)
    assert core.is_performing
    answer = core.answer(1, response(asked.command, Status.SUCCESS), is_final=True)
    assert answer[0] == PduType.P_DATA
    assert told(core, whole_pdu(PduType.RELEASE_RQ, bytes(4))) == [ReleaseWanted()]
    assert core.release() == RELEASE_RP
    assert core.state is State.CLOSING


def test_a_command_may_come_in_many_fragments() -> None:
    core = established()
    happened = told(core, pdus(1, command(Field.C_ECHO), is_command=True, bytes_max=16))
    assert [type(one) for one in happened] == [Asked]


def test_ff06_a_second_operation_before_the_answer_aborts() -> None:
    core = established()
    told(core, pdus(1, command(Field.C_ECHO), is_command=True))
    (happened,) = told(core, pdus(1, command(Field.C_ECHO, message_id=2), is_command=True))
    assert isinstance(happened, Broke)
    assert "1/1" in happened.rule


def test_a_cancellation_may_come_before_the_answer() -> None:
    core = established()
    told(core, pdus(1, command(Field.C_ECHO), is_command=True))
    cancel = write_command(
        {Tag.COMMAND_FIELD: Field.C_CANCEL, Tag.MESSAGE_ID_BEING_RESPONDED_TO: 1, Tag.COMMAND_DATA_SET_TYPE: 0x0101}
    )
    assert told(core, pdus(1, cancel, is_command=True)) == [Cancelled(1)]


@pytest.mark.parametrize(
    "stream",
    [
        pdus(5, command(Field.C_ECHO), is_command=True),
        pdus(3, b"data", is_command=False),
        pdus(3, command(Field.C_STORE, has_data=True), is_command=True) + pdus(1, b"data", is_command=False),
        pdus(3, command(Field.C_STORE, has_data=True), is_command=True) + pdus(3, command(Field.C_ECHO), is_command=True),
        pdus(1, bytes(70_000), is_command=True),
        pdus(1, write_command({Tag.COMMAND_FIELD: 0x8001, Tag.MESSAGE_ID_BEING_RESPONDED_TO: 1,
                               Tag.COMMAND_DATA_SET_TYPE: 0x0101}), is_command=True),
        whole_pdu(PduType.ASSOCIATE_AC, bytes(80)),
        request([(CT, [EXPLICIT])]),
        whole_pdu(PduType.RELEASE_RP, bytes(4)),
        b"\x16\x03\x01\x02\x00\x01",
    ],
    ids=[
        "context-not-accepted", "data-without-command", "data-in-another-context", "command-inside-data",
        "endless-command", "answer-to-nothing", "associate-ac", "second-request", "release-answer", "tls",
    ],
)  # fmt: skip
def test_t05_what_may_not_come_now_aborts_and_ends_the_reading(stream: bytes) -> None:
    core = established()
    *_, happened = told(core, stream)
    assert isinstance(happened, Broke)
    assert happened.pdu[:1] == b"\x07"
    decoded = A_ABORT_RQ()
    decoded.decode(happened.pdu)
    assert decoded.source == 2
    assert told(core, pdus(1, command(Field.C_ECHO), is_command=True)) == []


def test_data_before_any_association_aborts() -> None:
    core = Acceptor(pdu_bytes_max=65_536)
    (happened,) = told(core, pdus(1, command(Field.C_ECHO), is_command=True))
    assert isinstance(happened, Broke)


def test_an_abort_of_the_peer_ends_it_in_every_state() -> None:
    abort = abort_pdu(AbortReason.NOT_SPECIFIED)
    fresh = Acceptor(pdu_bytes_max=65_536)
    assert told(fresh, abort) == [Aborted()]
    core = established()
    assert told(core, abort) == [Aborted()]
    assert core.abort() == b""


def test_the_answer_to_a_sub_operation_is_told_to_who_asked() -> None:
    core = established(Terms(stores=True, gets=True))
    told(core, pdus(3, command(Field.C_GET), is_command=True))
    core.invoke(3, 9, store_request(message_id=9, sop_class=CT, sop_instance="1.2"))
    answer = write_command(
        {Tag.COMMAND_FIELD: 0x8001, Tag.MESSAGE_ID_BEING_RESPONDED_TO: 9, Tag.COMMAND_DATA_SET_TYPE: 0x0101,
         Tag.STATUS: 0}
    )  # fmt: skip
    (happened,) = told(core, pdus(3, answer, is_command=True))
    assert isinstance(happened, Answered)
    assert happened.command.status == 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_t05_any_bytes_are_happenings_or_an_abort(data: bytes, is_established: bool) -> None:
    core = established() if is_established else Acceptor(pdu_bytes_max=65_536)
    happened = told(core, data)
    assert sum(isinstance(one, Broke) for one in happened) <= 1
