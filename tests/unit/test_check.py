"""FF-47: what is wrong with a configuration is said before it meets traffic, each mistake by file, key, reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway import check
from gateway.settings import Problem
from security.keys.lab_pki import LabAuthority
from tests.unit.configuration import changed, write

FANTOME = "tenants.fantome"
PATH = 'path = "poterne.db"\nkek_file = "kek"\n'
IMAGES = "[tenants.fantome.images]"
SERVER = 'host = "/run/postgresql"\ndatabase = "poterne"\nuser = "poterne"'
SAME = {"host": "/run/postgresql", "database": "poterne", "user": "other", "port": 5432}


def section(name: str, keys: dict[str, object]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def postgres(**keys: object) -> str:
    stated = {"host": "/run/postgresql", "database": "poterne", "user": "poterne"} | keys
    return 'kek_file = "kek"\n' + section("store.postgres", stated)


def mail(**keys: object) -> str:
    stated = {"host": "relay.fantome.example", "sender": "p@fantome.example", "recipients": ["a@fantome.example"]}
    return section("alerts.mail", stated | keys) + "[ops]"


def webhook(url: str) -> str:
    return section("alerts.webhook", {"url": url}) + "[ops]"


def trial(**keys: object) -> str:
    stated = {
        "matricule": "279035121518989",
        "ins_oid": "1.2.250.1.213.1.4.10",
        "birth_name": "FANTOME",
        "first_given_name": "DOMINIQUE",
        "sex": "F",
        "birth_date": "19790315",
    }
    return section("tenants.fantome.trial", stated | keys) + IMAGES


# One mistake each: the text that is right, the text that is wrong, the key to blame, words of the reason.
MISTAKES = [
    # keys
    ("[store]\n", "[storage]\n", ["storage", "store"], "unknown key"),
    ('path = "poterne.db"', 'pfad = "poterne.db"', ["store.path", "store.pfad"], "unknown key"),
    ('path = "poterne.db"', "", ["store.path"], "required and absent"),
    ('kek_file = "kek"\n\n[ops]', "[ops]", ["store.kek_file"], "required and absent"),
    ('listen = "127.0.0.1:9090"', 'Listen = "127.0.0.1:9090"', ["ops.Listen"], "unknown key"),
    ('name = "Clinique Fantôme"\nmode = "live"', 'mode = "live"', [f"{FANTOME}.name"], "required and absent"),
    ('mode = "live"', "", [f"{FANTOME}.mode"], "required and absent"),
    ('mode = "live"', 'mode = "test"', [f"{FANTOME}.mode"], "must be one of 'shadow' or 'live'"),
    ('kind = "orthanc"\n', "", [f"{FANTOME}.pacs.main.kind"], "required and absent"),
    (
        'kind = "dimse"',
        'kind = "qido"',
        [f"{FANTOME}.pacs.old-one.kind"],
        "must be one of 'orthanc', 'dicomweb', 'dimse'",
    ),
    ('device_id = "poterne-1"\n', "", [f"{FANTOME}.publisher.device_id"], "required and absent"),
    ('facility_type = "SA01"\n', "", [f"{FANTOME}.publisher.facility_type"], "required and absent"),
    ("[tenants.fantome.hl7]", "[tenants.fantome.mllp]", [f"{FANTOME}.mllp"], "unknown key"),
    ("[tenants.fantome.pacs.main]", "[tenants.fantome.pacs.Main]", [f"{FANTOME}.pacs.Main"], "usable name"),
    # types and ranges
    ("[ops]", "outbox = 3\n[ops]", ["store.outbox"], "unknown key"),
    ("[ops]", '[log]\nlevel = "loud"\n[ops]', ["log.level"], "must be one of 'debug', 'info', 'warning' or 'error'"),
    ("[ops]", '[outbox]\nslots = "8"\n[ops]', ["outbox.slots"], "whole number"),
    ("[ops]", "[outbox]\nslots = 8.5\n[ops]", ["outbox.slots"], "whole number"),
    ("[ops]", "[outbox]\nslots = true\n[ops]", ["outbox.slots"], "whole number"),
    ("[ops]", "[outbox]\nslots = 0\n[ops]", ["outbox.slots"], "at least 1"),
    ("[ops]", "[outbox]\nslots = 65\n[ops]", ["outbox.slots"], "at most 64"),
    ("[ops]", "[outbox]\nretry_cap_s = inf\n[ops]", ["outbox.retry_cap_s"], "finite"),
    ("[ops]", "[outbox]\nstop_grace_s = -1\n[ops]", ["outbox.stop_grace_s"], "above 0"),
    ("[ops]", '[outbox]\nvisibility_s = "10 min"\n[ops]', ["outbox.visibility_s"], "must be a number"),
    ("port = 11112", "port = 70000", [f"{FANTOME}.pacs.old-one.port"], "at most 65535"),
    ('path = "poterne.db"', "path = 3", ["store.path"], "path in quotes"),
    ('path = "poterne.db"', 'path = ""', ["store.path"], "required and absent"),
    (
        'institution_id = "990000001"',
        "institution_id = 990000001",
        [f"{FANTOME}.publisher.institution_id"],
        "in quotes",
    ),
    ('device_id = "poterne-1"', 'device_id = ""', [f"{FANTOME}.publisher.device_id"], "not be empty"),
    # syntax of values
    ("127.0.0.1:9090", "9090", ["ops.listen"], "not an address and a port"),
    ("127.0.0.1:9090", "localhost:9090", ["ops.listen"], "not an address and a port"),
    ("127.0.0.1:9090", "0.0.0.0:9090", ["ops.listen"], "is no single address"),
    ('listen = "127.0.0.1:8081"', 'listen = ""', ["index_node.listen"], "not be empty"),
    ('mode = "live"', 'mode = "live"\ntimezone = "Paris"', [f"{FANTOME}.timezone"], "time zone"),
    ('mode = "live"', 'mode = "live"\nprofile = "xds"', [f"{FANTOME}.profile"], "one of 'drim-m'"),
    (
        'listen = "127.0.0.1:2575"',
        'fallback_charset = "cp1253x"',
        [f"{FANTOME}.hl7.fallback_charset"],
        "character set",
    ),
    ("http://127.0.0.1:8042/", "127.0.0.1:8042", [f"{FANTOME}.pacs.main.url"], "http or https"),
    ("http://127.0.0.1:8042/", "http://a:b@127.0.0.1:8042", [f"{FANTOME}.pacs.main.url"], "user name or password"),
    (
        "https://index.fantome.example/xds/registry",
        "ftp://index.fantome.example",
        [f"{FANTOME}.index.registry_url"],
        "http or",
    ),
    (
        "https://index.fantome.example/xds/registry",
        "http://index.fantome.example",
        [f"{FANTOME}.index.registry_url"],
        "clear",
    ),
    ("dicom-web/", "dicom-web/studies", [f"{FANTOME}.images.retrieve_base"], "ends in /studies"),
    ('"1.2.250.1.999.1"', '"1.2.250.01"', [f"{FANTOME}.index.repository_unique_id"], "not an OID"),
    ('"1.2.250.1.999.2"', '"urn:oid:1.2"', [f"{FANTOME}.publisher.source_id"], "not an OID"),
    ('called_aet = "OLDPACS"', 'called_aet = "OLD\\\\PACS"', [f"{FANTOME}.pacs.old-one.called_aet"], "AE title"),
    ("OLDPACS", "A_TITLE_OF_17_CHA", [f"{FANTOME}.pacs.old-one.called_aet"], "at most 16 characters"),
    ('device_id = "poterne-1"', 'device_id = "a^b"', [f"{FANTOME}.publisher.device_id"], "HL7 or XDS would misread"),
    ('"SA01"', '"SA09"', [f"{FANTOME}.publisher.facility_type"], "not in the code table 1.2.250.1.71.4.2.4"),
    ('"AMBULATOIRE"', '"AMBULATORE"', [f"{FANTOME}.publisher.practice_setting"], "not in the code table"),
    # keys and files that must agree
    ('password_file = "password"\n', "", [f"{FANTOME}.pacs.main.password_file"], "needs it is set"),
    ('key_file = "own.key"\n', "", [f"{FANTOME}.index.key_file"], "needs it is set"),
    ("[ops]", "[outbox]\nretry_base_s = 1000\n[ops]", ["outbox.retry_base_s"], "above retry_cap_s (900)"),
    (
        "[ops]",
        "[outbox]\nlease_s = 100\n[ops]",
        [f"{FANTOME}.pacs.main", f"{FANTOME}.pacs.old-one"],
        "outbox.lease_s (100)",
    ),
    ("127.0.0.1:9090", "127.0.0.1:2575", [f"{FANTOME}.hl7.listen"], "taken by ops.listen"),
    ('path = "node.db"', 'path = "poterne.db"', ["index_node.store.path"], "taken by store.path"),
    ('path = "poterne.db"', 'path = "absent/poterne.db"', ["store.path"], "not a folder"),
    ('password_file = "password"', 'password_file = "absent"', [f"{FANTOME}.pacs.main.password_file"], "absent"),
    ('ca_file = "ca.pem"', 'ca_file = "absent.pem"', [f"{FANTOME}.index.ca_file"], "cannot be read: No such file"),
    ('ca_file = "ca.pem"', 'ca_file = "own.key"', [f"{FANTOME}.index.ca_file"], "no PEM certificate"),
    ('kek_file = "kek"\n\n[ops]', 'kek_file = "password"\n\n[ops]', ["store.kek_file"], "password"),
    # a database server, alerts, the trial patient
    (PATH, f"{PATH}[store.postgres]\n{SERVER}\n", ["store.postgres"], "is set beside path"),
    (PATH, postgres(host="db.fantome.example"), ["store.postgres.ca_file"], "on another machine"),
    (PATH, postgres(port=0), ["store.postgres.port"], "at least 1"),
    (PATH, postgres(certificate_file="own.pem"), ["store.postgres.key_file"], "needs it is set"),
    ("[ops]", mail(security="none"), ["alerts.mail.security"], "on another machine"),
    ("[ops]", mail(sender="poterne"), ["alerts.mail.sender"], "not an e-mail address"),
    ("[ops]", mail(sender="a@b.example\n"), ["alerts.mail.sender"], "not an e-mail address"),
    ("[ops]", mail(recipients=[]), ["alerts.mail.recipients"], "at least one entry"),
    ("[ops]", mail(recipients="a@b.example"), ["alerts.mail.recipients"], "a list in brackets"),
    ("[ops]", mail(recipients=["a@b.example", "nobody"]), ["alerts.mail.recipients"], "entry 2 is not an e-mail"),
    ("[ops]", mail(recipients=["a@b.example", 3]), ["alerts.mail.recipients"], "entry 2 must be text in quotes"),
    ("[ops]", mail(username="poterne"), ["alerts.mail.password_file"], "needs it is set"),
    ("[ops]", webhook("http://alerts.fantome.example/"), ["alerts.webhook.url"], "in clear"),
    ("[ops]", '[alerts]\nconsole_url = "console"\n[ops]', ["alerts.console_url"], "http or https"),
    ("[ops]", "[alerts]\nremind_s = 10\n[ops]", ["alerts.remind_s"], "above remind_s"),
    ("[ops]", "[disk]\nlow_bytes = 1\n[ops]", ["disk.low_bytes"], "above low_bytes"),
    (IMAGES, trial(matricule="279035121518980"), [f"{FANTOME}.trial.matricule"], "not a matricule with its key"),
    (IMAGES, trial(ins_oid="1.2.250.1.213.1.4.8"), [f"{FANTOME}.trial.ins_oid"], "authority of real people"),
    (IMAGES, trial(ins_oid="1.2.250.1.999"), [f"{FANTOME}.trial.ins_oid"], "not the OID of an INS authority"),
    (IMAGES, trial(birth_date="15/03/1979"), [f"{FANTOME}.trial.birth_date"], "not the form it must have"),
    # the file itself
    ("[store]\n", "[store\n", [""], "is not TOML"),
    ("[ops]", "[store]\n[ops]", [""], "is not TOML"),
]


@pytest.mark.parametrize(("right", "wrong", "keys", "reason"), MISTAKES, ids=lambda value: str(value)[:40])
def test_ff47_a_mistake_in_the_file_is_named_by_file_key_and_reason(tmp_path, right, wrong, keys, reason):
    path = write(tmp_path, changed(right, wrong))

    found = check.findings(path, {}).problems

    blamed = [problem for problem in found if problem.key.startswith(tuple(keys)) and reason in problem.reason]
    assert blamed, found
    assert {problem.file for problem in found} == {str(path)}
    assert all(problem.hint for problem in found)
    if keys != [""]:
        assert all(problem.key.startswith(tuple(keys)) for problem in found), found


def test_ff47_two_stores_in_one_database_of_a_server_are_named(tmp_path):
    text = changed(PATH, postgres()).replace('path = "node.db"\n', "") + section("index_node.store.postgres", SAME)

    (problem,) = check.findings(write(tmp_path, text), {}).problems

    assert (problem.key, problem.reason) == ("index_node.store.postgres.database", "is taken by store.postgres")


@pytest.mark.parametrize(
    ("right", "usable"),
    [
        (PATH, postgres()),
        (PATH, postgres(host="db.fantome.example", ca_file="ca.pem")),
        ("[ops]", mail()),
        ("[ops]", mail(host="127.0.0.1", security="none")),
        ("[ops]", webhook("https://alerts.fantome.example/")),
        ("[ops]", webhook("http://127.0.0.1:1/")),
        (IMAGES, trial()),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_usable_beside_a_mistake_is_usable(tmp_path, right, usable):
    assert check.findings(write(tmp_path, changed(right, usable)), {}).problems == ()


def test_ff47_there_are_at_least_forty_of_them():
    assert len(MISTAKES) >= 40


VARIABLES = [
    ("POTERNE_OPS__LISTN", "127.0.0.1:1", "ops.listn", "unknown key"),
    ("POTERNE_OPS__LISTEN", "*:9090", "ops.listen", "not an address and a port"),
    ("POTERNE_OUTBOX__SLOTS", "many", "outbox.slots", "whole number"),
    ("POTERNE_OUTBOX__SLOTS", "99", "outbox.slots", "at most 64"),
    ("POTERNE_TENANTS__FANTOME__PACS__OLD_ONE__PORT", "0", "tenants.fantome.pacs.old-one.port", "at least 1"),
    ("POTERNE_STORE__KEK_FILE", "/nowhere/kek", "store.kek_file", "/nowhere/kek"),
    ("POTERNE_OUTBOX_SLOTS", "4", "", "lacks the two underscores"),
    ("POTERNE_OUTBOX", "{}", "", "lacks the two underscores"),
    ("POTERNE_OUTBOX__", "4", "", "is not a key"),
]


@pytest.mark.parametrize(("variable", "value", "key", "reason"), VARIABLES)
def test_ff47_a_mistake_in_the_environment_is_named_by_its_variable(tmp_path, variable, value, key, reason):
    (problem,) = check.findings(write(tmp_path), {variable: value}).problems

    assert (problem.file, problem.key) == (variable, key)
    assert reason in problem.reason


def test_ff47_a_mistake_in_a_drop_in_file_is_named_by_that_file(tmp_path):
    (tmp_path / "conf.d").mkdir()
    drop_in = tmp_path / "conf.d" / "night.toml"
    drop_in.write_text("[outbox]\nslot = 2\n")

    (problem,) = check.findings(write(tmp_path), {}).problems

    assert problem == Problem(file=str(drop_in), key="outbox.slot", reason="unknown key", hint="did you mean slots?")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read: No such file"), (b'[store]\npath = "\xe9"\n', "is not UTF-8 (byte 16)")],
)
def test_ff47_a_file_that_cannot_be_read_is_named(tmp_path, content, reason):
    path = tmp_path / "poterne.toml"
    if content is not None:
        path.write_bytes(content)

    (problem,) = check.findings(path, {}).problems

    assert (problem.file, problem.key) == (str(path), "")
    assert reason in problem.reason


def test_ff47_an_unknown_code_is_answered_with_the_nearest_one(tmp_path):
    (problem,) = check.findings(write(tmp_path, changed('"AMBULATOIRE"', '"Ambulatoire"')), {}).problems

    assert problem.hint.startswith("did you mean 'AMBULATOIRE'?")


def test_without_a_configuration_one_line_says_so(capsys):
    assert check.report(None, {"PATH": "/bin", "POTERNE_CORPUS": "/nowhere"}) == 2
    assert capsys.readouterr().out == "no configuration: give --conf FILE\nconfiguration: 1 problem\n"


def test_a_usable_configuration_has_no_problem(tmp_path, capsys):
    assert check.report(write(tmp_path), {}) == 0
    assert capsys.readouterr().out == "configuration: no problem found\n"


def test_the_report_for_people_has_one_line_per_problem(tmp_path, capsys):
    path = write(tmp_path, changed("[ops]", "[outbox]\nslots = 0\nslotz = 1\n[ops]"))

    assert check.report(path, {}) == 2
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: outbox.slots: must be at least 1 → Jobs in hand at once.",
        f"{path}: outbox.slotz: unknown key → did you mean slots?",
        "configuration: 2 problems",
    ]


def test_the_report_for_programs_is_json(tmp_path, capsys):
    path = write(tmp_path, changed("[ops]", "[outbox]\nslots = 0\n[ops]"))

    assert check.report(path, {}, as_json=True) == 2
    assert json.loads(capsys.readouterr().out) == {
        "usable": False,
        "problems": [
            {
                "file": str(path),
                "key": "outbox.slots",
                "reason": "must be at least 1",
                "hint": "Jobs in hand at once.",
            }
        ],
        "warnings": [],
    }


def test_a_tenant_without_a_listener_is_warned_that_no_report_can_arrive(tmp_path, capsys):
    path = write(tmp_path, changed('listen = "127.0.0.1:2575"', ""))

    assert check.report(path, {}) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"warning: {path}: tenants.fantome.hl7.listen: no report can arrive → name the address the RIS sends to",
        "configuration: no problem found, 1 warning",
    ]


def test_a_value_left_as_the_example_shows_it_is_warned_of(tmp_path, capsys):
    path = write(tmp_path, changed('"990000001"', '"000000000"'))

    assert check.report(path, {}, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {
        "usable": True,
        "problems": [],
        "warnings": [
            {
                "file": str(path),
                "key": "tenants.fantome.publisher.institution_id",
                "reason": "is still the example's value",
                "hint": "write the site's own",
            }
        ],
    }


def test_the_example_file_is_warned_of_everything_a_site_must_write_itself(tmp_path):
    example = Path(__file__).resolve().parents[2] / "conf" / "poterne.toml"
    text = example.read_text(encoding="utf-8").replace("secrets/kek", "kek")

    found = check.findings(write(tmp_path, text), {})

    assert found.problems == ()
    assert [warning.key.removeprefix("tenants.chu.") for warning in found.warnings] == [
        "hl7.listen",
        "images.retrieve_base",
        "index.repository_unique_id",
        "name",
        "publisher.institution_id",
        "publisher.institution_name",
        "publisher.source_id",
    ]


def test_checking_changes_nothing_on_disk(tmp_path):
    path = write(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}

    check.findings(path, {})

    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert not Path(tmp_path / "poterne.db").exists()


def test_ff47_a_certificate_with_the_key_of_another_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    now = datetime.now(UTC)
    stranger = LabAuthority.create(tmp_path / "other", now=now).issue(
        "own", not_before=now - timedelta(hours=1), not_after=now + timedelta(days=1)
    )
    (tmp_path / "own.key").write_bytes(stranger.key.read_bytes())

    [problem] = check.findings(path, {}).problems

    assert problem.key == "tenants.fantome.index.key_file"
    assert "is not the key of the certificate" in problem.reason


def test_ff47_an_expired_certificate_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    now = datetime.now(UTC)
    old = LabAuthority.create(tmp_path / "other", now=now).issue(
        "own", not_before=now - timedelta(days=2), not_after=now - timedelta(days=1)
    )
    (tmp_path / "own.key").write_bytes(old.key.read_bytes())
    (tmp_path / "own.pem").write_bytes(old.certificate.read_bytes())

    [problem] = check.findings(path, {}).problems

    assert "expired at" in problem.reason
    assert problem.hint == "install the renewed certificate and its key"


def test_f14_an_expired_certificate_that_signs_is_named(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    old = LabAuthority.create(tmp_path / "sign", now=now).issue(
        "sign", not_before=now - timedelta(days=3), not_after=now - timedelta(days=1)
    )
    signing = f'sign_certificate_file = "{old.certificate}"\nsign_key_file = "{old.key}"\nca_file ='
    path = write(tmp_path, changed("ca_file =", signing))

    [problem] = check.findings(path, {}).problems

    assert problem.key == "tenants.fantome.index.sign_key_file"
    assert "expired" in problem.reason


def test_ff47_an_assertion_that_nothing_signs_is_named(tmp_path: Path) -> None:
    vihf = section("tenants.fantome.index.vihf", {"lps_id": "0123456789"})
    path = write(tmp_path, changed("[tenants.fantome.publisher]", f"{vihf}\n[tenants.fantome.publisher]"))

    [problem] = check.findings(path, {}).problems

    assert problem.key == "tenants.fantome.index.sign_certificate_file"


def test_a_console_whose_certificate_and_key_do_not_belong_together_is_named(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    other = LabAuthority.create(tmp_path / "other", now=now).issue(
        "other", not_before=now - timedelta(days=1), not_after=now + timedelta(days=1)
    )
    tls = f'listen = "127.0.0.1:9090"\ncertificate_file = "own.pem"\nkey_file = "{other.key}"'

    [problem] = check.findings(write(tmp_path, changed('listen = "127.0.0.1:9090"', tls)), {}).problems

    assert problem.key == "ops.key_file"
