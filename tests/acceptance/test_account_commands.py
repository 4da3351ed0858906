"""``poterne accounts`` as the person who installs it types it: JSON, exit codes, both languages, codes shown once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from security.clock import SystemClock
from security.keys.authority import Authority
from security.keys.lab_pki import LabAuthority
from tests.acceptance.test_commands import ANSWERS, poterne

CODE = re.compile(r"\b(?:[A-HJ-NP-Z2-9]{4}-){4}[A-HJ-NP-Z2-9]{4}\b")


@pytest.fixture
def conf(tmp_path: Path) -> str:
    site = tmp_path / "site"
    assert poterne("init", str(site), *ANSWERS).returncode == 0
    return str(site / "poterne.toml")


def test_the_first_account_comes_by_a_code_that_is_printed_once_and_lies_nowhere(conf: str, tmp_path: Path):
    empty = poterne("accounts", "list", "--conf", conf, lang="fr")
    assert (empty.returncode, "poterne accounts bootstrap" in empty.stdout) == (0, True)
    told = poterne("accounts", "bootstrap", "--conf", conf, lang="fr")
    assert told.returncode == 0
    (code,) = CODE.findall(told.stdout)
    assert "/console/enrol" in told.stdout
    held = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert code.encode() not in held
    assert poterne("accounts", "list", "--conf", conf, "--json").stdout == "[]\n"


def test_accounts_are_added_changed_locked_and_listed(conf: str):
    made = poterne(
        "accounts", "add", "Jeanne.Martin", "--person", "Jeanne Martin", "--role", "operator", "--role",
        "identity-officer", "--conf", conf, "--json",
    )  # fmt: skip
    assert made.returncode == 0
    assert json.loads(made.stdout)["account"] == "jeanne.martin"
    assert CODE.search(made.stdout)
    changed = poterne("accounts", "roles", "jeanne.martin", "--role", "operator", "--conf", conf, "--json")
    assert json.loads(changed.stdout)["roles"] == ["operator"]
    assert poterne("accounts", "lock", "jeanne.martin", "--conf", conf).returncode == 0
    (listed,) = json.loads(poterne("accounts", "list", "--conf", conf, "--json").stdout)
    assert (listed["name"], listed["status"], listed["has_password"]) == ("jeanne.martin", "locked", False)
    assert "locked" in poterne("accounts", "list", "--conf", conf).stdout
    assert json.loads(poterne("accounts", "unlock", "jeanne.martin", "--conf", conf, "--json").stdout)["status"] == (
        "invited"
    )
    assert CODE.search(poterne("accounts", "reset", "jeanne.martin", "--conf", conf).stdout)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("add", "x", "--person", "Jeanne Martin", "--role", "operator"), "account-name"),
        (("add", "jeanne", "--person", "Jeanne Martin", "--role", "administrator"), "account-roles"),
        (("add", "lea", "--person", "Léa Petit", "--role", "auditor"), "account-profession"),
        (("add", "lea", "--person", "Léa Petit", "--role", "operator", "--tenant", "x"), "unknown-tenant"),
        (("lock", "nobody"), "unknown-account"),
        (("revoke", "nobody"), "unknown-account"),
    ],
)
def test_what_cannot_be_done_is_said_and_ends_with_2(conf: str, words: tuple[str, ...], code: str):
    told = poterne("accounts", *words, "--conf", conf, lang="fr")
    assert (told.returncode, f"[{code}]" in told.stderr) == (2, True)


def test_an_auditor_is_bound_to_a_certificate_and_it_is_taken_away(conf: str, tmp_path: Path):
    poterne(
        "accounts", "add", "lea.petit", "--person", "Léa Petit", "--role", "auditor", "--profession", "radiologist",
        "--conf", conf,
    )  # fmt: skip
    now = SystemClock().now()
    pair = LabAuthority.create(tmp_path / "pki", now=now).issue("lea", not_before=now, not_after=now.replace(2050))
    bound = poterne(
        "accounts", "enrol", "lea.petit", "--certificate", str(pair.certificate), "--conf", conf, "--json"
    )
    assert (bound.returncode, json.loads(bound.stdout)["status"]) == (0, "active")
    assert json.loads(poterne("accounts", "revoke", "lea.petit", "--conf", conf, "--json").stdout) == {"revoked": 1}
    again = poterne("accounts", "enrol", "lea.petit", "--certificate", str(pair.certificate), "--conf", conf)
    assert (again.returncode, "[certificate-taken]" in again.stderr) == (2, True)


def test_without_an_authority_a_request_is_not_certified_and_says_why(conf: str, tmp_path: Path):
    poterne("accounts", "add", "lea.petit", "--person", "Léa Petit", "--role", "operator", "--conf", conf)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lea Petit")])
    asked = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
    file = tmp_path / "lea.csr"
    file.write_bytes(asked.public_bytes(Encoding.PEM))
    told = poterne("accounts", "enrol", "lea.petit", "--request", str(file), "--conf", conf)
    assert (told.returncode, "[no-issuer]" in told.stderr) == (2, True)


def test_the_authority_of_the_site_certifies_a_request_and_lists_what_is_lost(conf: str, tmp_path: Path):
    folder, now = tmp_path / "people", SystemClock().now()
    Authority.create(folder, now=now, name="Site", organization="Centre FANTÔME")
    text = Path(conf).read_text()
    Path(conf).write_text(text.replace("[certificates]", f'[certificates]\npeople_authority = "{folder}"', 1))
    poterne("accounts", "add", "lea.petit", "--person", "Léa Petit", "--role", "operator", "--conf", conf)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lea Petit")])
    asked = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
    (tmp_path / "lea.csr").write_bytes(asked.public_bytes(Encoding.PEM))
    out = tmp_path / "lea.pem"
    made = poterne(
        "accounts", "enrol", "lea.petit", "--request", str(tmp_path / "lea.csr"), "--out", str(out), "--conf", conf
    )
    assert made.returncode == 0, made.stderr
    shown = x509.load_pem_x509_certificate(out.read_bytes())
    assert shown.public_key() == key.public_key()
    assert poterne("accounts", "revoke", "lea.petit", "--conf", conf).returncode == 0
    listed = x509.load_pem_x509_crl((folder / "ca.crl").read_bytes())
    assert listed.get_revoked_certificate_by_serial_number(shown.serial_number) is not None


def test_an_account_is_linked_to_whom_it_is_at_an_identity_provider_and_unlinked(conf: str, tmp_path: Path):
    pki, now = tmp_path / "pki", SystemClock().now()
    pair = LabAuthority.create(pki, now=now).issue("localhost", not_before=now, not_after=now.replace(2050))
    text = Path(conf).read_text()
    listen = re.search(r"\[ops\]\n(?:.*\n)*?listen = .*\n", text)
    assert listen
    tls = f'names = ["console.example"]\ncertificate_file = "{pair.certificate}"\nkey_file = "{pair.key}"\n'
    Path(conf).write_text(
        text.replace(listen[0], listen[0] + tls, 1)
        + f"""
[identity_providers.psc]
issuer = "https://identity.example/realms/care"
jwks_url = "https://identity.example/keys"
algorithms = ["PS256"]
client_id = "poterne"
ca_file = "{pair.certificate}"
certificate_file = "{pair.certificate}"
key_file = "{pair.key}"
authorization_url = "https://identity.example/authorize"
token_url = "https://identity.example/token"
redirect_uri = "https://console.example/console/login/psc/back"

[identity_providers.psc.revocation]
crl_urls = ["http://identity.example/ca.crl"]
"""
    )
    for name in ("lea.petit", "paul.roy"):
        made = poterne("accounts", "add", name, "--person", "Léa Petit", "--role", "operator", "--conf", conf)
        assert made.returncode == 0, made.stderr
    psc = ("--provider", "psc", "--subject", "899700000001", "--conf", conf)
    told = poterne("accounts", "link", "lea.petit", *psc, lang="fr")
    assert (told.returncode, "899700000001" in told.stdout) == (0, True), told.stderr
    listed = {one["name"]: one for one in json.loads(poterne("accounts", "list", "--conf", conf, "--json").stdout)}
    assert listed["lea.petit"]["status"] == "active"
    assert listed["lea.petit"]["federated"] == "https://identity.example/realms/care|899700000001"
    assert "fournisseur d’identité" in poterne("accounts", "list", "--conf", conf, lang="fr").stdout
    for words, code in (
        (("link", "paul.roy", *psc), "identity-taken"),
        (("link", "nobody", *psc), "unknown-account"),
        (("link", "paul.roy", "--provider", "other", "--subject", "1", "--conf", conf), "unknown-provider"),
        (("link", "paul.roy", "--provider", "psc", "--subject", "x\ny", "--conf", conf), "account-subject"),
    ):
        refused = poterne("accounts", *words)
        assert (refused.returncode, f"[{code}]" in refused.stderr) == (2, True), refused.stderr
    gone = poterne("accounts", "unlink", "lea.petit", "--conf", conf, "--json")
    assert (json.loads(gone.stdout)["status"], json.loads(gone.stdout)["federated"]) == ("invited", "")
