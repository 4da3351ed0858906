"""``poterne init``: what it asks, what it writes, what it leaves alone."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest

from gateway import init
from gateway.i18n import words
from gateway.settings import read
from security.errors import Refused
from tests.unit.configuration import write

GIVEN = {"name": "Clinique Fantôme", "institution_id": "990000001"}


class Person:
    """Answers by key, in the order asked; keeps what was said."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.said: list[str] = []
        self.asked: list[str] = []

    def ask(self, text: str, default: str, is_secret: bool) -> str:
        self.asked.append(text)
        return default

    def run(self, folder: Path, lang: str = "fr") -> int:
        return init.run(
            folder,
            words=words(lang),
            ask=self.ask,
            say=self.said.append,
            given=GIVEN | self.answers,
            probe=False,
        )


def test_the_defaults_make_a_usable_site_in_shadow_mode_with_its_own_index_node(tmp_path: Path):
    person = Person()

    assert person.run(tmp_path / "site") == 0

    reading = read(tmp_path / "site" / "poterne.toml", {})
    tenant = reading.settings.tenants["site"]
    assert tenant.mode == "shadow"
    assert tenant.pacs["principal"].kind == "orthanc"
    assert reading.settings.index_node is not None
    assert reading.settings.index_node.repository_unique_id == tenant.index.repository_unique_id
    assert reading.warnings == ()


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"kind": "dimse", "host": "pacs.fantome.example", "called_aet": "PACS"}, ("dimse", "pacs.fantome.example")),
        ({"kind": "dicomweb", "url": "https://pacs.fantome.example/dicom-web"}, ("dicomweb", None)),
    ],
)
def test_another_kind_of_pacs_takes_the_place_of_the_example(tmp_path: Path, answers: dict, expected: tuple):
    assert Person(**answers).run(tmp_path / "site") == 0

    pacs = read(tmp_path / "site" / "poterne.toml", {}).settings.tenants["site"].pacs
    assert list(pacs) == ["principal"]
    assert (pacs["principal"].kind, getattr(pacs["principal"], "host", None)) == expected


def test_another_index_is_written_with_its_certificates_and_no_node(tmp_path: Path):
    write(tmp_path)
    files = {"ca_file": "ca.pem", "certificate_file": "own.pem", "key_file": "own.key", "crl_file": "ca.crl"}
    person = Person(
        index="other",
        registry_url="https://index.fantome.example/registry",
        repository_url="https://index.fantome.example/repository",
        repository_unique_id="1.2.250.1.999.1",
        **{key: str(tmp_path / name) for key, name in files.items()},
    )

    assert person.run(tmp_path / "site") == 0

    settings = read(tmp_path / "site" / "poterne.toml", {}).settings
    assert settings.index_node is None
    assert settings.tenants["site"].index.registry_url == "https://index.fantome.example/registry"
    assert settings.tenants["site"].index.ca_file == tmp_path / "ca.pem"


def test_the_password_goes_into_its_own_file_and_nowhere_else(tmp_path: Path):
    person = Person(username="poterne", password="n0t-a-real-one")

    assert person.run(tmp_path / "site") == 0

    assert (tmp_path / "site" / "secrets" / "pacs-password").read_text() == "n0t-a-real-one"
    assert "n0t-a-real-one" not in (tmp_path / "site" / "poterne.toml").read_text() + "".join(person.said)


def test_t60_every_secret_and_folder_is_for_its_owner_alone(tmp_path: Path):
    Person().run(tmp_path / "site")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "site").rglob("*")}
    assert modes.pop("secrets") == 0o700
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "site").stat().st_mode) == 0o700


def test_two_sites_never_share_a_key_or_an_oid(tmp_path: Path):
    for name in ("one", "two"):
        Person().run(tmp_path / name)

    for file in ("kek", "index-kek"):
        assert (tmp_path / "one" / "secrets" / file).read_bytes() != (
            tmp_path / "two" / "secrets" / file
        ).read_bytes()
    sources = [
        tomllib.loads((tmp_path / name / "poterne.toml").read_text())["tenants"]["site"]["publisher"]["source_id"]
        for name in ("one", "two")
    ]
    assert sources[0] != sources[1]


def test_a_configuration_that_exists_is_never_overwritten(tmp_path: Path):
    (tmp_path / "poterne.toml").write_text("# mine")

    with pytest.raises(Refused, match="exists"):
        Person().run(tmp_path)

    assert (tmp_path / "poterne.toml").read_text() == "# mine"


def test_a_key_of_an_attempt_cut_short_is_kept(tmp_path: Path):
    (tmp_path / "secrets").mkdir(mode=0o700)
    (tmp_path / "secrets" / "kek").write_bytes(bytes(range(32)))
    (tmp_path / "secrets" / "kek").chmod(0o600)

    assert Person().run(tmp_path) == 0

    assert (tmp_path / "secrets" / "kek").read_bytes() == bytes(range(32))


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("tenant", "CHU Nord", "minuscules"),
        ("facility_type", "SA99", "SA01, SA07, SA08"),
        ("hl7_listen", "0.0.0.0:2575", "127.0.0.1"),
        ("url", "orthanc:8042", "http"),
        ("source_id", "not-an-oid", "OID"),
        ("name", "", "il faut une réponse"),
        ("kind", "ftp", "orthanc, dicomweb, dimse"),
        ("weather", "fine", "aucune question ne s’appelle weather"),
    ],
)
def test_ff47_a_wrong_answer_is_named_and_nothing_is_written(tmp_path: Path, key: str, answer: str, said: str):
    with pytest.raises(Refused) as refused:
        Person(**{key: answer}).run(tmp_path / "site")

    assert said in str(refused.value)
    assert not (tmp_path / "site").exists()


def test_a_wrong_answer_that_was_asked_for_is_asked_again(tmp_path: Path):
    person = Person()
    replies = iter(["0.0.0.0:99999", "127.0.0.1:2600"])
    plain = person.ask

    def ask(text: str, default: str, is_secret: bool) -> str:
        return next(replies) if "MLLP" in text else plain(text, default, is_secret)

    person.ask = ask
    assert person.run(tmp_path / "site") == 0

    assert read(tmp_path / "site" / "poterne.toml", {}).settings.tenants["site"].hl7.listen == "127.0.0.1:2600"
    assert len([line for line in person.said if "hôte:port sur cette machine" in line]) == 1


def test_the_file_stays_the_commented_example(tmp_path: Path):
    Person().run(tmp_path / "site")

    written = (tmp_path / "site" / "poterne.toml").read_text()
    example = Path("conf/poterne.toml").read_text()
    assert written.count("\n") == example.count("\n")
    assert [line for line in written.splitlines() if line.startswith("# ")][:12] == [
        line for line in example.splitlines() if line.startswith("# ")
    ][:12]
    assert "chu" not in tomllib.loads(written)["tenants"]


def test_questions_and_next_steps_are_said_in_both_languages(tmp_path: Path):
    french, english = Person(), Person()
    french.run(tmp_path / "fr", "fr")
    english.run(tmp_path / "en", "en")

    assert any("Nom court du site" in text for text in french.asked)
    assert any("Short name of the site" in text for text in english.asked)
    assert "Et maintenant" in "\n".join(french.said)
    assert "What to do next" in "\n".join(english.said)


def test_where_nobody_can_be_asked_every_lacking_answer_is_named_at_once_and_nothing_is_written(tmp_path: Path):
    with pytest.raises(Refused) as refused:
        init.run(tmp_path / "site", words=words("en"), ask=None, say=print, given={"ops_listen": "0.0.0.0:80"})

    assert [line.partition(":")[0] for line in refused.value.args[0].splitlines()] == [
        "name",
        "institution_id",
        "ops_listen",
    ]
    assert "--answer name=… --answer institution_id=… --answer ops_listen=…" in refused.value.hint
    assert not (tmp_path / "site").exists()


def test_the_node_of_the_site_listens_where_the_gateway_looks_for_it(tmp_path: Path):
    assert Person(index_listen="127.0.0.1:9481").run(tmp_path / "site") == 0

    settings = read(tmp_path / "site" / "poterne.toml", {}).settings
    assert settings.index_node is not None
    assert settings.index_node.listen == "127.0.0.1:9481"
    assert settings.tenants["site"].index.registry_url.startswith("http://127.0.0.1:9481/")


@pytest.mark.parametrize(("platform", "has_one"), [("yes", True), ("no", False)])
def test_only_a_test_platform_gets_the_test_patient_of_the_example(tmp_path: Path, platform: str, has_one: bool):
    assert Person(platform=platform).run(tmp_path / "site") == 0

    tenant = read(tmp_path / "site" / "poterne.toml", {}).settings.tenants["site"]
    assert (tenant.trial is not None) is has_one
    assert tenant.identity.test_identity == ("off" if has_one else "hold")


def test_an_address_that_no_other_site_can_reach_is_named_before_going_live(tmp_path: Path):
    here, there = (
        Person(retrieve_base="https://localhost/dicom-web"),
        Person(retrieve_base="https://fantome.example/"),
    )
    here.run(tmp_path / "here", "en")
    there.run(tmp_path / "there", "en")

    assert "correct retrieve_base" in here.said[-1]
    assert "correct retrieve_base" not in "\n".join(there.said)
