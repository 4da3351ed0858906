"""One usable configuration on disk, which the tests then break one key at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from security.keys.lab_pki import LabAuthority

TEXT = """\
[store]
path = "poterne.db"
kek_file = "kek"

[ops]
listen = "127.0.0.1:9090"

[tenants.fantome]
name = "Clinique Fantôme"
mode = "live"

[tenants.fantome.hl7]
listen = "127.0.0.1:2575"

[tenants.fantome.pacs.main]
kind = "orthanc"
url = "http://127.0.0.1:8042/"
username = "poterne"
password_file = "password"

[tenants.fantome.pacs.old-one]
kind = "dimse"
host = "127.0.0.1"
port = 11112
called_aet = "OLDPACS"
calling_aet = "POTERNE"

[tenants.fantome.index]
registry_url = "https://index.fantome.example/xds/registry"
repository_url = "https://index.fantome.example/xds/repository"
repository_unique_id = "1.2.250.1.999.1"
ca_file = "ca.pem"
certificate_file = "own.pem"
key_file = "own.key"

[tenants.fantome.index.revocation]
crl_file = "ca.crl"

[tenants.fantome.publisher]
device_id = "poterne-1"
institution_name = "Clinique Fantôme"
institution_id = "990000001"
source_id = "1.2.250.1.999.2"
facility_type = "SA01"
practice_setting = "AMBULATOIRE"

[tenants.fantome.images]
retrieve_base = "https://images.fantome.example/dicom-web/"

[index_node]
listen = "127.0.0.1:8081"
repository_unique_id = "1.2.250.1.999.3"

[index_node.store]
path = "node.db"
kek_file = "kek"
"""

SECRETS = {"kek": bytes(range(32)).hex(), "password": "not-a-real-password"}


@cache
def _pki() -> dict[str, str]:
    """A lab authority and one pair it issued, valid today; made once per run."""
    now = datetime.now(UTC)
    with TemporaryDirectory() as folder:
        authority = LabAuthority.create(Path(folder), now=now)
        pair = authority.issue("own", not_before=now - timedelta(hours=1), not_after=now + timedelta(days=1))
        return {
            "ca.pem": authority.certificate.read_text(),
            "ca.crl": authority.revocations.read_text(),
            "own.pem": pair.certificate.read_text(),
            "own.key": pair.key.read_text(),
        }


def write(folder: Path, text: str = TEXT) -> Path:
    """The configuration ``text`` in ``folder``, with the files it names; the path of the TOML file."""
    for name, content in (SECRETS | _pki()).items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    path = folder / "poterne.toml"
    path.write_text(text, encoding="utf-8")
    return path


def changed(old: str, new: str) -> str:
    """``TEXT`` with its one occurrence of ``old`` replaced."""
    assert TEXT.count(old) == 1, f"{old!r} stands {TEXT.count(old)} times in the text"
    return TEXT.replace(old, new)
