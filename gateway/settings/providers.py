"""An identity provider: whose tokens are believed, and where people sign in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from gateway.settings.certificates import RevocationSettings, without_source
from gateway.settings.fields import (
    HttpsUrl,
    HttpsUrlOrNone,
    NameOrNone,
    Network,
    PemFile,
    SecretFile,
    Text,
    TextOrNone,
)
from gateway.settings.section import Section

TokenRole = Literal["radiologist", "gateway-peer"]


class IdentityProviderSettings(Section):
    """An identity provider, asked over mutual TLS. Every address stands here; none is taken from a token."""

    title: TextOrNone = Field(default="", description="Its name for people; empty = that of this section.")
    issuer: HttpsUrl = Field(description="Its iss, exactly as its tokens state it.")
    jwks_url: HttpsUrl = Field(description="Where it publishes its keys.")
    algorithms: list[Literal["PS256", "PS384", "ES256", "ES384", "RS256"]] = Field(
        min_length=1, max_length=5, description="Algorithms with which it signs; no other is believed."
    )
    client_id: Text = Field(description="Our client_id there.")
    client_secret_file: SecretFile | None = Field(
        default=None, description="Our secret there, in a file of mode 0600 or less; none = our certificate alone."
    )
    ca_file: PemFile = Field(description="Authorities of its certificate.")
    certificate_file: PemFile = Field(description="Our certificate towards it.")
    key_file: SecretFile = Field(description="Its private key, mode 0600 or less.")
    networks: list[Network] = Field(
        default_factory=list,
        max_length=8,
        description="Networks of one's own where it may be; public addresses always may.",
    )
    revocation: RevocationSettings = Field(
        default_factory=RevocationSettings, description="Whether its certificate was revoked."
    )
    skew_s: int = Field(default=30, ge=0, le=60, description="Seconds its clock may be off.")
    token_life_max_s: int = Field(default=3600, ge=1, le=86_400, description="Seconds between iat and exp, at most.")

    audience: TextOrNone = Field(
        default="", description="Our name in aud of its access tokens; empty = none of them is believed."
    )
    binding: Literal["certificate", "introspection"] = Field(
        default="certificate",
        description="What ties an access token to its bearer: the certificate it names (RFC 8705), or, for a network "
        "that has bearer tokens alone, mutual TLS and the provider's word on each.",
    )
    introspection_url: HttpsUrlOrNone = Field(
        default="", description="Where it is asked about a token (RFC 7662); empty = nowhere."
    )
    introspection_cache_s: float = Field(
        default=30.0, ge=0, le=60, description="Seconds its yes is believed, never past exp."
    )
    scopes: list[Text] = Field(
        default_factory=list, max_length=16, description="Scopes that an access token must have, all of them."
    )
    roles: dict[str, TokenRole] = Field(
        default_factory=dict, description="Role here by system|code, or code, of a token's subject_role (IUA)."
    )
    role: Literal["", "radiologist", "gateway-peer"] = Field(
        default="", description="Role of an access token that states none; empty = it is refused."
    )
    purpose: Literal["", "treatment"] = Field(
        default="", description="Purpose of an access token that states none; empty = it is refused."
    )
    tenant: NameOrNone = Field(default="", description="Legal entity whose exams its tokens may reach; empty = all.")

    authorization_url: HttpsUrlOrNone = Field(default="", description="Where people sign in; empty = nobody does.")
    token_url: HttpsUrlOrNone = Field(default="", description="Where a code is traded.")
    userinfo_url: HttpsUrlOrNone = Field(default="", description="Where it is asked about a person; empty = nowhere.")
    end_session_url: HttpsUrlOrNone = Field(default="", description="Where people sign out; empty = nowhere.")
    redirect_uri: HttpsUrlOrNone = Field(
        default="", description="Address of ours to which it sends people back; no other provider's."
    )
    answer_iss: Literal["metadata", "always"] = Field(
        default="metadata",
        description="When what it sends back must state iss (RFC 9207): if its metadata say that it does, or always.",
    )
    login_scopes: list[Text] = Field(
        default_factory=lambda: ["openid"], min_length=1, max_length=16, description="Scopes asked for at a login."
    )
    login_level: TextOrNone = Field(
        default="", description="acr asked for and demanded, such as eidas1; empty = any."
    )

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        yield from without_source(table)
        if table.get("binding") == "introspection" and not table.get("introspection_url"):
            yield (
                "introspection_url",
                "is absent though its tokens are bearer tokens",
                "name it: such a token counts only while the provider vouches for it",
            )
        if not table.get("audience") and not table.get("authorization_url"):
            yield (
                "audience",
                "is absent and so is authorization_url: this provider would be good for nothing",
                "set audience to believe its access tokens, authorization_url to let people sign in",
            )
        for key in ("token_url", "redirect_uri"):
            if table.get("authorization_url") and not table.get(key):
                yield key, "is absent though people sign in there", "name it as the provider knows it"
        scopes = table.get("login_scopes", ["openid"])
        if isinstance(scopes, list) and "openid" not in scopes:
            yield "login_scopes", "does not hold openid", "add it: without it nobody is identified"

    @property
    def address(self) -> str:
        """Where it is asked."""
        return self.jwks_url


def providers_apart(table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The rules between providers: one issuer and one redirect address each (RFC 9700 §4.4), which the console
    serves over TLS; tenants that exist."""
    providers = table.get("identity_providers")
    known = table.get("tenants")
    seen: dict[tuple[str, object], str] = {}
    for name, provider in providers.items() if isinstance(providers, Mapping) else ():
        if not isinstance(provider, Mapping):
            continue
        for key in ("issuer", "redirect_uri"):
            value = provider.get(key)
            if isinstance(value, str) and value and seen.setdefault((key, value), name) != name:
                where = f"identity_providers.{seen[key, value]}.{key}"
                yield f"identity_providers.{name}.{key}", f"is that of {where}", "give each provider its own"
        yield from _way_back(name, provider, table.get("ops"))
        tenant = provider.get("tenant")
        if tenant and tenant not in (known if isinstance(known, Mapping) else {}):
            yield f"identity_providers.{name}.tenant", "is no legal entity of this configuration", "name one, or none"


def _way_back(name: str, provider: Mapping[str, Any], ops: object) -> Iterator[tuple[str, str, str]]:
    """People come back to an address that the console has."""
    stated = provider.get("redirect_uri")
    if not provider.get("authorization_url") or not isinstance(stated, str) or not stated:
        return
    key, table = f"identity_providers.{name}", ops if isinstance(ops, Mapping) else {}
    if not table.get("certificate_file"):
        yield (
            f"{key}.authorization_url",
            "is set though the console speaks no TLS: nobody could come back from there",
            "name [ops] certificate_file and key_file",
        )
    parts = urlsplit(stated)
    names = table.get("names")
    known = [*(names if isinstance(names, list) else []), str(table.get("listen", "")).rpartition(":")[0].strip("[]")]
    if parts.path != f"/console/login/{name}/back" or parts.query or parts.hostname not in known:
        yield (
            f"{key}.redirect_uri",
            "is no address of this console",
            f"give https://NAME/console/login/{name}/back, with a NAME of [ops] names",
        )
