"""Names, roles, passwords, codes, waits of accounts: rules without a store."""

from __future__ import annotations

from base64 import b32decode
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from security.accounts import backoff, codes, password, totp
from security.accounts.account import folded, login_name, person_name, roles_of
from security.accounts.password import Passwords
from security.errors import BadInput
from security.policy import Role

RFC_SECRET = b"12345678901234567890"  # RFC 6238 appendix B, SHA-1


@pytest.mark.parametrize(
    ("second", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037")],
)
def test_the_second_factor_is_that_of_rfc_6238_appendix_b(second, code):
    assert totp.code_at(RFC_SECRET, datetime.fromtimestamp(second, UTC)) == code


def test_t32_a_code_is_taken_in_its_step_and_the_two_beside_it_and_never_twice():
    now = datetime.fromtimestamp(1234567890, UTC)
    step = totp.step_of(now)
    for away, taken in ((-60, False), (-30, True), (0, True), (30, True), (60, False)):
        code = totp.code_at(RFC_SECRET, now + timedelta(seconds=away))
        found = totp.accepted_step(RFC_SECRET, code, now=now, last=0)
        assert (found == step + away // 30) if taken else found is None
    assert totp.accepted_step(RFC_SECRET, "005 924", now=now, last=step - 1) == step
    assert totp.accepted_step(RFC_SECRET, "005924", now=now, last=step) is None


@pytest.mark.parametrize("stated", ["", "00592", "0059244", "００５９２４", "5924", "abcdef", "\x00" * 6])
def test_what_is_no_six_digits_is_no_code(stated):
    assert totp.accepted_step(RFC_SECRET, stated, now=datetime.fromtimestamp(1234567890, UTC), last=0) is None


def test_an_authenticator_reads_the_same_secret_from_link_and_text():
    parts = urlsplit(totp.link(RFC_SECRET, "jeanne.martin"))
    assert (parts.scheme, parts.netloc, parts.path) == ("otpauth", "totp", "/Poterne%3Ajeanne.martin")
    (secret,) = parse_qs(parts.query)["secret"]
    assert b32decode(secret) == RFC_SECRET == b32decode(totp.spelt(RFC_SECRET).replace(" ", ""))


def test_a_code_holds_a_hundred_random_bits_and_is_read_however_it_is_typed():
    made = {codes.new_code() for _ in range(200)}
    assert len(made) == 200
    assert all(len(one.replace("-", "")) == 20 for one in made)
    one = made.pop()
    assert codes.digest(f"  {one.lower().replace('-', ' ')} ") == codes.digest(one)
    assert codes.digest(one[:-1]) != codes.digest(one)


@pytest.mark.parametrize(
    "name", ["", "x", ".ab", "ab.", "a b", "jeanne@site", "é.martin", "a" * 41, "../a", "a\x00b"]
)
def test_what_is_no_login_name_is_said_to_be_none(name):
    with pytest.raises(BadInput) as caught:
        login_name(name)
    assert caught.value.code == "account-name"


def test_a_login_name_is_compared_without_case_and_outer_blanks():
    assert login_name(" Jeanne.Martin ") == folded("ＪＥＡＮＮＥ.martin") == "jeanne.martin"


@pytest.mark.parametrize("person", ["", "x", "a" * 81, "Jeanne\x1b[2J", "Jeanne\u202eMartin"])
def test_a_person_is_one_printable_line(person):
    with pytest.raises(BadInput):
        person_name(person)


@pytest.mark.parametrize("roles", [[], ["administrator"], ["pacs-peer"], ["operator", "service"], [""]])
def test_t46_an_account_has_roles_of_people_or_is_a_service(roles):
    with pytest.raises(BadInput) as caught:
        roles_of(roles)
    assert caught.value.code == "account-roles"


def test_t46_roles_are_those_of_the_policy():
    assert roles_of(["operator", "identity-officer"]) == {Role.OPERATOR, Role.IDENTITY_OFFICER}


@pytest.mark.parametrize(
    ("stated", "code"),
    [
        ("court", "password-short"),
        ("x" * 257, "password-long"),
        ("aaaaaaaaaaaaaaaa", "password-obvious"),
        ("poternepoterne!!", "password-obvious"),
        ("Jeanne.Martin2026", "password-obvious"),
        ("motdepasse12345", "password-obvious"),
    ],
)
def test_ff44_a_password_that_is_easy_to_guess_is_refused(stated, code):
    with pytest.raises(BadInput) as caught:
        password.judge(stated, name="jeanne.martin", person="Jeanne Martin")
    assert caught.value.code == code
    assert stated not in str(caught.value)


def test_a_long_phrase_is_good_enough_without_classes_of_characters():
    password.judge("quatre barques sous la pluie", name="jeanne.martin", person="Jeanne Martin")


async def test_a_hash_is_argon2id_with_a_salt_of_its_own_and_fits_its_password_alone():
    passwords = Passwords(memory_kib=64)
    one, other = [await passwords.hashed("quatre barques") for _ in range(2)]
    assert one.startswith(b"$argon2id$v=19$m=64,t=3,p=1$")
    assert one != other
    assert await passwords.matches("quatre barques", one)
    assert not await passwords.matches("quatre barque", one)
    assert not await passwords.matches("quatre barques", None)


def test_the_default_cost_is_that_of_rfc_9106():
    assert Passwords()._decoy.startswith("$argon2id$v=19$m=65536,t=3,p=1$")


NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_t33_four_tries_are_free_then_the_wait_doubles_up_to_an_hour():
    tries, now, waits = None, NOON, []
    for _ in range(14):
        now += timedelta(seconds=backoff.waits_s(tries, now))
        tries = backoff.after_a_try(tries, now)
        waits.append(backoff.waits_s(tries, now))
    assert waits == [0, 0, 0, 0, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]


def test_an_hour_after_the_last_wait_nothing_is_remembered():
    tries = None
    for _ in range(5):
        tries = backoff.after_a_try(tries, NOON)
    assert backoff.after_a_try(tries, NOON + timedelta(seconds=3659)).failures == 6
    assert backoff.after_a_try(tries, NOON + timedelta(seconds=3661)).failures == 1


@settings(max_examples=100)
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 7200)), max_size=40))
def test_t33_whatever_happens_a_wait_is_at_most_an_hour_and_a_good_try_ends_it(steps):
    tries, now = None, NOON
    for good, seconds in steps:
        now += timedelta(seconds=seconds)
        if backoff.waits_s(tries, now):
            continue
        tries = backoff.after_a_try(tries, now)
        assert 0 <= backoff.waits_s(tries, now) <= 3600
        if good:
            tries = backoff.forgiven(tries)
            assert backoff.waits_s(tries, now) == 0
