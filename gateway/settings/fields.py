"""The kinds of value a setting may hold: each says in plain words what is wrong with another and what to write.

Invariants:

* a mistake is raised as a pydantic error of type ``rule`` with ``reason`` and ``hint``, neither showing the value;
* what a file must be stands beside the type of its path (``FileRule``) and is checked by ``file_fault`` when a
  configuration is read, not when a model is built: models read nothing but the code tables shipped with them.
"""

from __future__ import annotations

import ipaddress
import re
import stat
from enum import Enum
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from indexer import codes
from security.errors import BadInput, Broken, Fault
from security.identity import Uid
from security.ins import INS_AUTHORITIES, check_key
from security.keys.revocation import crls
from security.secrets import read_kek, read_secret

_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+", re.ASCII)
_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", re.ASCII)
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)
_INTERFACE: Final = re.compile(r"(?!\.{1,2}\Z)[!-.0-9;-~]{1,15}", re.ASCII)  # dev_valid_name of Linux
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", re.ASCII)
_PEM: Final = b"-----BEGIN CERTIFICATE-----"


class FileRule(Enum):
    """What a file named by a setting must be, checked when the configuration is read."""

    SECRET = "a secret file"  # noqa: S105  a description, not a password
    KEK = "the key-encryption key"
    PEM = "a PEM file"
    DATABASE = "a database"
    FOLDER = "a folder of received objects"
    CRL = "a revocation list"
    XML = "an XML document"
    WITNESS = "a file of heads"


def _mistake(reason: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{reason}", {"reason": reason, "hint": hint})


def address(listen: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[v6]:port``.

    Raises:
        ValueError: it is neither.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or int(port) > 65535:
        raise ValueError("not host:port")
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1])), int(port)
    return str(ipaddress.IPv4Address(host)), int(port)


def _listen(value: str) -> str:
    if not value:
        return value
    try:
        host, _ = address(value)
    except ValueError:
        raise _mistake(
            "is not an address and a port", 'write "127.0.0.1:2575", "[::1]:2575", or "" to switch it off'
        ) from None
    bound = ipaddress.ip_address(host)
    if bound.is_unspecified or bound.is_multicast:
        raise _mistake(
            "is no single address: every network of this machine would reach the listener",
            "write the address of the one network it is for; another listener serves another network",
        )
    return value


def _interface(value: str) -> str:
    if value and not _INTERFACE.fullmatch(value):
        raise _mistake(
            "is no name of a network interface", 'write one that "ip link" shows, such as "eth1", or "" for any'
        )
    return value


def is_open(listen: object) -> bool:
    """Whether a listener is reached from other machines: it is on, and not on loopback."""
    try:
        host, _ = address(str(listen or ""))
    except ValueError:
        return False  # off, or told as a mistake of its own
    bound = ipaddress.ip_address(host)
    return not (bound.is_loopback or bound.is_unspecified or bound.is_multicast)  # the last two are mistakes


def _host_name(value: str) -> str:
    if not _HOST_NAME.fullmatch(value):
        raise _mistake("is not a host name", 'letters, digits, hyphens and dots, such as "poterne.hopital.example"')
    return value.lower()


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise _mistake("is not a network or an address", 'write "192.0.2.0/24", or "192.0.2.7" alone') from None


def _oid(value: str) -> str:
    if len(value) > 64 or not _OID.fullmatch(value):
        raise _mistake("is not an OID", "digits and dots, at most 64 characters, such as 1.2.250.1.213.1.4.8")
    return value


def _uid(value: str) -> str:
    try:
        return str(Uid(value))
    except BadInput as fault:
        raise _mistake("is not a DICOM unique identifier", fault.hint) from None


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, LookupError):
        raise _mistake("is not a known time zone", 'a name of the tz database, such as "Europe/Paris"') from None
    return value


def _charset(value: str) -> str:
    try:
        b"a".decode(value)  # an empty text would not even look the codec up
    except (LookupError, ValueError):
        raise _mistake(
            "is not a known character set", 'a Python codec name such as "cp1252" or "iso8859-15"'
        ) from None
    return value


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        right = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right or not value.isprintable() or " " in value:
        raise _mistake("is not an http or https address", 'write it whole, such as "https://host.example:8443/path"')
    if parts.username is not None or parts.password is not None:
        raise _mistake("carries a user name or password", "take it out of the address; secrets are named as files")
    if parts.query or parts.fragment:
        raise _mistake("carries a query or a fragment", "leave out everything from '?' or '#'")
    return value


def _base_url(value: str) -> str:
    return _url(value).rstrip("/")


def _retrieve_base(value: str) -> str:
    base = _base_url(value)
    if base.endswith("/studies"):
        raise _mistake("ends in /studies", "give the WADO-RS base before it: the manifest adds /studies/<uid> itself")
    return base


def _index_url(value: str) -> str:
    if _leaves_in_clear(_url(value)):
        raise _mistake(
            "sends patient data in clear to another machine",
            "use https with ca_file, certificate_file and key_file; plain http only towards a loopback address",
        )
    return value


def _https_url(value: str) -> str:
    if _url(value).startswith("http://"):
        raise _mistake("is fetched in clear", "write an https address")
    return value


def _webhook_url(value: str) -> str:
    if _leaves_in_clear(_url(value)):
        raise _mistake(
            "sends alerts in clear to another machine", "use https; plain http only towards a loopback address"
        )
    return value


def _leaves_in_clear(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_this_machine(parts.hostname or "")


def is_this_machine(host: str) -> bool:
    """Whether a host name or address is the loopback of this machine; no name is looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _email(value: str) -> str:
    """An addr-spec of RFC 5322 §3.4.1 without quotes, comments or controls: what every relay takes."""
    if (
        not value.isascii()
        or not value.isprintable()
        or not _EMAIL.fullmatch(value)
        or set(value) & set('<>(),;:"\\')
    ):
        raise _mistake("is not an e-mail address", "one address alone, such as astreinte@example.org")
    return value


def _matricule(value: str) -> str:
    if not check_key(value):
        raise _mistake("is not a matricule with its key", "15 characters: the 13 of the number, then its key")
    return value


def _test_authority(value: str) -> str:
    """A trial exam is published: it must never fall into the record of a person who exists."""
    authority = INS_AUTHORITIES.get(value)
    tests = ", ".join(oid for oid, known in INS_AUTHORITIES.items() if not known.production)
    if authority is None:
        raise _mistake("is not the OID of an INS authority", f"for tests: {tests}")
    if authority.production:
        raise _mistake("is the authority of real people", f"use a test patient of the index, under one of {tests}")
    return value


def _text(value: str) -> str:
    if not value.isprintable() or not value.strip() or set(value) & set("^&|~\\"):
        raise _mistake(
            "is blank or holds a character that HL7 or XDS would misread", "leave out ^ & | ~ \\ and controls"
        )
    return value


def _ae_title(value: str) -> str:
    """PS3.5 6.2, AE: printable ASCII without backslash, not only blanks; outer blanks carry no meaning."""
    if not value.isascii() or not value.isprintable() or "\\" in value or value != value.strip():
        raise _mistake("is not an AE title", "1 to 16 ASCII characters, no backslash, no blank at either end")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise _mistake(
            "is not a usable name", "lower-case letters, digits, '-' and '_', a letter first, at most 32 characters"
        )
    return value


def _coded(name: codes.TableName, value: str) -> str:
    table = codes.table(name)
    try:
        table.coded(value)
    except BadInput as fault:
        raise _mistake(f"is not in the code table {table.system} ({table.version})", fault.hint) from None
    return value


Listen = Annotated[str, AfterValidator(_listen)]
Interface = Annotated[
    str,
    AfterValidator(_interface),
    Field(description="Network interface on which alone others reach it; empty = any that leads to its address."),
]
HostName = Annotated[str, AfterValidator(_host_name)]
Oid = Annotated[str, AfterValidator(_oid)]
UidOrNone = Annotated[str, AfterValidator(lambda value: _uid(value) if value else value)]
OidOrNone = Annotated[str, AfterValidator(lambda value: _oid(value) if value else value)]
Zone = Annotated[str, AfterValidator(_zone)]
Charset = Annotated[str, AfterValidator(_charset)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
BaseUrlOrNone = Annotated[str, AfterValidator(lambda value: _base_url(value) if value else value)]
# Lists and answers are signed, and often to be had by plain http alone (RFC 5280 §4.2.1.13).
ListUrl = Annotated[str, AfterValidator(_url)]
ListUrlOrNone = Annotated[str, AfterValidator(lambda value: _url(value) if value else value)]
HttpsUrl = Annotated[str, AfterValidator(_https_url)]
HttpsUrlOrNone = Annotated[str, AfterValidator(lambda value: _https_url(value) if value else value)]
WebhookUrl = Annotated[str, AfterValidator(_webhook_url)]
EmailAddress = Annotated[str, StringConstraints(max_length=254), AfterValidator(_email)]
Matricule = Annotated[str, AfterValidator(_matricule)]
TestAuthority = Annotated[str, AfterValidator(_test_authority)]
RetrieveBase = Annotated[str, AfterValidator(_retrieve_base)]
IndexUrl = Annotated[str, AfterValidator(_index_url)]
Name = Annotated[str, AfterValidator(_name)]
NameOrNone = Annotated[str, AfterValidator(lambda value: _name(value) if value else value)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_text)]
TextOrNone = Annotated[
    str, StringConstraints(max_length=256), AfterValidator(lambda value: _text(value) if value else value)
]
FacilityType = Annotated[Text, AfterValidator(lambda value: _coded("facility-type", value))]
PracticeSetting = Annotated[Text, AfterValidator(lambda value: _coded("practice-setting", value))]
AeTitle = Annotated[str, StringConstraints(min_length=1, max_length=16), AfterValidator(_ae_title)]
AeTitleOrNone = AeTitle | Literal[""]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
SecretFile = Annotated[Path, FileRule.SECRET]
KekFile = Annotated[Path, FileRule.KEK]
PemFile = Annotated[Path, FileRule.PEM]
DatabaseFile = Annotated[Path, FileRule.DATABASE]
CrlFile = Annotated[Path, FileRule.CRL]
XmlFile = Annotated[Path, FileRule.XML]
ReceivedFolder = Annotated[Path, FileRule.FOLDER]
WitnessFile = Annotated[Path, FileRule.WITNESS]
Network = Annotated[str, AfterValidator(_network)]
TRUSTED_LAN: Final = "trusted-lan"
IN_CLEAR_HINT: Final = (
    f'set ca_file, certificate_file and key_file; or, on a network of the site alone, segment = "{TRUSTED_LAN}"'
)
Segment = Literal["", "trusted-lan"]
"""On which network a DICOM peer is: in clear only on a trusted one (PS3.15 B, security §2)."""

Severity = Literal["hold", "warn", "off"]


def file_fault(rule: FileRule, path: Path) -> Fault | None:
    """Why ``path`` is not what ``rule`` asks, None when it is."""
    try:
        match rule:
            case FileRule.SECRET:
                read_secret(path, what=rule.value)
            case FileRule.KEK:
                read_kek(path)
            case FileRule.PEM:
                if not stat.S_ISREG(path.stat().st_mode) or _PEM not in path.read_bytes():
                    return _bad_file(f"{path} holds no PEM certificate", "name a file with certificates")
            case FileRule.CRL:
                crls(path.read_bytes())
            case FileRule.DATABASE | FileRule.FOLDER | FileRule.XML | FileRule.WITNESS:
                if not path.parent.is_dir():
                    return _bad_file(f"{path.parent} is not a folder", "create it, owned by the service")
    except Fault as fault:
        return fault
    except OSError as error:
        return _bad_file(f"{path} cannot be read: {error.strerror}", "check the path and its rights")
    return None


def _bad_file(message: str, hint: str) -> Fault:
    return Broken(message, code="bad-file", hint=hint)
