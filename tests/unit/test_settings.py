"""What the loader makes of files and environment."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.settings import (
    ConfigurationError,
    IdentityRules,
    IndexXds,
    PacsDimse,
    PacsOrthanc,
    Problem,
    Settings,
    address,
    load,
    read,
    schema_text,
)
from indexer.gate import Rules
from security.errors import Broken
from tests.unit.configuration import TEXT, changed, write

CONF = Path(__file__).resolve().parents[2] / "conf"


def problems(path: Path | None, environ: dict[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ or {})
    return caught.value.problems


def test_a_usable_configuration_becomes_frozen_settings(tmp_path):
    settings = load(write(tmp_path), {})

    tenant = settings.tenants["fantome"]
    assert tenant.timezone == "Europe/Paris"
    assert tenant.hl7.message_bytes_max == 16_777_216
    assert tenant.publisher.content_type_code == "04"
    assert settings.outbox.retry_cap_s == 900.0
    assert settings.index_node is not None
    assert settings.index_node.resubmission == "duplicate-error"
    with pytest.raises(ValidationError, match="frozen"):
        settings.log.level = "debug"


def test_the_kind_of_a_pacs_chooses_its_settings(tmp_path):
    pacs = load(write(tmp_path), {}).tenants["fantome"].pacs

    assert isinstance(pacs["main"], PacsOrthanc)
    assert pacs["main"].url == "http://127.0.0.1:8042", "a base address carries no slash at its end"
    assert isinstance(pacs["old-one"], PacsDimse)
    assert pacs["old-one"].default_charset == "ISO_IR 100"


def test_relative_paths_start_from_the_file_that_names_them(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "store.toml").write_text('[store]\npath = "state.db"\n')

    settings = load(write(tmp_path), {})

    assert settings.gateway_store().path == tmp_path / "conf.d" / "state.db"
    assert settings.gateway_store().kek_file == tmp_path / "kek"


def test_an_absolute_path_stays_as_written(tmp_path):
    settings = load(write(tmp_path, changed('"poterne.db"', f'"{tmp_path}/elsewhere.db"')), {})

    assert settings.gateway_store().path == tmp_path / "elsewhere.db"


def test_later_files_win_in_the_order_of_their_names(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "20-slots.toml").write_text("[outbox]\nslots = 3\n")
    (tmp_path / "conf.d" / "10-slots.toml").write_text("[outbox]\nslots = 2\nstop_grace_s = 5\n")

    outbox = load(write(tmp_path), {}).outbox

    assert (outbox.slots, outbox.stop_grace_s) == (3, 5.0)


def test_the_environment_wins_over_every_file(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "slots.toml").write_text("[outbox]\nslots = 3\n")

    settings = load(write(tmp_path), {"POTERNE_OUTBOX__SLOTS": "4", "poterne_log__level": "debug"})

    assert (settings.outbox.slots, settings.log.level) == (4, "debug")


def test_a_number_in_the_environment_stays_text_where_text_is_meant(tmp_path):
    settings = load(write(tmp_path), {"POTERNE_TENANTS__FANTOME__PUBLISHER__INSTITUTION_ID": "990000002"})

    assert settings.tenants["fantome"].publisher.institution_id == "990000002"


def test_a_quoted_value_in_the_environment_loses_its_quotes(tmp_path):
    settings = load(write(tmp_path), {"POTERNE_TENANTS__FANTOME__NAME": '"Clinique \\"TEST\\""'})

    assert settings.tenants["fantome"].name == 'Clinique "TEST"'


@pytest.mark.parametrize(
    "text", ['{"kind": "orthanc", "url": "http://127.0.0.1:1"}', '{kind = "orthanc", url = "http://127.0.0.1:1"}']
)
def test_a_whole_section_may_come_from_the_environment_as_json_or_toml(tmp_path, text):
    pacs = load(write(tmp_path), {"POTERNE_TENANTS__FANTOME__PACS__THIRD": text}).tenants["fantome"].pacs

    assert pacs["third"] == PacsOrthanc(kind="orthanc", url="http://127.0.0.1:1")


def test_an_underscore_in_a_variable_also_means_the_hyphen_of_a_name(tmp_path):
    settings = load(write(tmp_path), {"POTERNE_TENANTS__FANTOME__PACS__OLD_ONE__PORT": "104"})

    pacs = settings.tenants["fantome"].pacs["old-one"]
    assert isinstance(pacs, PacsDimse)
    assert pacs.port == 104


def test_a_pacs_may_come_from_the_environment_alone(tmp_path):
    prefix = "POTERNE_TENANTS__FANTOME__PACS__THIRD__"
    keys = {
        "KIND": "dimse",
        "HOST": "127.0.0.1",
        "PORT": "104",
        "CALLED_AET": "A",
        "CALLING_AET": "B",
        "DEADLINE_S": "60",
    }

    pacs = load(write(tmp_path), {prefix + key: text for key, text in keys.items()}).tenants["fantome"].pacs

    assert pacs["third"] == PacsDimse(
        kind="dimse", host="127.0.0.1", port=104, called_aet="A", calling_aet="B", deadline_s=60.0
    )


def test_a_variable_of_another_purpose_is_left_alone(tmp_path):
    assert load(write(tmp_path), {"POTERNE_CRASH_AT": "ack-written", "POTERNE_CORPUS": "/nowhere", "PATH": "/bin"})


def test_without_a_file_the_environment_alone_is_judged():
    found = problems(None, {"POTERNE_LOG__LEVEL": "debug"})

    assert [(p.file, p.key, p.reason) for p in found] == [
        ("environment", "tenants", "no legal entity is configured"),
    ]


def test_without_a_file_and_without_variables_there_is_one_problem():
    assert problems(None) == (Problem(file="", key="", reason="no configuration: give --conf FILE", hint=""),)


def test_a_misspelt_variable_is_still_named_when_there_is_no_configuration():
    assert [p.file for p in problems(None, {"POTERNE_OUTBOX_SLOTS": "4"})] == ["", "POTERNE_OUTBOX_SLOTS"]


def test_an_unreadable_file_is_the_only_problem(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "night.toml").write_text("[outbox]\nslots = 0\n")

    found = problems(tmp_path / "absent.toml", {"POTERNE_STORE__PATH": "state.db"})

    assert [(p.file, p.key) for p in found] == [(str(tmp_path / "absent.toml"), "")]


def test_an_unreadable_drop_in_makes_nothing_absent_that_it_may_hold(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "store.toml").write_bytes(b"[store]\nkek_file = \xe9\n")

    found = problems(write(tmp_path, changed('kek_file = "kek"\n\n[ops]', "[ops]")))

    assert [(Path(p.file).name, p.reason) for p in found] == [("store.toml", "is not UTF-8 (byte 19)")]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder.write_text(""), "cannot be read: Not a directory"),
        (lambda folder: folder.symlink_to(folder), "cannot be read: Too many levels of symbolic links"),
    ],
)
def test_a_drop_in_folder_that_cannot_be_read_is_a_problem(tmp_path, make, reason):
    make(tmp_path / "conf.d")

    (problem,) = problems(write(tmp_path))

    assert (problem.file, problem.reason) == (str(tmp_path / "conf.d"), reason)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_drop_in_folder_without_the_right_to_read_it_is_a_problem(tmp_path):
    (tmp_path / "conf.d").mkdir(mode=0o000)

    (problem,) = problems(write(tmp_path))

    assert (problem.file, problem.reason) == (str(tmp_path / "conf.d"), "cannot be read: Permission denied")


def test_a_tenant_without_a_pacs_is_refused(tmp_path):
    text = re.sub(r"\[tenants\.fantome\.pacs\.main\].*?(?=\[tenants\.fantome\.index\])", "", TEXT, flags=re.DOTALL)

    absent = problems(write(tmp_path, text))
    empty = problems(write(tmp_path, text + "[tenants.fantome.pacs]\n"))

    assert [(p.key, p.reason) for p in absent] == [("tenants.fantome.pacs", "this key is required and absent")]
    assert [(p.key, p.reason) for p in empty] == [("tenants.fantome.pacs", "must hold at least one entry")]


def test_a_pacs_may_bear_the_name_of_a_kind(tmp_path):
    text = TEXT.replace("pacs.main]", "pacs.orthanc]").replace("http://127.0.0.1:8042/", "nowhere")

    (problem,) = problems(write(tmp_path, text))

    assert problem.key == "tenants.fantome.pacs.orthanc.url"


def test_a_machine_with_only_the_index_node_needs_no_tenant_and_no_other_store(tmp_path):
    path = write(
        tmp_path,
        '[index_node]\nlisten = "127.0.0.1:0"\n'
        'repository_unique_id = "2.25.1"\nstore = { path = "b.db", kek_file = "kek" }\n',
    )

    settings = load(path, {})

    assert (settings.tenants, settings.store) == ({}, None)
    with pytest.raises(Broken, match=r"^this configuration has no \[store\]"):
        settings.gateway_store()


def test_a_tenant_needs_the_store(tmp_path):
    (problem,) = problems(write(tmp_path, changed('[store]\npath = "poterne.db"\nkek_file = "kek"\n', "")))

    assert (problem.key, problem.reason) == ("store", "this key is required and absent")


def test_every_problem_of_every_file_is_reported_at_once(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "broken.toml").write_text("[outbox\n")
    (tmp_path / "conf.d" / "wrong.toml").write_text("[outbox]\nslots = 0\nslotz = 1\n")
    text = changed('mode = "live"', 'mode = "live"\ntimezone = "Paris"')

    found = problems(write(tmp_path, text), {"POTERNE_LOG__LEVEL": "loud"})

    assert [(Path(p.file).name, p.key) for p in found] == [
        ("broken.toml", ""),
        ("wrong.toml", "outbox.slots"),
        ("wrong.toml", "outbox.slotz"),
        ("poterne.toml", "tenants.fantome.timezone"),
        ("POTERNE_LOG__LEVEL", "log.level"),
    ]


def test_the_error_reads_as_one_line_per_problem_and_asks_to_correct_them(tmp_path):
    path = write(tmp_path, changed('listen = "127.0.0.1:9090"', 'listn = "127.0.0.1:9090"'))

    with pytest.raises(ConfigurationError) as caught:
        load(path, {})

    assert caught.value.code == "configuration"
    assert str(caught.value.problems[0]) == f"{path}: ops.listn: unknown key → did you mean listen?"


def test_t60_a_secret_written_into_the_text_is_refused_and_not_repeated(tmp_path):
    text = changed('password_file = "password"', 'password = "hunter2-canary"')
    text = text.replace("http://127.0.0.1:8042/", "http://poterne:hunter2-canary@127.0.0.1:8042/")
    text = text.replace("port = 11112", 'port = "hunter2-canary"')

    found = problems(write(tmp_path, text), {"POTERNE_OUTBOX__SLOTS": "hunter2-canary"})

    assert {p.key.rpartition(".")[2] for p in found} == {"password", "password_file", "url", "port", "slots"}
    assert "hunter2-canary" not in "".join(map(str, found))


def test_t60_a_secret_file_that_others_may_read_is_refused(tmp_path):
    path = write(tmp_path)
    (tmp_path / "own.key").chmod(0o644)

    (problem,) = problems(path)

    assert problem.key == "tenants.fantome.index.key_file"
    assert str(tmp_path / "own.key") in problem.reason


def test_t60_no_secret_stands_in_the_printed_settings(tmp_path):
    assert "not-a-real-password" not in repr(load(write(tmp_path), {}))


@pytest.mark.parametrize("listen", ["0.0.0.0:2575", "[::]:2575", "224.0.0.1:2575"])
def test_t63_a_listener_is_bound_to_one_address_never_to_all(tmp_path, listen):
    (problem,) = problems(write(tmp_path, changed("127.0.0.1:2575", listen)))

    assert problem.reason == "is no single address: every network of this machine would reach the listener"


def test_ff44_plain_mllp_leaves_this_machine_only_on_a_trusted_segment_and_from_named_networks(tmp_path):
    text = changed('listen = "127.0.0.1:2575"', 'listen = "192.0.2.1:2575"')
    found = {problem.key: problem.reason for problem in problems(write(tmp_path, text))}
    assert found == {
        "tenants.fantome.hl7.segment": "is not trusted-lan though reports reach the listener in clear from other"
        " machines",
        "tenants.fantome.hl7.networks": "is empty though other machines reach the listener",
    }
    floor = 'listen = "192.0.2.1:2575"\nsegment = "trusted-lan"\nnetworks = ["192.0.2.0/24"]'
    hl7 = load(write(tmp_path, changed('listen = "127.0.0.1:2575"', floor)), {}).tenants["fantome"].hl7
    assert (hl7.listen, hl7.networks) == ("192.0.2.1:2575", ["192.0.2.0/24"])


def test_ff44_the_console_leaves_this_machine_only_with_tls(tmp_path):
    text = changed('listen = "127.0.0.1:9090"', 'listen = "192.0.2.1:9090"')
    (problem,) = problems(write(tmp_path, text))
    assert (problem.key, problem.reason) == (
        "ops.certificate_file",
        "is absent though other machines reach the console",
    )


def test_ff44_the_index_node_leaves_this_machine_only_with_mutual_tls(tmp_path):
    node = (
        '[index_node]\nlisten = "192.0.2.1:0"\nrepository_unique_id = "2.25.1"\n'
        'store = { path = "b.db", kek_file = "kek" }\n'
    )
    (problem,) = problems(write(tmp_path, node))
    assert (problem.key, problem.reason) == (
        "index_node.certificate_file",
        "is absent though other machines reach the node",
    )


@pytest.mark.parametrize("name", ["", "a b", "poterne.example.", "-x", "x_y", "http://x", "ü.example"])
def test_what_is_no_host_name_is_no_name_of_the_console(tmp_path, name):
    text = changed('listen = "127.0.0.1:9090"', f'listen = "127.0.0.1:9090"\nnames = ["{name}"]')
    (problem,) = problems(write(tmp_path, text))
    assert problem.reason.endswith("is not a host name")


def test_a_key_of_the_console_opens_nothing_and_the_site_is_told_what_to_do(tmp_path):
    text = changed('listen = "127.0.0.1:9090"', 'listen = "127.0.0.1:9090"\nconsole_key_file = "console.key"')
    (warning,) = [one for one in read(write(tmp_path, text), {}).warnings if one.key == "ops.console_key_file"]
    assert (warning.reason, warning.hint) == (
        "opens nothing any more",
        "take it out; make accounts: poterne accounts bootstrap",
    )


def test_ff44_no_setting_turns_authentication_or_the_audit_off():
    """The words of such a switch stand nowhere in what a site may set."""
    schema = schema_text().lower()
    for word in ("noauth", "no_auth", "anonymous", "insecure", "disable", "skip_verif", "debug_user", "allow_all"):
        assert word not in schema


def test_t63_a_listener_that_others_reach_on_every_interface_is_warned_about(tmp_path):
    lan = 'listen = "192.0.2.1:2575"\nsegment = "trusted-lan"\nnetworks = ["192.0.2.0/24"]'
    (warning,) = read(write(tmp_path, changed('listen = "127.0.0.1:2575"', lan)), {}).warnings
    assert warning.key == "tenants.fantome.hl7.interface"
    assert warning.reason == "is not set: hosts of every network of this machine reach the listener"
    bound = lan + '\ninterface = "eth1"'
    assert read(write(tmp_path, changed('listen = "127.0.0.1:2575"', bound)), {}).warnings == ()


@pytest.mark.parametrize("name", ["a name", "eth0/1", "x" * 16, ".", "..", "eth0:1", "é"])
def test_what_is_no_interface_name_is_refused(tmp_path, name):
    text = changed('listen = "127.0.0.1:9090"', f'listen = "127.0.0.1:9090"\ninterface = "{name}"')
    (problem,) = problems(write(tmp_path, text))
    assert (problem.key, problem.reason) == ("ops.interface", "is no name of a network interface")


def test_t63_every_listener_is_off_until_configured(tmp_path):
    text = changed('listen = "127.0.0.1:9090"', "").replace('listen = "127.0.0.1:2575"', "")

    settings = load(write(tmp_path, text), {})

    assert (settings.ops.listen, settings.tenants["fantome"].hl7.listen) == ("", "")


def test_two_listeners_may_both_ask_for_a_free_port(tmp_path):
    text = changed("127.0.0.1:9090", "127.0.0.1:0").replace("127.0.0.1:2575", "127.0.0.1:0")

    assert load(write(tmp_path, text), {}).ops.listen == "127.0.0.1:0"


def test_an_address_is_split_into_host_and_port():
    assert address("127.0.0.1:2575") == ("127.0.0.1", 2575)
    assert address("[::1]:0") == ("::1", 0)


@pytest.mark.parametrize("wrong", ["127.0.0.1", "localhost:1", ":1", "127.0.0.1:65536", "::1:80", "127.0.0.1:８０"])
def test_what_is_no_address_is_refused(wrong):
    with pytest.raises(ValueError, match=r"."):
        address(wrong)


def test_the_switchable_identity_rules_are_those_of_the_gate():
    rules = {field.name: field.default for field in dataclasses.fields(Rules) if field.name != "domain"}

    assert IdentityRules().model_dump() == rules


def test_the_stored_schema_is_that_of_the_models():
    assert (CONF / "poterne.schema.json").read_text(encoding="utf-8") == schema_text(), (
        "write it again: python -c 'from gateway.settings import schema_text as s; print(s(), end=\"\")'"
        " > conf/poterne.schema.json"
    )


def test_the_schema_refuses_unknown_keys_and_describes_every_key():
    schema = json.loads(schema_text())

    for section in (schema, *schema["$defs"].values()):
        assert section["additionalProperties"] is False
        for name, key in section["properties"].items():
            assert "description" in key or "$ref" in key or name == "kind", name


SERVER = re.compile(r"(?ms)^\[store\.postgres\]$.*?^(?=\n)")
FILE = re.compile(r'(?m)^path = "poterne\.db".*\n')


def complete() -> str:
    """The example file with every commented key in effect; of its two kinds of store, it names both."""
    return re.sub(r"(?m)^#(?=[a-z\[])", "", (CONF / "poterne.toml").read_text(encoding="utf-8"))


def placed(folder: Path, text: str) -> Path:
    """The file with the secrets that the example names."""
    (folder / "secrets").mkdir(exist_ok=True)
    for name, content in (("certificate", "-----BEGIN CERTIFICATE-----"), ("key", "-----BEGIN PRIVATE KEY-----")):
        (folder / "secrets" / f"sign-{name}").write_text(content)
        (folder / "secrets" / f"sign-{name}").chmod(0o600)
        text = text.replace(f'\nsign_{name}_file = ""', f'\nsign_{name}_file = "secrets/sign-{name}"')
    for name in ("audit-ca", "audit-certificate", "audit-key"):
        kind = "PRIVATE KEY" if name.endswith("key") else "CERTIFICATE"
        (folder / "secrets" / name).write_text(f"-----BEGIN {kind}-----")
        (folder / "secrets" / name).chmod(0o600)
    path = write(folder, text)
    for name in ("kek", "index-kek"):
        (folder / "secrets" / name).write_text(bytes(range(32)).hex())
        (folder / "secrets" / name).chmod(0o600)
    return path


def short(folder: Path) -> Settings:
    return load(placed(folder, (CONF / "poterne.toml").read_text(encoding="utf-8")), {})


def long(folder: Path) -> Settings:
    return load(placed(folder, SERVER.sub("", complete())), {})


def shape(table: object) -> object:
    return {key: shape(value) for key, value in table.items()} if isinstance(table, dict) else None


def test_the_example_file_can_be_used_once_its_secrets_exist(tmp_path):
    assert short(tmp_path).tenants["chu"].name == "Établissement à remplir"


def test_the_example_file_shows_every_key(tmp_path):
    known = long(tmp_path).model_dump()
    known["store"] |= {"postgres": load(placed(tmp_path, FILE.sub("", complete())), {}).store.postgres.model_dump()}
    known["tenants"]["chu"]["trial"].pop("patient_id")  # instead of matricule, outside drim-m
    known["index_node"]["audit"].pop("feed")  # the same as [audit.feed], shown once
    known["index_node"]["store"].pop("postgres")  # the same section as that of the gateway, shown once

    assert shape(tomllib.loads(complete())) == shape(known)


def test_the_example_file_shows_the_true_defaults(tmp_path):
    lean, full = short(tmp_path), long(tmp_path)

    for section in ("ops", "disk", "clock", "doctor", "log", "outbox"):
        assert getattr(full, section) == getattr(lean, section)
    assert full.alerts.model_copy(update={"mail": None, "webhook": None}) == lean.alerts
    shown, tenant = full.tenants["chu"], lean.tenants["chu"]
    assert shown.pacs.keys() - tenant.pacs.keys() == {"archive", "secours"}
    dicom = shown.dicom.model_copy(update={"peers": {}})
    changes = {"pacs": tenant.pacs, "trial": None, "dicom": dicom, "index": tenant.index}
    assert shown.model_copy(update=changes) == tenant
    signing = {"sign_certificate_file": None, "sign_key_file": None, "vihf": None}
    assert shown.index.model_copy(update=signing) == tenant.index
    assert shown.pacs["principal"] == tenant.pacs["principal"]


def test_the_example_file_shows_the_true_defaults_of_what_it_leaves_out(tmp_path):
    full = long(tmp_path)
    pacs, server = full.tenants["chu"].pacs, load(placed(tmp_path, FILE.sub("", complete())), {}).store.postgres

    alerts, node = full.alerts, full.index_node
    vihf = full.tenants["chu"].index.vihf
    for shown in (pacs["archive"], pacs["secours"], node, vihf, alerts.mail, alerts.webhook, server):
        fields = type(shown).model_fields
        assert {n: getattr(shown, n) for n in fields if not fields[n].is_required()} == {
            n: field.get_default(call_default_factory=True) for n, field in fields.items() if not field.is_required()
        }


def test_the_index_is_reached_in_clear_only_on_this_machine():
    with pytest.raises(ValidationError, match="in clear"):
        IndexXds(
            registry_url="http://index.example.org/r",
            repository_url="http://127.0.0.1:8081/r",
            repository_unique_id="1.2.3",
        )


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ('form = "fhir"', "form"),
        ('patient_domain = "1.2.3"', "patient_domain"),
        ('profile = "mado"', "patient_domain"),
        ('profile = "mado"\npatient_domain = "1.2.3"', "images.retrieve_location"),
        ('profile = "xds-i"\npatient_domain = "1.2.3"', "images.retrieve_aet"),
        ('profile = "xds-i"\nform = "fhir"\npatient_domain = "1.2.3"', "form"),
    ],
)
def test_profiles_forms_and_patients_that_do_not_fit_are_named(tmp_path, said, key):
    text = (CONF / "poterne.toml").read_text(encoding="utf-8").replace('mode = "shadow"', f'mode = "shadow"\n{said}')

    with pytest.raises(ConfigurationError) as caught:
        load(placed(tmp_path, text), {})

    problems = {problem.key: problem for problem in caught.value.problems}
    assert f"tenants.chu.{key}" in problems
    assert all(problem.reason and problem.hint and problem.file for problem in problems.values())


def test_an_index_without_kind_is_of_xds_and_mhd_takes_its_own_keys(tmp_path):
    index = load(placed(tmp_path, (CONF / "poterne.toml").read_text(encoding="utf-8")), {}).tenants["chu"].index
    assert (index.kind, index.address) == ("xds", "http://127.0.0.1:8081/xds/registry")
    xds = (CONF / "poterne.toml").read_text(encoding="utf-8")
    begin, end = xds.index("[tenants.chu.index]"), xds.index("[tenants.chu.publisher]")
    mhd = xds[:begin] + '[tenants.chu.index]\nkind = "mhd"\nbase_url = "http://127.0.0.1:8081/fhir"\n' + xds[end:]
    index = load(placed(tmp_path, mhd), {}).tenants["chu"].index
    assert (index.kind, index.address) == ("mhd", "http://127.0.0.1:8081/fhir")
    with pytest.raises(ConfigurationError, match=r"base_url: this key is required"):
        load(placed(tmp_path, mhd.replace("base_url", "registry_url")), {})


def test_an_assertion_is_asked_for_only_where_something_signs_it():
    vihf = {"lps_id": "1234567890"}
    assert [key for key, _, _ in IndexXds.between({"vihf": vihf})] == ["sign_certificate_file"]
    assert [*IndexXds.between({"vihf": vihf, "sign_certificate_file": "sign.pem"})] == []
    assert [*IndexXds.between({})] == []
