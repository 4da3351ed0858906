"""What a site may say of an identity provider, and what is said when it is wrong."""

from __future__ import annotations

import pytest

from gateway.alerts.certificates import certificate_files
from gateway.certificates.links import links
from gateway.flows import flows
from gateway.settings import ConfigurationError, load
from tests.unit.configuration import TEXT as PLAIN
from tests.unit.configuration import write

TEXT = PLAIN.replace(
    'listen = "127.0.0.1:9090"\n',
    'listen = "127.0.0.1:9090"\nnames = ["console.example"]\ncertificate_file = "cert.pem"\nkey_file = "key.pem"\n',
)

PSC = """
[identity_providers.psc]
issuer = "https://identity.example/realms/care"
jwks_url = "https://identity.example/keys"
algorithms = ["PS256"]
client_id = "poterne"
ca_file = "ca.pem"
certificate_file = "cert.pem"
key_file = "key.pem"
audience = "https://images.example"
tenant = "fantome"
authorization_url = "https://identity.example/authorize"
token_url = "https://identity.example/token"
redirect_uri = "https://console.example/console/login/psc/back"

[identity_providers.psc.revocation]
crl_urls = ["http://identity.example/ca.crl"]
"""
OTHER = PSC.replace("psc", "other")


def problems(folder, text: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigurationError) as error:
        load(write(folder, TEXT + text), {})
    return [(problem.key, problem.reason) for problem in error.value.problems]


@pytest.fixture
def folder(tmp_path):
    for name in ("ca.pem", "cert.pem"):
        (tmp_path / name).write_text("-----BEGIN CERTIFICATE-----")
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----")
    (tmp_path / "key.pem").chmod(0o600)
    return tmp_path


def test_a_provider_is_one_of_the_tls_links(folder):
    settings = load(write(folder, TEXT + PSC), {})
    link = links(settings)["identity_providers.psc"]
    assert (link.side, link.host, link.port, link.pair.kind) == (
        "client",
        "identity.example",
        443,
        "identity-provider",
    )


def test_its_certificate_is_watched_beside_tables_that_hold_no_section(folder):
    settings = load(
        write(folder, TEXT + PSC.replace("tenant =", 'roles = { "urn:roles|doctor" = "radiologist" }\ntenant =')), {}
    )
    assert ("identity_providers.psc.certificate_file", folder / "cert.pem") in certificate_files(settings)


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        ('["PS256"]', '["HS256"]', "algorithms", "must be one of"),
        ('["PS256"]', '["none"]', "algorithms", "must be one of"),
        ('["PS256"]', "[]", "algorithms", "at least one"),
        ('"https://identity.example/keys"', '"http://identity.example/keys"', "jwks_url", "in clear"),
        ("client_id", "skew_s = 61\nclient_id", "skew_s", "at most 60"),
        ("client_id", "introspection_cache_s = 61.0\nclient_id", "introspection_cache_s", "at most 60"),
        ("client_id", 'binding = "introspection"\nclient_id', "introspection_url", "bearer tokens"),
        ("client_id", 'binding = "none"\nclient_id', "binding", "must be one of"),
        ("client_id", 'role = "security-officer"\nclient_id', "role", "must be one of"),
        ("client_id", 'roles = { x = "operator" }\nclient_id', "roles.x", "must be one of"),
        ("client_id", 'login_scopes = ["profile"]\nclient_id', "login_scopes", "openid"),
        ('tenant = "fantome"', 'tenant = "nobody"', "tenant", "no legal entity"),
        ('token_url = "https://identity.example/token"\n', "", "token_url", "is absent"),
        ('crl_urls = ["http://identity.example/ca.crl"]', "", "revocation", "which certificates were revoked"),
        ('certificate_file = "cert.pem"\n', "", "certificate_file", "required"),
        ("console.example/console", "another.example/console", "redirect_uri", "no address of this console"),
        ("/login/psc/back", "/login/other/back", "redirect_uri", "no address of this console"),
        ("/login/psc/back", "/login/psc/back?x=1", "redirect_uri", "no address of this console"),
        ("client_id", 'answer_iss = "never"\nclient_id', "answer_iss", "must be one of"),
    ],
)
def test_ff44_what_would_open_a_provider_too_far_is_refused_by_its_key(folder, old, new, key, reason):
    found = problems(folder, PSC.replace(old, new, 1))
    assert any(where == f"identity_providers.psc.{key}" and reason in why for where, why in found), found


def test_t43_two_providers_share_neither_issuer_nor_redirect_address(folder):
    assert problems(folder, PSC + OTHER.replace("/login/other/", "/login/psc/")) == [
        ("identity_providers.other.issuer", "is that of identity_providers.psc.issuer"),
        ("identity_providers.other.redirect_uri", "is that of identity_providers.psc.redirect_uri"),
        ("identity_providers.other.redirect_uri", "is no address of this console"),
    ]


def test_nobody_is_sent_away_from_a_console_without_tls(folder):
    with pytest.raises(ConfigurationError) as error:
        load(write(folder, PLAIN.replace('9090"\n', '9090"\nnames = ["console.example"]\n') + PSC), {})
    assert [(one.key, one.hint) for one in error.value.problems] == [
        ("identity_providers.psc.authorization_url", "name [ops] certificate_file and key_file")
    ]


def test_a_provider_good_for_nothing_is_said_to_be(folder):
    idle = PSC.replace('audience = "https://images.example"\n', "").replace(
        'authorization_url = "https://identity.example/authorize"\n', ""
    )
    assert [key for key, _ in problems(folder, idle)] == ["identity_providers.psc.audience"]


def test_a_provider_is_in_the_flow_matrix_once_for_each_place(folder):
    settings = load(
        write(folder, TEXT + PSC.replace("identity.example/token", "back.identity.example:8443/token")), {}
    )
    found = [
        (flow.to, flow.port, flow.authentication) for flow in flows(settings) if "identity_providers" in flow.key
    ]
    assert found == [
        ("back.identity.example", 8443, "client certificate"),
        ("identity.example", 443, "client certificate"),
    ]
