"""Whether a token is believed: its form, its key, what it says, who shows it. Everything pure; no network."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.lab.jws import LabKey, encoded
from security.errors import BadInput, Refused
from security.policy import Purpose, Role
from security.tokens.bearer import thumbprint
from security.tokens.claims import Expected, read_claims
from security.tokens.header import stated_issuer
from security.tokens.introspection import agree, read_answer
from security.tokens.keys import read_keyring
from tests.support.tokens import AT, BEARER, CERTIFICATE, ISSUER, NOW, OTHER_CERTIFICATE, claims, judged, key, keyring

SECRET_PATH = "../../etc/passwd"


def code_of(token: str, **how: object) -> str:
    """The code of the refusal, "" when the token is believed."""
    said = None
    try:
        judged(token, **how)  # type: ignore[arg-type]
    except Refused as refused:
        said = refused
    assert said is None or not any(part in str(said) for part in token.split(".") if len(part) > 20)
    return said.code if said else ""


def test_a_good_token_gives_a_subject_with_role_tenant_and_purpose():
    found = judged(key().token(claims()))
    assert (found.subject.name, found.subject.roles, found.subject.tenant) == (
        "psc:899700000001",
        {Role.RADIOLOGIST},
        "chu",
    )
    assert found.purpose is Purpose.TREATMENT
    assert not found.needs_introspection


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256"])
def test_tokens_of_another_library_are_believed_and_ours_are_by_it(algorithm):
    """PyJWT signs, we read; the lab signs, PyJWT reads."""
    made = key("k-" + algorithm, algorithm)
    theirs = pyjwt.encode(claims(), made.private, algorithm=algorithm, headers={"kid": made.kid})
    assert code_of(theirs, ring=keyring(made)) == ""
    ours = made.token(claims())
    read = pyjwt.decode(
        ours,
        made.private.public_key(),
        algorithms=[algorithm],
        audience=ISSUER.audience,
        options={"verify_exp": False},
    )
    assert read == claims()


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"alg": "none"}, "token-form"),
        ({"alg": "None"}, "token-algorithm"),
        ({"alg": "HS256"}, "token-algorithm"),
        ({"alg": "ES512"}, "token-algorithm"),
        ({"alg": None}, "token-algorithm"),
        ({"alg": ["ES256"]}, "token-algorithm"),
        ({"jku": "https://evil.example/keys"}, "token-header-key"),
        ({"jwk": {"kty": "EC"}}, "token-header-key"),
        ({"x5u": "https://evil.example/cert"}, "token-header-key"),
        ({"x5c": ["MIIB"]}, "token-header-key"),
        ({"crit": ["exp"], "exp": 1}, "token-header"),
        ({"crit": []}, "token-header"),
        ({"b64": False}, "token-header"),
        ({"zip": "DEF"}, "token-header"),
        ({"enc": "A256GCM"}, "token-header"),
        ({"kid": SECRET_PATH}, "token-key-name"),
        ({"kid": "/dev/null"}, "token-key-name"),
        ({"kid": "x' UNION SELECT 'secret"}, "token-key-name"),
        ({"kid": ""}, "token-key-name"),
        ({"kid": 7}, "token-key-name"),
        ({"kid": "another"}, "token-key"),
        ({"typ": "dpop+jwt"}, "token-type"),
        ({"typ": "logout+jwt"}, "token-type"),
        ({"cty": "JWE"}, "token-type"),
    ],
)
def test_t40_a_header_that_chooses_how_it_is_verified_is_refused(header, code):
    assert code_of(key().token(claims(), **header)) == code


def test_t40_alg_none_with_a_signature_beside_it_is_refused_by_its_algorithm():
    assert code_of(key().token(claims(), alg="none") + encoded(b"anything")) == "token-algorithm"


def test_t40_an_hmac_under_the_public_key_is_refused_whatever_the_header_says():
    confused = key("k-RS256", "RS256")
    assert code_of(confused.token(claims(), alg="HS256"), ring=keyring(confused)) == "token-algorithm"
    body = confused.token(claims(), alg="HS256").split(".")
    body[0] = encoded(json.dumps({"alg": "RS256", "kid": confused.kid}).encode())
    assert code_of(".".join(body), ring=keyring(confused)) == "token-signature"


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"HS256","alg":"ES256","kid":"one"}',
        b'{"alg":"ES256","kid":"other","kid":"one"}',
        b'["ES256"]',
        b'{"alg":"ES256","kid":"one"}   x',
        b"\xff\xfe",
    ],
)
def test_t40_a_header_with_two_answers_or_none_is_refused(header):
    token = f"{encoded(header)}.{encoded(json.dumps(claims()).encode())}"
    assert code_of(f"{token}.{encoded(key().sign(token.encode()))}") == "token-header"


def test_t40_an_algorithm_of_the_library_that_the_issuer_does_not_use_is_refused():
    only_ps = replace(ISSUER, algorithms=frozenset({a for a in ISSUER.algorithms if a == "PS256"}))
    assert code_of(key().token(claims()), issuer=only_ps) == "token-algorithm"


def test_t40_a_key_marked_for_one_algorithm_serves_no_other_one():
    marked = key("k-RS256", "RS256")
    as_pss = LabKey(marked.private, kid=marked.kid, algorithm="PS256")
    assert code_of(as_pss.token(claims()), ring=keyring(marked)) == "token-key"


def test_t40_a_token_of_a_key_nobody_published_is_refused():
    assert code_of(LabKey.create("one").token(claims())) == "token-signature"
    assert code_of(key().token(claims(), kid=None)) == "", "one key alone needs no name"
    two = keyring(key(), key("two"))
    assert code_of(key().token(claims(), kid=None), ring=two) == "token-key"


def test_t40_the_same_signature_written_in_another_way_is_another_token():
    """The last character of 64 bytes holds four idle bits (RFC 4648 §3.5): only zeros are canonical."""
    good = key().token(claims())
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = good[:-1] + alphabet[alphabet.index(good[-1]) + 1]
    assert base64.urlsafe_b64decode(twin.split(".")[2] + "==") == base64.urlsafe_b64decode(good.split(".")[2] + "==")
    assert code_of(twin) == "token-form"


def test_t40_whatever_is_changed_in_a_token_it_is_refused():
    good = key().token(claims())
    assert code_of(good) == ""

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.integers(0, len(good) - 1), st.sampled_from("AQgwZ09_-.=+ é"))
    def changed(at: int, character: str) -> None:
        if good[at] != character:
            assert code_of(good[:at] + character + good[at + 1 :]).startswith("token-")

    changed()


@pytest.mark.parametrize(
    ("jwks", "code"),
    [
        (b'{"keys": []}', "jwks-empty"),
        (b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', "jwks-empty"),
        (b"{}", "json-shape"),
        (b'{"keys": [], "keys": []}', "json-duplicate-member"),
        (b"<html>", "json-syntax"),
    ],
)
def test_t40_a_key_document_without_a_good_public_key_is_refused(jwks, code):
    with pytest.raises(BadInput) as refused:
        read_keyring(jwks)
    assert refused.value.code == code


def test_t40_private_small_doubled_and_encryption_keys_do_not_count():
    small = LabKey(rsa.generate_private_key(public_exponent=65537, key_size=1024), kid="small", algorithm="RS256")
    for listed, code in (
        ([small.jwk], "jwks-empty"),
        ([key().jwk | {"use": "enc"}], "jwks-empty"),
        ([key().jwk | {"key_ops": ["encrypt"]}], "jwks-empty"),
        ([key().jwk | {"alg": "HS256"}], "jwks-empty"),
        ([key().jwk | {"crv": "secp256k1"}], "jwks-empty"),
        ([key().jwk | {"d": "AAAA"}, key("two").jwk], "jwks-private"),
        ([key().jwk, key("two").jwk | {"kid": "one"}], "jwks-duplicate"),
        ([key().jwk] * 65, "jwks-too-many"),
    ):
        with pytest.raises(BadInput) as refused:
            read_keyring(json.dumps({"keys": listed}).encode())
        assert refused.value.code == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"exp": AT - 61}, "token-expired"),
        ({"exp": AT - 60}, "token-expired"),
        ({"exp": AT - 59}, ""),
        ({"nbf": AT + 61}, "token-not-yet"),
        ({"nbf": AT + 60}, ""),
        ({"iat": AT + 61}, "token-from-the-future"),
        ({"iat": AT + 60}, ""),
        ({"iat": AT - 3600, "exp": AT + 1}, "token-lives-too-long"),
        ({"iss": "https://provider.example/realms/other"}, "token-issuer"),
        ({"iss": ISSUER.issuer + "/"}, "token-issuer"),
        ({"aud": "https://other.example"}, "token-audience"),
        ({"aud": ["https://other.example", "https://another.example"]}, "token-audience"),
        ({"aud": ["https://other.example", ISSUER.audience]}, ""),
        ({"aud": [ISSUER.audience, 7]}, "token-claims"),
        ({"aud": {"a": ISSUER.audience}}, "token-claims"),
        ({"aud": []}, "token-claim-missing"),
        ({"exp": str(AT + 100)}, "token-claims"),
        ({"exp": True}, "token-claims"),
        ({"nbf": "soon"}, "token-claims"),
        ({"sub": 7}, "token-claims"),
        ({"sub": "a\nb"}, "token-claims"),
        ({"sub": "x" * 257}, "token-claims"),
        *(({name: None}, "token-claim-missing") for name in ("iss", "aud", "exp", "iat", "sub")),
    ],
)
def test_t41_each_claim_is_there_right_and_of_now(changes, code):
    assert code_of(key().token(claims(**changes))) == code


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"{}", "token-claim-missing"),
        (b"[]", "token-claims"),
        (b"x", "token-claims"),
        (b'{"exp":1,"exp":9999999999}', "token-claims"),
    ],
)
def test_t41_a_payload_that_says_nothing_or_two_things_is_refused(payload, code):
    assert code_of(key().token(payload)) == code


def test_t41_a_token_above_8_kib_is_not_even_taken_apart():
    assert code_of(key().token(claims(padding="x" * 8192))) == "token-too-large"
    assert code_of(key().token(claims(padding="x" * 4000))) == ""


@pytest.mark.parametrize("text", ["", ".", "..", "a.b", "a.b.c.d", "a.b.c.d.e", "é.é.é", "a b.c.d", "{}", "QQ.QQ.QR"])
def test_t41_what_is_no_signed_jwt_is_refused(text):
    assert code_of(text) in {"token-form", "token-header"}


def test_ff42_five_minutes_of_skew_are_refused_and_said_and_one_is_not():
    """Clocks off by five minutes, either way: refused with the reason that leads to the clock; a minute passes."""
    expected = Expected(issuer=ISSUER.issuer, audience=ISSUER.audience, skew_s=600, life_s_max=3600)
    fresh = json.dumps(claims(iat=AT, nbf=AT, exp=AT + 60)).encode()
    assert read_claims(fresh, expected, now=NOW - timedelta(seconds=60)).issued_at == AT
    assert read_claims(fresh, expected, now=NOW + timedelta(seconds=119)).expires_at == AT + 60
    for off, code in ((-300, "token-not-yet"), (300, "token-expired")):
        with pytest.raises(Refused) as refused:
            read_claims(fresh, expected, now=NOW + timedelta(seconds=off))
        assert refused.value.code == code, "a skew above 60 s cannot even be configured around"


def test_t42_a_stolen_token_is_worth_nothing_with_another_certificate_or_without():
    token = key().token(claims())
    assert code_of(token, certificate=OTHER_CERTIFICATE) == "token-of-another"
    assert code_of(token, certificate=b"") == "token-no-certificate"


def test_t42_the_thumbprint_is_the_one_of_rfc_8705():
    """RFC 8705 appendix A: the certificate and the thumbprint it states."""
    certificate = base64.b64decode(
        "MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAxODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UE"
        "AwwEbXRsczBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ/Au08/coZwxS7LfA4vOLS9WuneIXh"
        "bGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwIDSQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOVbUlJSGQgjwD5vaU"
        "aKlLR50Q2DmFfQj1L+SY="
    )
    assert thumbprint(certificate) == "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"


@pytest.mark.parametrize(
    ("confirmation", "code"),
    [
        (None, "token-unbound"),
        ({}, "token-unbound"),
        ({"jkt": "abc"}, "token-unbound"),
        ({"x5t#S256": 7}, "token-unbound"),
        ({"x5t#S256": thumbprint(CERTIFICATE), "jkt": "abc"}, "token-unbound"),
        ({"x5t#S256": thumbprint(CERTIFICATE) + "="}, "token-of-another"),
        ({"x5t#S256": ""}, "token-of-another"),
        ("x5t", "token-unbound"),
    ],
)
def test_t42_a_confirmation_that_does_not_name_the_peer_is_refused(confirmation, code):
    assert code_of(key().token(claims(cnf=confirmation))) == code


def test_t42_a_bearer_token_needs_a_peer_and_its_issuers_word_and_a_binding_it_has_still_counts():
    bare = key().token(claims(cnf=None))
    assert judged(bare, issuer=BEARER).needs_introspection
    assert code_of(bare, issuer=BEARER, certificate=b"") == "token-no-certificate"
    assert code_of(key().token(claims()), issuer=BEARER, certificate=OTHER_CERTIFICATE) == "token-of-another"


@pytest.mark.parametrize(
    ("iua", "code"),
    [
        ({"subject_role": [{"code": "security-officer"}]}, "token-role"),
        ({"subject_role": []}, "token-role"),
        ({"subject_role": [{"system": "urn:other", "code": "doctor"}]}, "token-role"),
        ({"subject_role": "doctor"}, "token-claims"),
        ({"purpose_of_use": [{"code": "HRESCH"}]}, "token-purpose"),
        ({"purpose_of_use": [{"code": "BTG"}]}, "token-purpose"),
        ({"purpose_of_use": [{"code": "TREAT"}, {"code": "HRESCH"}]}, "token-purpose"),
        ({"purpose_of_use": []}, "token-purpose"),
        ({"subject_role": {"code": "gateway"}}, ""),
    ],
)
def test_t46_roles_and_purposes_come_from_our_table_and_never_from_the_token_alone(iua, code):
    good = claims()["extensions"]["ihe_iua"]
    assert code_of(key().token(claims(extensions={"ihe_iua": good | iua}))) == code


def test_t46_a_table_that_maps_to_an_accounts_role_gives_none():
    greedy = replace(ISSUER, roles={"doctor": Role.SECURITY_OFFICER}, role=Role.OPERATOR)
    assert code_of(key().token(claims()), issuer=greedy) == "token-role"
    assert (
        code_of(key().token(claims(extensions=None)), issuer=replace(greedy, purpose=Purpose.TREATMENT))
        == "token-role"
    )


def test_a_token_without_extensions_gets_what_its_issuer_is_configured_to_mean():
    plain = replace(ISSUER, role=Role.RADIOLOGIST, purpose=Purpose.TREATMENT)
    found = judged(key().token(claims(extensions=None)), issuer=plain)
    assert (found.subject.roles, found.purpose) == ({Role.RADIOLOGIST}, Purpose.TREATMENT)


def test_ff38_a_token_carries_its_scope_and_what_it_is_limited_to():
    narrow = replace(ISSUER, scopes=frozenset({"RAD-107"}))
    bppc = {"patient_id": "patient-of-a-test", "doc_id": "2.25.7"}
    good = claims(extensions=claims()["extensions"] | {"ihe_bppc": bppc})
    found = judged(key().token(good), issuer=narrow)
    assert (found.patient, found.document) == ("patient-of-a-test", "2.25.7")
    for scope in ("openid", "RAD-1071", "", None):
        assert code_of(key().token(claims(scope=scope)), issuer=narrow) == "token-scope"


def test_the_stated_issuer_only_chooses_whose_rules_judge():
    assert stated_issuer(key().token(claims())) == ISSUER.issuer
    for payload in (b"{}", b'{"iss": 7}', b'{"iss": ""}'):
        with pytest.raises(Refused) as refused:
            stated_issuer(key().token(payload))
        assert refused.value.code == "token-issuer"


def test_t44_an_answer_is_kept_at_most_a_minute_never_past_its_end_and_a_no_five_seconds():
    def kept(**members: object) -> tuple[bool, float]:
        said = read_answer(json.dumps(members).encode(), now=NOW, yes_s=600)
        return said.is_active, said.keep_s

    assert kept(active=True, exp=AT + 600) == (True, 60.0)
    assert kept(active=True, exp=AT + 7) == (True, 7.0)
    assert kept(active=True) == (True, 0.0)
    assert kept(active=True, exp=AT) == (False, 5.0)
    assert kept(active=False, exp=AT + 600) == (False, 5.0)


@pytest.mark.parametrize(
    "body", [b'{"active": "true"}', b'{"active": 1}', b"{}", b"[]", b"<html>", b'{"active":false,"active":true}']
)
def test_t44_an_answer_that_is_not_the_truth_value_is_no_answer(body):
    with pytest.raises(BadInput):
        read_answer(body, now=NOW)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"active": False}, "token-inactive"),
        ({"active": True}, ""),
        ({"active": True, "iss": "https://evil.example"}, "token-disagreed"),
        ({"active": True, "sub": "somebody-else"}, "token-disagreed"),
        ({"active": True, "aud": "https://other.example"}, "token-disagreed"),
        ({"active": True, "aud": ["https://other.example", ISSUER.audience]}, ""),
        ({"active": True, "cnf": {"x5t#S256": thumbprint(OTHER_CERTIFICATE)}}, "token-of-another"),
        ({"active": True, "cnf": {"x5t#S256": thumbprint(CERTIFICATE)}}, ""),
    ],
)
def test_t44_a_yes_about_another_token_is_no_yes(members, code):
    bearer = judged(key().token(claims(cnf=None)), issuer=BEARER)
    said = read_answer(json.dumps(members).encode(), now=NOW)
    if not code:
        agree(said, bearer, BEARER, CERTIFICATE)
        return
    with pytest.raises(Refused) as refused:
        agree(said, bearer, BEARER, CERTIFICATE)
    assert refused.value.code == code
