"""``poterne init``: a few questions, then a commented configuration, its secrets, and what to do next.

Invariants:

* nothing that exists is overwritten;
* each answer is judged by the type of its setting, at once and in plain words; where nobody can be asked, all wrong
  ones are named together; the whole is judged once more before the last word;
* a new site begins in shadow mode: it publishes nothing until its configuration says ``live``;
* secrets are written once, mode 0600, in a folder of mode 0700, and never shown.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from gateway.i18n import N_, Words
from gateway.peers import pacs_source
from gateway.settings import (
    ConfigurationError,
    Hl7Settings,
    ImagesSettings,
    IndexNodeSettings,
    IndexXds,
    OpsSettings,
    PacsDicomWeb,
    PacsDimse,
    PacsOrthanc,
    PublisherSettings,
    Section,
    TenantSettings,
    TrialSettings,
    judge,
    read,
)
from indexer import codes
from indexer.study import Absent, Found, Unknown
from security.conf import conf_dir
from security.errors import Refused
from security.identity import Uid
from security.secrets import create_private

Answers = dict[str, str]
Ask = Callable[[str, str, bool], str]
"""Question, default ("" for none) and whether the answer must not be shown → the answer."""

PACS = "principal"
_EXAMPLE_TENANT = "chu"
_AS_SHOWN = ""  # the value that the example shows
_HEADER = re.compile(r"(#?)\[([a-z0-9_.]+)\]")
_KEY = re.compile(r"#?([a-z_0-9]+) = (\"[^\"]*\"|\[[^]]*\]|[^#]*?)( *#.*)?")
_SECTION_OF_KIND = {"orthanc": "principal", "dicomweb": "archive", "dimse": "secours"}  # in conf/poterne.toml


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question. ``model``: whose key judges the answer, None for a free choice among ``choices``. ``rule``: what
    an answer looks like, said to whom gave a wrong one; "" lets the setting speak for itself."""

    key: str
    text: str
    model: type[Section] | None = None
    rule: str = ""
    default: Callable[[Answers], str] = lambda _answers: ""
    choices: Mapping[str, str] = field(default_factory=dict)
    asked: Callable[[Answers], bool] = lambda _answers: True
    is_secret: bool = False
    may_be_empty: bool = False


def _always(value: str) -> Callable[[Answers], str]:
    return lambda _answers: value


def _new_oid() -> str:
    """An OID of one's own, without a registry (ITU-T X.667)."""
    return f"2.25.{uuid.uuid4().int}"


def _chosen(key: str, *values: str) -> Callable[[Answers], bool]:
    return lambda answers: answers.get(key) in values


def _coded(table: codes.TableName) -> Mapping[str, str]:
    return codes.table(table).codes


_OID = N_("an OID: digits and dots, such as 1.2.250.1.213")
_WEB = N_("an address that begins with http:// or https://")
_DOOR = N_("host:port on this machine (127.0.0.1): the doors for other machines are not built yet")
_AE_TITLE = N_("an AE title: 1 to 16 characters, no backslash")

QUESTIONS: tuple[Question, ...] = (
    Question(
        key="tenant",
        text=N_("Short name of the site (lower-case letters, digits)"),
        rule=N_("lower-case letters, digits, '-' and '_', a letter first, at most 32 characters"),
        default=_always("site"),
    ),
    Question(key="name", text=N_("Name of the establishment"), model=TenantSettings),
    Question(key="institution_id", text=N_("Its identifier (FINESS of the legal entity)"), model=PublisherSettings),
    Question(
        key="source_id",
        text=N_("OID of this source in the index; without one of your own, keep the one proposed"),
        model=PublisherSettings,
        rule=_OID,
        default=lambda _answers: _new_oid(),
    ),
    Question(
        key="facility_type",
        text=N_("Type of facility, for reports that state none"),
        model=PublisherSettings,
        choices=_coded("facility-type"),
        default=_always("SA08"),
    ),
    Question(
        key="practice_setting",
        text=N_("Practice setting, for reports that state none"),
        model=PublisherSettings,
        choices=_coded("practice-setting"),
        default=_always("AMBULATOIRE"),
    ),
    Question(
        key="kind",
        text=N_("How the PACS is asked"),
        choices={
            "orthanc": N_("Orthanc, by its REST interface"),
            "dicomweb": N_("DICOMweb (QIDO-RS)"),
            "dimse": N_("DICOM query (C-FIND)"),
        },
        default=_always("orthanc"),
    ),
    Question(
        key="url",
        text=N_("Address of Orthanc"),
        model=PacsOrthanc,
        rule=_WEB,
        default=_always("http://127.0.0.1:8042"),
        asked=_chosen("kind", "orthanc"),
    ),
    Question(
        key="url",
        text=N_("Base address of DICOMweb, without /studies"),
        model=PacsDicomWeb,
        rule=_WEB,
        asked=_chosen("kind", "dicomweb"),
    ),
    Question(
        key="username",
        text=N_("User name on the PACS (empty: none)"),
        model=PacsOrthanc,
        asked=_chosen("kind", "orthanc", "dicomweb"),
        may_be_empty=True,
    ),
    Question(
        key="password",
        text=N_("Its password"),
        asked=lambda answers: bool(answers.get("username")),
        is_secret=True,
    ),
    Question(key="host", text=N_("Host of the PACS"), model=PacsDimse, asked=_chosen("kind", "dimse")),
    Question(
        key="port",
        text=N_("Its DICOM port"),
        model=PacsDimse,
        rule=N_("a port: 1 to 65535"),
        default=_always("104"),
        asked=_chosen("kind", "dimse"),
    ),
    Question(
        key="called_aet",
        text=N_("Its AE title"),
        model=PacsDimse,
        rule=_AE_TITLE,
        asked=_chosen("kind", "dimse"),
    ),
    Question(
        key="calling_aet",
        text=N_("Our AE title, to be declared in the PACS"),
        model=PacsDimse,
        rule=_AE_TITLE,
        default=_always("POTERNE"),
        asked=_chosen("kind", "dimse"),
    ),
    Question(
        key="segment",
        text=N_("On which network the PACS is: DICOM travels in clear only on one of the site alone"),
        choices={
            "trusted-lan": N_("a network of the site alone"),
            "other": N_("another: TLS, to be written into the file by hand"),
        },
        default=_always("trusted-lan"),
        asked=_chosen("kind", "dimse"),
    ),
    Question(
        key="index",
        text=N_("Which index receives the manifests"),
        choices={
            "own": N_("the index node of Poterne on this machine, to try or for a group of sites"),
            "other": N_("another XDS.b index"),
        },
        default=_always("own"),
    ),
    Question(
        key="index_listen",
        text=N_("Where the index node listens"),
        model=IndexNodeSettings,
        rule=_DOOR,
        default=_always("127.0.0.1:8081"),
        asked=_chosen("index", "own"),
    ),
    Question(
        key="registry_url",
        text=N_("Address of its registry (ITI-18)"),
        model=IndexXds,
        rule=_WEB,
        asked=_chosen("index", "other"),
    ),
    Question(
        key="repository_url",
        text=N_("Address of its repository (ITI-41, ITI-43)"),
        model=IndexXds,
        rule=_WEB,
        asked=_chosen("index", "other"),
    ),
    Question(
        key="repository_unique_id",
        text=N_("OID of its repository"),
        model=IndexXds,
        rule=_OID,
        asked=_chosen("index", "other"),
    ),
    Question(
        key="ca_file",
        text=N_("File of the authorities of the index (PEM; empty: plain http on this machine)"),
        asked=_chosen("index", "other"),
        may_be_empty=True,
    ),
    Question(
        key="certificate_file",
        text=N_("File of our certificate (PEM)"),
        asked=lambda answers: bool(answers.get("ca_file")),
    ),
    Question(
        key="key_file",
        text=N_("File of its private key (mode 0600)"),
        asked=lambda answers: bool(answers.get("ca_file")),
    ),
    Question(
        key="crl_file",
        text=N_("File of the revocation lists of those authorities (PEM or DER)"),
        asked=lambda answers: bool(answers.get("ca_file")),
    ),
    Question(
        key="hl7_listen",
        text=N_("Where the RIS sends its reports (MLLP)"),
        model=Hl7Settings,
        rule=_DOOR,
        default=_always("127.0.0.1:2575"),
    ),
    Question(
        key="ops_listen",
        text=N_("Where the console opens"),
        model=OpsSettings,
        rule=_DOOR,
        default=_always("127.0.0.1:8080"),
    ),
    Question(
        key="retrieve_base",
        text=N_("WADO-RS address that the manifests announce to other sites"),
        model=ImagesSettings,
        rule=_WEB,
        default=lambda _answers: f"https://{socket.getfqdn()}/dicom-web",
    ),
    Question(
        key="platform",
        text=N_("Is this a test platform, whose patients are invented?"),
        choices={"no": N_("no, real patients"), "yes": N_("yes, test matricules are let through")},
        default=_always("no"),
    ),
)
_SETTING = {
    "hl7_listen": "listen",
    "ops_listen": "listen",
    "index_listen": "listen",
}  # the key in its section, where two share a name


def run(
    folder: Path,
    *,
    words: Words,
    ask: Ask | None,
    say: Callable[[str], None],
    given: Mapping[str, str],
    probe: bool = True,
) -> int:
    """Ask, write, judge, tell what comes next; 0 when the configuration can be used, 1 otherwise.

    ``ask``: None when nobody can be asked; what is not given is then its default. ``given``: answers by key that are
    not asked for; ``probe``: ask the PACS one question once all is written.

    Raises:
        Refused: ``init-exists`` there is a configuration already; ``init-answer`` a given answer is wrong.
    """
    conf = folder / "poterne.toml"
    if conf.exists():
        raise Refused(
            words("{conf} exists already", conf=conf),
            code="init-exists",
            hint=words("edit it, or name another folder: poterne init FOLDER"),
        )
    unknown = sorted(set(given) - {question.key for question in QUESTIONS})
    if unknown:
        raise Refused(
            words("no question is called {keys}", keys=", ".join(unknown)),
            code="init-answer",
            hint=words("known: {keys}", keys=", ".join(dict.fromkeys(question.key for question in QUESTIONS))),
        )
    if ask:
        say(words("Poterne asks a few questions and writes {conf}. Enter keeps what stands in brackets.", conf=conf))
    answers = _answers(words, ask, say, given)
    _write(folder, answers)
    try:
        settings = read(conf, {}).settings
    except ConfigurationError as error:
        for problem in error.problems:
            say(str(problem))
        return 1
    if probe:
        tenant = settings.tenants[answers["tenant"]]
        say(asyncio.run(_pacs_answers(tenant, words)))
    for line in _next_steps(conf, answers, words):
        say(line)
    return 0


def _answers(words: Words, ask: Ask | None, say: Callable[[str], None], given: Mapping[str, str]) -> Answers:
    """Every answer, usable.

    Raises:
        Refused: ``init-answer``, naming each answer that was given and cannot be used, and each that is lacking.
    """
    answers: Answers = {}
    wrong: dict[str, str] = {}
    for question in QUESTIONS:
        if not question.asked(answers):
            continue
        if ask is None or question.key in given:
            answers[question.key] = given.get(question.key, question.default(answers)).strip()
            reason = _wrong(question, answers[question.key], words)
            if reason:
                wrong[question.key] = reason
        elif not wrong:
            answers[question.key] = _asked(question, answers, words, ask, say)
    if wrong:
        raise Refused(
            "\n".join(f"{key}: {reason}" for key, reason in wrong.items()),
            code="init-answer",
            hint=words("answer again: {keys}", keys=" ".join(f"--answer {key}=…" for key in wrong)),
        )
    return answers


def _asked(question: Question, answers: Answers, words: Words, ask: Ask, say: Callable[[str], None]) -> str:
    """One usable answer of a person, asked until there is one."""
    text = words(question.text)
    for choice, meaning in question.choices.items():
        text += f"\n    {choice:<13} {words(meaning)}"
    default = question.default(answers)
    while True:
        answer = ask(text, default, question.is_secret).strip()
        wrong = _wrong(question, answer, words)
        if not wrong:
            return answer
        say(f"  ! {wrong}")


def _wrong(question: Question, answer: str, words: Words) -> str:
    """Why the answer is not usable, "" when it is."""
    if not answer:
        return "" if question.may_be_empty else words("an answer is needed")
    if question.key == "tenant" and not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", answer):
        return words(question.rule)
    if question.choices and answer not in question.choices:
        return words("one of: {known}", known=", ".join(question.choices))
    if question.key.endswith("_file") and not Path(answer).expanduser().is_file():
        return words("there is no such file")
    if question.model is None:
        return ""
    judged = judge(question.model, _SETTING.get(question.key, question.key), answer)
    return words(question.rule) if judged and question.rule else judged


# -- writing -----------------------------------------------------------------------------------------------------


def _write(folder: Path, answers: Answers) -> None:
    """The folder, its secrets and last the configuration, so that a file that is there is whole."""
    vault = folder / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    vault.mkdir(mode=0o700, exist_ok=True)
    made = {"kek": secrets.token_bytes(32)}
    if answers.get("password"):
        made["pacs-password"] = answers["password"].encode()
    if answers["index"] == "own":
        made["index-kek"] = secrets.token_bytes(32)
    for name, secret in made.items():
        with suppress(FileExistsError):  # of an attempt that was cut short, or put there on purpose: it is kept
            create_private(vault / name, secret)
    example = (conf_dir() / "poterne.toml").read_text(encoding="utf-8")
    create_private(folder / "poterne.toml", fill(example, answers).encode())


def fill(example: str, answers: Mapping[str, str]) -> str:
    """The example file with the answers in it: what they set is uncommented, what they exclude is commented."""
    values = _values(answers)
    lines: list[str] = []
    section, active = "", True
    for line in example.splitlines():
        header, key = _HEADER.fullmatch(line), _KEY.fullmatch(line)
        if header:
            section = header[2]
            active = section in values or (
                not header[1] and not section.startswith(f"tenants.{_EXAMPLE_TENANT}.pacs")
            )
            shown = _renamed(section, answers)
            lines.append(f"[{shown}]" if active else f"#[{shown}]")
        elif key and active and key[1] in values.get(section, {}):
            comment = (key[3] or "").strip()
            setting = f"{key[1]} = {values[section][key[1]] or key[2]}"
            lines.append(f"{setting:<34}  {comment}".rstrip())
        elif key and not active and not line.startswith("#"):
            lines.append(f"#{line}")
        else:
            lines.append(line.replace(f"« {_EXAMPLE_TENANT} »", f"« {answers['tenant']} »"))
    return "\n".join(lines) + "\n"


def _renamed(section: str, answers: Mapping[str, str]) -> str:
    chosen = f"tenants.{_EXAMPLE_TENANT}.pacs.{_SECTION_OF_KIND[answers['kind']]}"
    if section == chosen:
        return f"tenants.{answers['tenant']}.pacs.{PACS}"
    if section == f"tenants.{_EXAMPLE_TENANT}.pacs.{PACS}":
        return f"tenants.{answers['tenant']}.pacs.orthanc"
    if section == f"tenants.{_EXAMPLE_TENANT}" or section.startswith(f"tenants.{_EXAMPLE_TENANT}."):
        return f"tenants.{answers['tenant']}" + section.removeprefix(f"tenants.{_EXAMPLE_TENANT}")
    return section


def _values(answers: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What the file says, by section of the example and key, in TOML; ``_AS_SHOWN``: what the example says."""
    tenant = f"tenants.{_EXAMPLE_TENANT}"
    pacs = f"{tenant}.pacs.{_SECTION_OF_KIND[answers['kind']]}"
    own = answers["index"] == "own"
    repository = _new_oid() if own else answers["repository_unique_id"]
    keys: dict[str, tuple[str, ...]] = {
        "orthanc": ("url", "username"),
        "dicomweb": ("url", "username"),
        "dimse": ("host", "port", "called_aet", "calling_aet"),
    }
    values = {
        "store": {"path": _text("poterne.db"), "kek_file": _text("secrets/kek")},
        "ops": {"listen": _text(answers["ops_listen"])},
        tenant: {"name": _text(answers["name"]), "mode": _text("shadow")},
        f"{tenant}.hl7": {"listen": _text(answers["hl7_listen"])},
        pacs: {
            "kind": _text(answers["kind"]),
            **{key: _text(answers[key]) for key in keys[answers["kind"]] if answers.get(key)},
        },
        f"{tenant}.index": {
            "registry_url": _text(
                f"http://{answers['index_listen']}/xds/registry" if own else answers["registry_url"]
            ),
            "repository_url": _text(
                f"http://{answers['index_listen']}/xds/repository" if own else answers["repository_url"]
            ),
            "repository_unique_id": _text(repository),
        },
        f"{tenant}.publisher": {
            "device_id": _text(f"poterne-{answers['tenant']}"),
            "institution_name": _text(answers["name"]),
            **{
                key: _text(answers[key])
                for key in ("institution_id", "source_id", "facility_type", "practice_setting")
            },
        },
        f"{tenant}.images": {"retrieve_base": _text(answers["retrieve_base"])},
        f"{tenant}.identity": {"test_identity": _text("off")} if answers["platform"] == "yes" else {},
    }
    if answers.get("segment") == "trusted-lan":
        values[pacs]["segment"] = _text("trusted-lan")
    if answers.get("crl_file"):
        lists = Path(answers["crl_file"]).expanduser().absolute()
        values[f"{tenant}.index.revocation"] = {"crl_file": _text(str(lists))}
    if "port" in values[pacs]:
        values[pacs]["port"] = answers["port"]
    if answers.get("username"):
        values[pacs]["password_file"] = _text("secrets/pacs-password")
    for key in ("ca_file", "certificate_file", "key_file"):
        if answers.get(key):
            values[f"{tenant}.index"][key] = _text(str(Path(answers[key]).expanduser().absolute()))
    if own:
        values["index_node"] = {"listen": _text(answers["index_listen"]), "repository_unique_id": _text(repository)}
        values["index_node.store"] = {"path": _text("index.db"), "kek_file": _text("secrets/index-kek")}
    if own and answers["platform"] == "yes":
        values[f"{tenant}.trial"] = dict.fromkeys(TrialSettings.model_fields, _AS_SHOWN)
    return values


def _text(value: str) -> str:
    """A TOML basic string."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# -- telling -----------------------------------------------------------------------------------------------------


async def _pacs_answers(tenant: TenantSettings, words: Words) -> str:
    """One harmless question to the PACS: what came back, and what to do about it."""
    source = pacs_source(PACS, tenant.pacs[PACS])
    try:
        answer = await source.find(Uid(_new_oid()))
    finally:
        await source.close()
    match answer:
        case Absent() | Found():
            return words("The PACS answers.")
        case Unknown(reason=reason, detail=detail):
            return words(
                "The PACS does not answer yet ({reason}: {detail}). Correct its section of the file, then run"
                " poterne doctor.",
                reason=reason,
                detail=detail,
            )


def _next_steps(conf: Path, answers: Answers, words: Words) -> Iterator[str]:
    yield words("{conf} is written; its secrets are in {folder}.", conf=conf, folder=conf.parent / "secrets")
    yield words(
        "Keep a copy of {key} elsewhere: without it the database cannot be read.", key=conf.parent / "secrets" / "kek"
    )
    yield ""
    yield words("What to do next:")
    steps = [
        (f"poterne serve --conf {conf}", words("the gateway")),
        (f"poterne accounts bootstrap --conf {conf}", words("the code of the first account, a security officer")),
        (f"poterne doctor --conf {conf}", words("what is wrong, why, and what to do")),
        (f"poterne shadow --conf {conf}", words("what would have been published")),
        (
            f"http://{answers['ops_listen']}/console/",
            words("the console, once there is an account"),
        ),
    ]
    if answers["index"] == "own":
        steps.insert(0, (f"poterne index serve --conf {conf}", words("the index node, in a terminal of its own")))
    width = max(len(step) for step, _ in steps)
    yield from (f"  {step:<{width}}   {meaning}" for step, meaning in steps)
    yield ""
    yield words(
        "The site is in shadow mode: nothing is sent. When what would have been published is as it should be, write"
        ' mode = "live" under [tenants.{tenant}] and restart poterne serve.',
        tenant=answers["tenant"],
    )
    if (urlsplit(answers["retrieve_base"]).hostname or "").startswith(("localhost", "127.")):
        yield words(
            "Before that, correct retrieve_base: {url} is this machine itself, where no other site can fetch images.",
            url=answers["retrieve_base"],
        )
