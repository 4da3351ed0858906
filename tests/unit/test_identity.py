"""Identifiers: what may be one, and that showing one shows no patient."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from security.errors import BadInput
from security.identity import Ins, LocalId, PatientIdentity, Traits, Uid, masked

INS = Ins(matricule="279035121518989", oid="1.2.250.1.213.1.4.10", status="VALI")
LOCAL = LocalId(value="IPP-4711", issuer="1.2.250.1.71.4.2.2")
TRAITS = Traits(
    birth_name="FANTÔME",
    first_given_name="Élodie",
    given_names="Élodie Test",
    used_name="TEST-DUPONT",
    used_given_name="Lili",
    sex="F",
    birth_date=date(1979, 3, 14),
    birthplace="51215",
)
PATIENT = PatientIdentity(traits=TRAITS, ins=INS, local_ids=(LOCAL,))


@pytest.mark.parametrize(
    "text", ["1.2.840.10008.1.1", "0", "0.0.0", "2.25.329800735698586629295641978511506172918", "1." + "2" * 62]
)
def test_a_uid_that_keeps_the_rule_is_its_own_text(text: str) -> None:
    assert Uid(text) == text
    assert isinstance(Uid(text), str)


@pytest.mark.parametrize("padded", ["1.2.3\0", "1.2.3 ", " 1.2.3", "1.2.3\0\0", "\0 1.2.3 \0"])
def test_padding_of_a_uid_is_not_part_of_it(padded: str) -> None:
    assert Uid(padded) == "1.2.3"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ".",
        "1.",
        ".1",
        "1..2",
        "1.02",
        "01.2",
        "1.2.x",
        "/etc/passwd",
        "../../x",
        "1.2/3",
        "1.2\0.3",
        "1.2\n",
        "1.2\n.3",
        "1.2.३",  # a digit, though not an ASCII one
        "1.2.³",
        "1" * 65,
        "1.2,3",
        "-1.2",
        "+1",
        "1e5",
    ],
)
def test_t07_a_text_that_breaks_the_rule_cannot_become_a_uid(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        Uid(text)
    assert caught.value.code == "bad-uid"


@given(text=st.text(max_size=80))
def test_t07_a_uid_holds_digits_and_dots_and_nothing_else(text: str) -> None:
    try:
        uid = Uid(text)
    except BadInput:
        return
    assert set(uid) <= set("0123456789.")
    assert 1 <= len(uid) <= 64


def test_t07_the_refusal_of_a_uid_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(BadInput) as caught:
        Uid("FANTOME^ELODIE 12.5\n\x1b[31m")
    message = str(caught.value)
    assert "FANTOME" not in message
    assert "\n" not in message
    assert "\x1b" not in message
    assert "25 characters" in message


def test_t07_a_stored_uid_is_read_back_through_the_same_check() -> None:
    adapter = TypeAdapter(Uid)
    assert type(adapter.validate_json('"1.2.3"')) is Uid
    assert adapter.dump_json(Uid("1.2.3")) == b'"1.2.3"'
    with pytest.raises(BadInput):
        adapter.validate_json('"../1.2"')


@pytest.mark.parametrize(
    ("value", "shown"),
    [("DUPONT", "D…(6)"), ("É", "…(1)"), ("M", "…(1)"), ("279035121518989", "…(15)"), ("", "∅"), (None, "∅")],
)
def test_a_masked_value_shows_a_first_letter_and_its_length_at_most(value: str | None, shown: str) -> None:
    assert masked(value) == shown


@pytest.mark.parametrize("form", [repr, str, "{}".format, "{!r}".format])
@pytest.mark.parametrize(
    "value", [INS, LOCAL, TRAITS, PATIENT, [PATIENT], {"patient": PATIENT}], ids=lambda v: type(v).__name__
)
def test_t34_showing_an_identity_shows_no_patient(value: object, form: object) -> None:
    text = form(value)  # type: ignore[operator]
    for marker in ("279035121518989", "4711", "FANTÔME", "Élodie", "DUPONT", "Lili", "1979", "51215"):
        assert marker not in text


def test_showing_an_identity_tells_what_an_operator_may_know() -> None:
    assert repr(INS) == "Ins(…(15), 1.2.250.1.213.1.4.10, VALI)"
    assert repr(LOCAL) == "LocalId(I…(8), 1.2.250.1.71.4.2.2)"
    assert repr(TRAITS) == "Traits(F…(7), É…(6), F)"
    assert repr(LocalId(value="", issuer="")) == "LocalId(∅, ∅)"
