"""Accounts over a real store: the first one, enrolment, signing in, lock-out, loss (T32, T33, T46, FF-44)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway.components import COMPONENTS
from security.accounts import totp
from security.accounts.account import Status
from security.accounts.consents import Consents
from security.accounts.entry import Place, TooManyTries
from security.accounts.glass import BrokenGlass
from security.errors import BadInput, Refused, Unavailable
from security.policy import Action, Role
from tests.contract.store_parts.engines import fresh
from tests.integration.outbox_lab import Hands
from tests.support.people import HERE, PASSWORD, People, people

ADMIN = "security-officer:test"


@pytest_asyncio.fixture(params=["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.full])])
async def house(request):
    store = await fresh(request.param, request).open(components=COMPONENTS)
    try:
        yield await people(store, Hands())
    finally:
        await store.close()


async def events(house: People) -> list[tuple[str, str]]:
    rows = await house.store.read(lambda tx: tx.rows("SELECT event, actor FROM audit_record ORDER BY seq"))
    return [(row["event"], row["actor"]) for row in rows]


async def refused(awaited) -> str:
    with pytest.raises(Refused) as caught:
        await awaited
    return caught.value.code


# -- the first account ---------------------------------------------------------------------------------------------


async def test_ff44_a_fresh_store_has_no_account_and_admits_nobody(house):
    assert await house.register.every() == []
    assert await house.entry.is_empty()
    for name in ("admin", "root", "operator", "poterne", ""):
        for stated in ("admin", "password", "poterne", ""):
            assert await refused(
                house.entry.by_password(name, stated, "000000", Place(address="x", counted_as=f"{name}{stated}"))
            ) in {"not-admitted", "too-many-tries"}


async def test_the_first_account_is_a_security_officer_by_a_code_that_is_good_once_and_for_a_day(house):
    invitation = await house.register.bootstrap(actor=ADMIN)
    assert invitation.expires_at - house.clock.now() == timedelta(hours=24)
    first = await house.enrol(invitation.code, name="Anne.Roy", person="Anne Roy")
    (made,) = await house.register.every()
    assert (made.name, made.roles, made.status) == ("anne.roy", {Role.SECURITY_OFFICER}, Status.ACTIVE)
    assert await refused(house.enrol(invitation.code, name="paul", person="Paul Roy")) == "code-not-good"
    assert await refused(house.register.bootstrap(actor=ADMIN)) == "bootstrap-not-needed"
    assert (await house.entry.by_password("anne.roy", PASSWORD, house.code(first), HERE)).name == "anne.roy"


async def test_a_first_code_that_lay_about_is_good_no_more_once_there_is_an_officer(house):
    await house.register.bootstrap(actor=ADMIN)
    stolen = await house.register.bootstrap(actor=ADMIN)
    await house.enrolled("anne.roy", "security-officer")
    assert await refused(house.enrol(stolen.code, name="paul", person="Paul Roy")) == "code-not-good"


@pytest.mark.parametrize("hours", [24, 48])
async def test_a_code_expires(house, hours):
    invitation = await house.register.bootstrap(actor=ADMIN)
    house.clock.advance(hours * 3600)
    assert await refused(house.register.offer(invitation.code)) == "code-not-good"
    assert await refused(house.enrol(invitation.code, name="paul", person="Paul Roy")) == "code-not-good"


async def test_a_newer_code_takes_the_place_of_the_older(house):
    first = await house.register.add("paul.roy", person="Paul Roy", roles=["operator"], actor=ADMIN)
    second = await house.register.reset("paul.roy", actor=ADMIN)
    assert await refused(house.register.offer(first.code)) == "code-not-good"
    assert (await house.register.offer(second.code)).account.name == "paul.roy"


async def test_of_two_people_with_one_code_one_enrols(house):
    invitation = await house.register.bootstrap(actor=ADMIN)
    tries = [house.enrol(invitation.code, name=f"person{n}", person="Paul Roy") for n in range(4)]
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(one, Exception) for one in done) == 1
    assert len(await house.register.every()) == 1


async def test_of_many_who_enrol_with_one_code_at_once_one_does(house):
    invitation = await house.register.add("paul.roy", person="Paul Roy", roles=["operator"], actor=ADMIN)
    tries = [house.enrol(invitation.code, password=f"{n} barques sous la pluie") for n in range(4)]
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(one, Exception) for one in done) == 1


async def test_enrolment_needs_the_code_of_the_authenticator(house):
    invitation = await house.register.bootstrap(actor=ADMIN)
    with pytest.raises(BadInput) as caught:
        await house.register.enrol(
            invitation.code, name="anne.roy", person="Anne Roy", new_password=PASSWORD, totp_code="000000"
        )
    assert caught.value.code == "totp-wrong"
    assert await house.register.every() == []
    assert (await house.register.offer(invitation.code)).account is None  # it is still good


async def test_t60_no_code_password_or_secret_lies_in_the_store_in_clear(house):
    invitation = await house.register.bootstrap(actor=ADMIN)
    who = await house.enrol(invitation.code, name="anne.roy", person="Anne Roy")
    tables = ("account", "account_code", "account_try", "audit_record")
    held = b""
    for table in tables:
        for row in await house.store.read(lambda tx, table=table: tx.rows(f"SELECT * FROM {table}")):
            held += b"|".join(v if isinstance(v, bytes) else str(v).encode() for v in row.values())
    for secret in (invitation.code, PASSWORD, totp.spelt(who.secret).replace(" ", ""), "argon2id"):
        assert secret.encode() not in held
    assert who.secret not in held


# -- signing in ----------------------------------------------------------------------------------------------------


async def test_name_password_and_code_admit_and_one_of_them_wrong_does_not(house):
    who = await house.enrolled()
    good = (who.name, PASSWORD, house.code(who))
    for wrong in ((who.name, PASSWORD + " ", good[2]), (who.name, PASSWORD, "000000"), ("paul", *good[1:])):
        assert await refused(house.entry.by_password(*wrong, HERE)) == "not-admitted"
    assert (await house.entry.by_password(" Jeanne.Martin", *good[1:], HERE)).name == who.name
    assert [event for event, _ in await events(house)][-4:] == ["session.refused"] * 3 + ["session.opened"]


async def test_t32_the_code_of_a_login_is_not_taken_again(house):
    who = await house.enrolled()
    code = house.code(who)
    await house.entry.by_password(who.name, PASSWORD, code, HERE)
    assert await refused(house.entry.by_password(who.name, PASSWORD, code, HERE)) == "not-admitted"
    house.clock.advance(30)
    await house.entry.by_password(who.name, PASSWORD, house.code(who), HERE)


async def test_t32_of_many_logins_with_one_code_at_once_one_is_admitted(house):
    who = await house.enrolled()
    code = house.code(who)
    place = [Place(address="x", counted_as=str(n)) for n in range(4)]
    done = await asyncio.gather(
        *(house.entry.by_password(who.name, PASSWORD, code, one) for one in place), return_exceptions=True
    )
    assert sum(not isinstance(one, Exception) for one in done) == 1


async def test_t33_five_wrong_tries_at_an_account_make_everybody_wait_from_wherever(house):
    who = await house.enrolled()
    for number in range(5):
        place = Place(address="x", counted_as=f"address {number}")
        assert await refused(house.entry.by_password(who.name, "faux", "000000", place)) == "not-admitted"
    elsewhere = Place(address="x", counted_as="elsewhere")
    with pytest.raises(TooManyTries) as caught:
        await house.entry.by_password(who.name, PASSWORD, house.code(who), elsewhere)
    assert caught.value.wait_s == 60
    house.clock.advance(61)
    assert await house.entry.by_password(who.name, PASSWORD, house.code(who), elsewhere)


async def test_t33_five_wrong_tries_from_an_address_make_it_wait_whatever_the_name(house):
    who = await house.enrolled()
    for number in range(5):
        assert await refused(house.entry.by_password(f"nobody{number}", "faux", "000000", HERE)) == "not-admitted"
    assert await refused(house.entry.by_password(who.name, PASSWORD, house.code(who), HERE)) == "too-many-tries"


async def test_t33_names_that_do_not_exist_are_answered_counted_and_made_to_wait_alike(house):
    who = await house.enrolled()
    answers = {}
    for name in (who.name, "nobody.here"):
        answers[name] = []
        for number in range(7):
            place = Place(address="x", counted_as=f"{name} {number}")
            with pytest.raises(Refused) as caught:
                await house.entry.by_password(name, "faux", "000000", place)
            answers[name].append(str(caught.value))
    assert answers[who.name] == answers["nobody.here"]
    assert "too-many-tries" in answers[who.name][-1]


async def test_t33_a_password_is_computed_for_a_name_that_does_not_exist_too(house, monkeypatch):
    who = await house.enrolled()
    computed = []
    matches = house.entry._passwords.matches

    async def counted(password: str, kept: bytes | None) -> bool:
        computed.append(kept is not None)
        return await matches(password, kept)

    monkeypatch.setattr(house.entry._passwords, "matches", counted)
    for name in (who.name, "nobody.here"):
        assert await refused(house.entry.by_password(name, "faux", "000000", HERE)) == "not-admitted"
    assert computed == [True, False]


async def test_t33_tries_made_at_once_are_counted_before_they_are_judged(house):
    who = await house.enrolled()
    done = await asyncio.gather(
        *(house.entry.by_password(who.name, "faux", "000000", HERE) for _ in range(40)), return_exceptions=True
    )
    assert sorted({one.code for one in done}) == ["not-admitted", "too-many-tries"]
    assert sum(one.code == "not-admitted" for one in done) == 5


async def test_t33_nobodys_tries_lock_out_a_browser_that_was_let_in_as_that_account(house):
    who = await house.enrolled()
    known = Place(address="x", counted_as="y", browser=house.entry.browser_cookie(who.name))
    other = Place(address="x", counted_as="y", browser=house.entry.browser_cookie("paul.roy"))
    for _ in range(6):
        await refused(house.entry.by_password(who.name, "faux", "000000", HERE))
    assert await refused(house.entry.by_password(who.name, PASSWORD, house.code(who), other)) == "too-many-tries"
    assert await house.entry.by_password(who.name, PASSWORD, house.code(who), known)


async def test_a_locked_account_admits_nobody_and_says_nothing_about_it(house):
    who = await house.enrolled()
    await house.register.lock(who.name, actor=ADMIN)
    assert await refused(house.entry.by_password(who.name, PASSWORD, house.code(who), HERE)) == "not-admitted"
    assert await house.entry.standing(who.name) is None
    await house.register.unlock(who.name, actor=ADMIN)
    house.clock.advance(60)
    assert await house.entry.by_password(who.name, PASSWORD, house.code(who), HERE)


async def test_a_locked_account_is_not_opened_by_a_code_that_was_given_before(house):
    invitation = await house.register.add("paul.roy", person="Paul Roy", roles=["operator"], actor=ADMIN)
    await house.register.lock("paul.roy", actor=ADMIN)
    assert await refused(house.enrol(invitation.code)) == "code-not-good"


async def test_t32_every_change_that_matters_raises_the_version_that_sessions_are_bound_to(house):
    who = await house.enrolled()
    versions = [(await house.entry.standing(who.name)).version]
    await house.register.set_roles(who.name, ["operator", "identity-officer"], tenant="", actor=ADMIN)
    versions.append((await house.entry.standing(who.name)).version)
    await house.register.change_password(who.name, "cinq barques sous la neige")
    versions.append((await house.entry.standing(who.name)).version)
    await house.register.lock(who.name, actor=ADMIN)
    await house.register.unlock(who.name, actor=ADMIN)
    versions.append((await house.entry.standing(who.name)).version)
    assert versions == sorted(set(versions))


async def test_a_reset_makes_password_and_second_factor_worthless_at_once(house):
    who = await house.enrolled()
    invitation = await house.register.reset(who.name, actor=ADMIN)
    assert await refused(house.entry.by_password(who.name, PASSWORD, house.code(who), HERE)) == "not-admitted"
    again = await house.enrol(invitation.code, password="six barques sous la neige")
    assert again.secret != who.secret
    house.clock.advance(30)
    assert await house.entry.by_password(who.name, again.password, house.code(again), HERE)


async def test_the_last_security_officer_is_neither_locked_nor_demoted(house):
    await house.enrolled("anne.roy", "security-officer")
    assert await refused(house.register.lock("anne.roy", actor=ADMIN)) == "last-security-officer"
    for roles, tenant in ((["operator"], ""), (["security-officer"], "site")):
        assert (
            await refused(house.register.set_roles("anne.roy", roles, tenant=tenant, actor=ADMIN))
            == "last-security-officer"
        )
    await house.enrolled("paul.roy", "security-officer")
    await house.register.lock("anne.roy", actor=ADMIN)


async def test_a_store_that_takes_nothing_admits_nobody(house, monkeypatch):
    who = await house.enrolled()

    async def full(_work):
        raise Unavailable("no room", code="store-full", hint="make room")

    monkeypatch.setattr(house.entry._store, "write", full)
    with pytest.raises(Unavailable):
        await house.entry.by_password(who.name, PASSWORD, house.code(who), HERE)


# -- certificates --------------------------------------------------------------------------------------------------


class Authority:
    """Signs requests with a key of its own; remembers what it revoked."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.revoked: list[int] = []

    def certify(self, request, *, not_before, not_after, purposes):
        asked = x509.load_pem_x509_csr(request)
        made = (
            x509.CertificateBuilder()
            .subject_name(asked.subject)
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lab")]))
            .public_key(asked.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .sign(self.key, SHA256())
        )
        return made.public_bytes(Encoding.PEM)

    def revoke(self, certificates, *, now):
        assert now
        self.revoked += [one.serial_number for one in certificates]


def csr(name: str) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    key = ec.generate_private_key(ec.SECP256R1())
    return (
        x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256()).public_bytes(Encoding.PEM)
    )


async def test_an_auditor_enrols_by_certificate_loses_it_and_enrols_again(house):
    authority = Authority()
    await house.register.add(
        "lea.petit", person="Léa Petit", roles=["auditor"], profession="radiologist", actor=ADMIN
    )
    pem = await house.register.certify("lea.petit", csr("Léa Petit"), authority, actor=ADMIN)
    shown = x509.load_pem_x509_certificate(pem)
    mark = shown.fingerprint(SHA256()).hex()
    assert (await house.entry.by_certificate(mark, HERE)).name == "lea.petit"
    assert shown.not_valid_after_utc - datetime(2026, 3, 1, tzinfo=UTC) > timedelta(days=300)
    # lost
    assert await house.register.revoke("lea.petit", authority, actor=ADMIN) == 1
    assert authority.revoked == [shown.serial_number]
    assert await refused(house.entry.by_certificate(mark, HERE)) == "not-admitted"
    assert await house.entry.standing("lea.petit") is None
    assert await refused(house.register.bind("lea.petit", pem, actor=ADMIN)) == "certificate-taken"
    # again
    again = await house.register.certify("lea.petit", csr("Léa Petit"), authority, actor=ADMIN)
    mark = x509.load_pem_x509_certificate(again).fingerprint(SHA256()).hex()
    assert (await house.entry.by_certificate(mark, HERE)).name == "lea.petit"


async def test_a_lost_certificate_admits_no_more_though_the_password_still_does(house):
    who = await house.enrolled()
    pem = await house.register.certify(who.name, csr("x"), Authority(), actor=ADMIN)
    mark = x509.load_pem_x509_certificate(pem).fingerprint(SHA256()).hex()
    assert await house.entry.by_certificate(mark, HERE)
    await house.register.revoke(who.name, None, actor=ADMIN)
    assert await refused(house.entry.by_certificate(mark, HERE)) == "not-admitted"
    assert await house.entry.by_password(who.name, PASSWORD, house.code(who), HERE)


async def test_a_certificate_stands_for_one_account(house):
    authority = Authority()
    for name in ("lea.petit", "anne.roy"):
        await house.register.add(name, person="Léa Petit", roles=["operator"], actor=ADMIN)
    pem = await house.register.certify("lea.petit", csr("x"), authority, actor=ADMIN)
    assert await refused(house.register.bind("anne.roy", pem, actor=ADMIN)) == "certificate-taken"
    assert await refused(house.entry.by_certificate("00" * 32, HERE)) == "not-admitted"


async def test_an_auditor_has_a_profession(house):
    with pytest.raises(BadInput) as caught:
        await house.register.add("lea.petit", person="Léa Petit", roles=["auditor"], actor=ADMIN)
    assert caught.value.code == "account-profession"


async def test_an_identity_provider_admits_the_account_it_is_bound_to(house):
    await house.register.add("lea.petit", person="Léa Petit", roles=["operator"], actor=ADMIN)
    assert await refused(house.entry.by_provider("https://op.example", "42", HERE)) == "not-admitted"
    await house.register.bind_provider("lea.petit", "https://op.example", "42", actor=ADMIN)
    assert (await house.entry.by_provider("https://op.example", "42", HERE)).name == "lea.petit"
    assert await refused(house.entry.by_provider("https://other.example", "42", HERE)) == "not-admitted"


async def test_an_identity_is_linked_to_one_account_and_linking_unlocks_nobody(house):
    await house.enrolled("lea.petit", "operator")
    await house.enrolled("paul.roy", "operator")
    await house.register.bind_provider("lea.petit", "https://op.example", "42", actor=ADMIN)
    assert await refused(house.register.bind_provider("paul.roy", "https://op.example", "42", actor=ADMIN)) == (
        "identity-taken"
    )
    again = await house.register.bind_provider("lea.petit", "https://op.example", "42", actor=ADMIN)
    await house.register.lock("lea.petit", actor=ADMIN)
    still = await house.register.bind_provider("lea.petit", "https://op.example", "43", actor=ADMIN)
    assert (still.status, still.version > again.version) == (Status.LOCKED, True)
    assert await refused(house.entry.by_provider("https://op.example", "43", HERE)) == "not-admitted"
    gone = await house.register.unbind_provider("lea.petit", actor=ADMIN)
    assert (gone.federated, gone.status) == ("", Status.LOCKED)
    assert ("account.provider-unbound", ADMIN) in await events(house)


@pytest.mark.parametrize("subject", ["", "x" * 256, "a\nb", "a\u202eb"])
async def test_what_is_no_subject_is_linked_to_nobody(house, subject):
    await house.enrolled("lea.petit", "operator")
    with pytest.raises(BadInput) as caught:
        await house.register.bind_provider("lea.petit", "https://op.example", subject, actor=ADMIN)
    assert caught.value.code == "account-subject"


async def test_the_last_officer_who_enters_by_a_provider_alone_is_not_unlinked(house):
    await house.register.add("anne.roy", person="Anne Roy", roles=["security-officer"], actor=ADMIN)
    await house.register.bind_provider("anne.roy", "https://op.example", "42", actor=ADMIN)
    assert await refused(house.register.unbind_provider("anne.roy", actor=ADMIN)) == "last-security-officer"
    assert (await house.entry.by_provider("https://op.example", "42", HERE)).name == "anne.roy"
    await house.enrolled("jean.roy", "security-officer")
    assert (await house.register.unbind_provider("anne.roy", actor=ADMIN)).status is Status.INVITED


# -- two persons ---------------------------------------------------------------------------------------------------

WHY = "clé à remettre au coffre de la banque"


async def test_t46_two_persons_agree_before_keys_leave_and_once(house):
    consents = Consents(store=house.store, clock=house.clock)
    for name in ("anne.roy", "paul.roy"):
        await house.enrolled(name, "security-officer")
    number = await consents.ask("keys.export", tenant="", reason=WHY, account="anne.roy")
    assert await refused(consents.use(number, Action.KEYS_EXPORT, tenant="", actor="host:x")) == "consent-missing"
    assert await refused(consents.give(number, account="anne.roy")) == "consent-own"
    await consents.give(number, account="paul.roy")
    assert await refused(consents.use(number, Action.UNPUBLISH_ALL, tenant="", actor="x")) == "unknown-consent"
    used = await consents.use(number, Action.KEYS_EXPORT, tenant="", actor="host:x")
    assert (used.asked_by, used.given_by) == ("anne.roy", "paul.roy")
    assert await refused(consents.use(number, Action.KEYS_EXPORT, tenant="", actor="host:x")) == "unknown-consent"
    assert [event for event, _ in await events(house)][-3:] == ["consent.asked", "consent.given", "consent.used"]


async def test_t46_an_agreement_ends_with_the_hour_and_with_the_role_of_either(house):
    consents = Consents(store=house.store, clock=house.clock)
    for name in ("anne.roy", "paul.roy", "lea.petit"):
        await house.enrolled(name, "security-officer")
    late = await consents.ask("keys.export", tenant="", reason=WHY, account="anne.roy")
    await consents.give(late, account="paul.roy")
    house.clock.advance(3600)
    assert await refused(consents.use(late, Action.KEYS_EXPORT, tenant="", actor="x")) == "unknown-consent"
    number = await consents.ask("keys.export", tenant="", reason=WHY, account="anne.roy")
    await consents.give(number, account="paul.roy")
    await house.register.set_roles("paul.roy", ["operator"], tenant="", actor=ADMIN)
    assert await refused(consents.use(number, Action.KEYS_EXPORT, tenant="", actor="x")) == "not-allowed"


async def test_t46_who_may_not_do_it_may_neither_ask_nor_agree(house):
    consents = Consents(store=house.store, clock=house.clock)
    await house.enrolled("anne.roy", "security-officer")
    await house.enrolled("paul.roy", "operator")
    assert await refused(consents.ask("keys.export", tenant="", reason=WHY, account="paul.roy")) == "not-allowed"
    number = await consents.ask("keys.export", tenant="", reason=WHY, account="anne.roy")
    assert await refused(consents.give(number, account="paul.roy")) == "not-allowed"
    with pytest.raises(BadInput):
        await consents.ask("exam.retry", tenant="", reason=WHY, account="anne.roy")


# -- emergencies ---------------------------------------------------------------------------------------------------


async def test_t47_the_glass_is_broken_for_a_reason_for_four_hours_at_most_and_alarms_at_once(house):
    alarms: list[str] = []
    glass = BrokenGlass(store=house.store, clock=house.clock, alarm=lambda *told: alarms.append(told))
    good = {"tenant": "site", "code": "no-identity-officer", "reason": "patient en salle, officier injoignable"}
    for wrong in ({"code": ""}, {"code": "x"}, {"reason": "court"}, {"hours": 4.1}, {"hours": 0}, {"hours": -1}):
        with pytest.raises(BadInput):
            await glass.open("paul.roy", **(good | wrong))
    assert alarms == []
    assert await glass.holding("paul.roy", "site") is None
    await glass.open("paul.roy", **good, hours=4)
    assert alarms == [("site", "paul.roy")]
    assert ("break-glass.opened", "account:paul.roy") in await events(house)
    assert await glass.holding("paul.roy", "site")
    assert await glass.holding("paul.roy", "clinique") is None
    assert await glass.holding("anne.roy", "site") is None
    house.clock.advance(4 * 3600)
    assert await glass.holding("paul.roy", "site") is None


async def test_t47_when_nobody_can_be_told_the_glass_stays_whole(house):
    def fails(_tenant, _account):
        raise Unavailable("no alert", code="alert-failed", hint="look")

    glass = BrokenGlass(store=house.store, clock=house.clock, alarm=fails)
    with pytest.raises(Unavailable):
        await glass.open("paul.roy", tenant="site", code="outage", reason="la gare est en panne depuis une heure")
    assert await glass.holding("paul.roy", "site") is None
