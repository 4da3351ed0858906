"""``poterne certs``: an authority for closed networks, pairs renewed and tried before they are switched to, what is
known of revocation, the white list. Thin: each command does one thing and says what came of it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway import key_cli
from gateway.certificates.links import Link, Pair, links, pair_of, pairs
from gateway.certificates.pairs import Renewal, described
from gateway.facts import operator
from gateway.i18n import N_, Words
from gateway.settings import Settings
from gateway.terminal import AsJson, Conf, Lang, settings_of, words_of
from gateway.whitelist import rows
from gateway.whitelist.document import Box, difference
from indexer.ports import EntryUnknown
from indexer.study import Unknown
from security.clock import SystemClock
from security.errors import Unavailable
from security.identity import Uid
from security.keys.authority import BOTH, CLIENT_AUTH, SERVER_AUTH, Authority
from security.keys.revocation import certificates_in
from security.secrets import create_private

if TYPE_CHECKING:
    from gateway.certificates.rehearsal import Call
    from gateway.certificates.watch import TrustedLinks
    from gateway.whitelist.watch import WhiteListWatch

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Certificates: authority, pairs, revocation.")
ca_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="An authority for labs and closed networks.")
list_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The signed white list of the network.")
app.add_typer(ca_app, name="ca")
app.add_typer(key_cli.app, name="keys")
app.add_typer(list_app, name="whitelist")

Folder = Annotated[Path, typer.Argument(help="Folder of the authority.")]
LinkKey = Annotated[str, typer.Argument(metavar="PAIR", help="Section of the pair, such as tenants.chu.index.")]
Host = Annotated[list[str] | None, typer.Option("--host", help="Host name or address; may be repeated.")]
Days = Annotated[int, typer.Option("--days", min=1, max=3650, help="Days of validity.")]


def _now() -> datetime:
    return datetime.now(UTC)


# ── authority of one's own ───────────────────────────────────────────────────────────────────────────────────


@ca_app.command("init")
def ca_init(
    folder: Folder,
    name: Annotated[str, typer.Option(help="Common name.")] = "Poterne local CA",
    organization: Annotated[str, typer.Option(help="Organization.")] = "Poterne",
    days: Days = 3650,
    lang: Lang = None,
) -> None:
    """Make an authority: its key stays in the folder, mode 0600."""
    made = Authority.create(folder, now=_now(), name=name, organization=organization, days=days)
    words = words_of(lang)
    typer.echo(words("authority made: {file}; give this file, never its key", file=made.certificate))


@app.command()
def issue(
    folder: Folder,
    name: Annotated[str, typer.Argument(help="Common name, and name of the files.")],
    host: Host = None,
    only: Annotated[
        str, typer.Option(metavar="client|server|sign", help="What it may do; client and server else.")
    ] = "",
    days: Days = 365,
    request: Annotated[
        Path | None, typer.Option(help="Certify this request (PKCS #10) instead of a new key.")
    ] = None,
    lang: Lang = None,
) -> None:
    """Issue a certificate from the authority in FOLDER: a new pair, or the certificate for a request."""
    purposes = {"": BOTH, "client": (CLIENT_AUTH,), "server": (SERVER_AUTH,), "sign": ()}.get(only)
    if purposes is None:
        raise typer.BadParameter("client, server, sign", param_hint="--only")
    authority, now = Authority.open(folder), _now()
    begin, end = now - timedelta(hours=1), now + timedelta(days=days)
    if request is not None:
        target = folder / f"{name}.pem"
        pem = authority.certify(request.read_bytes(), purposes=purposes, not_before=begin, not_after=end)
        create_private(target, pem + authority.certificate.read_bytes())
    else:
        pair = authority.issue(name, hosts=tuple(host or ()), purposes=purposes, not_before=begin, not_after=end)
        target = pair.certificate
    words = words_of(lang)
    typer.echo(words("issued: {file}", file=target))


@app.command()
def revoke(
    folder: Folder,
    certificate: Annotated[
        list[Path] | None, typer.Argument(help="Certificates to revoke; none: a fresh list.")
    ] = None,
    days: Days = 30,
    lang: Lang = None,
) -> None:
    """Revoke certificates of the authority in FOLDER, or only renew its list before that ends."""
    taken = [certificates_in(path.read_bytes())[0] for path in certificate or ()]
    made = Authority.open(folder).revoke(taken, now=_now(), days=days)
    words = words_of(lang)
    typer.echo(words("revocation list: {file}; bring it to every peer (crl_file)", file=made))


# ── pairs ────────────────────────────────────────────────────────────────────────────────────────────────────


def _renewal(settings: Settings, key: str) -> Renewal:
    return Renewal.of(pair_of(settings, key), settings.certificates.folder)


@app.command()
def csr(
    key: LinkKey,
    name: Annotated[str, typer.Option(help="Common name.")],
    organization: Annotated[str, typer.Option(help="Organization.")] = "",
    unit: Annotated[str, typer.Option(help="Organizational unit, such as the identifier of the legal entity.")] = "",
    host: Host = None,
    conf: Conf = None,
    lang: Lang = None,
) -> None:
    """Make a new key, which stays here, and the request for its certificate."""
    settings = settings_of(conf)
    made = _renewal(settings, key).ask(
        name=name, organization=organization or "Poterne", unit=unit, hosts=tuple(host or ())
    )
    words = words_of(lang)
    typer.echo(words("request: {file}; take it to the authority, then: poterne certs import", file=made))


@app.command("import")
def import_(
    key: LinkKey,
    file: Annotated[Path, typer.Argument(help="The certificate and its issuers (PEM).")],
    authorities: Annotated[Path | None, typer.Option(help="More authorities that complete its chain (PEM).")] = None,
    conf: Conf = None,
    lang: Lang = None,
) -> None:
    """Take the certificate that the authority issued: refused with the reason when it cannot serve."""
    settings = settings_of(conf)
    link = links(settings).get(key)
    more = certificates_in(authorities.read_bytes()) if authorities else ()
    more += certificates_in(link.ca_file.read_bytes()) if link else ()
    taken = _renewal(settings, key).receive(
        file.read_bytes(), side=link.side if link else None, authorities=more, now=_now()
    )
    words = words_of(lang)
    typer.echo(words("taken: {sha256}; try it: poterne certs rehearse", sha256=described(taken)))


@app.command()
def rehearse(key: LinkKey, conf: Conf = None, lang: Lang = None) -> None:
    """Try the new pair on a real handshake; the pair in use is not touched."""
    from gateway.certificates import rehearsal

    settings = settings_of(conf)
    renewal = _renewal(settings, key)
    waiting, link = renewal.waiting(), links(settings).get(key)
    said = (
        rehearsal.sign(waiting, SystemClock())
        if link is None
        else asyncio.run(
            rehearsal.rehearse(
                link, waiting, certificates=settings.certificates, clock=SystemClock(), call=_call(settings, link)
            )
        )
    )
    renewal.note_rehearsed()
    words = words_of(lang)
    typer.echo(words("the new pair serves: {said}", said=said))


@app.command()
def switch(
    key: LinkKey,
    unrehearsed: Annotated[bool, typer.Option("--unrehearsed", help="Although it was not tried.")] = False,
    conf: Conf = None,
    lang: Lang = None,
) -> None:
    """Put the new pair in place of the one in use; a running gateway takes it within seconds."""
    _renewal(settings_of(conf), key).switch(unrehearsed=unrehearsed)
    words = words_of(lang)
    typer.echo(words("switched; to take it back: poterne certs rollback"))


@app.command()
def rollback(key: LinkKey, conf: Conf = None, lang: Lang = None) -> None:
    """Put the previous pair back."""
    _renewal(settings_of(conf), key).roll_back()
    words = words_of(lang)
    typer.echo(words("the previous pair is in use again"))


def _call(settings: Settings, link: Link) -> Call | None:
    """The harmless question of a client's link."""
    from gateway.peers import index_client, pacs_source

    _, tenant, _, *pacs = (*link.key.split("."), "", "")
    if link.kind == "index":

        async def ask_index(context: ssl.SSLContext) -> str:
            client = index_client(settings.tenants[tenant], secure=context)
            try:
                answer = await client.find_document("2.25.1")
            finally:
                await client.aclose()
            if isinstance(answer, EntryUnknown):
                raise Unavailable(
                    f"the index did not answer ({answer.reason}: {answer.detail})",
                    code="rehearsal-failed",
                    hint="see what it expects; the pair in use was not touched",
                )
            return "ITI-18, ITI-67"

        return ask_index
    if link.kind in {"pacs", "pacs-http"}:

        async def ask_pacs(context: ssl.SSLContext) -> str:
            source = pacs_source(pacs[0], settings.tenants[tenant].pacs[pacs[0]], context)
            try:
                answer = await source.find(Uid("2.25.1"))
            finally:
                await source.close()
            if isinstance(answer, Unknown):
                raise Unavailable(
                    f"the PACS did not answer ({answer.reason})",
                    code="rehearsal-failed",
                    hint="see what it expects; the pair in use was not touched",
                )
            return "C-FIND"

        return ask_pacs
    if link.kind == "identity-provider":
        from gateway.providers.channel import Channel

        async def ask_provider(context: ssl.SSLContext) -> str:
            await Channel(settings.identity_providers[tenant], context).keyring()
            return "JWKS"

        return ask_provider
    return None


@app.command()
def show(conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """Every pair of ours: whose, until when, its chain, what is known of revocation, what waits."""
    from gateway.certificates.watch import TrustedLinks

    settings, words = settings_of(conf), words_of(lang)
    opened = TrustedLinks(links(settings), settings.certificates, SystemClock())
    asyncio.run(opened.refresh())
    facts = [_shown(settings, pair, opened) for pair in pairs(settings).values()]
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    for one in facts:
        typer.echo(one["pair"])
        typer.echo(
            "  "
            + words(
                "{subject}, until {day} ({days} days)", subject=one["subject"], day=one["until"], days=one["days"]
            )
        )
        typer.echo("  " + words("chain: {chain}", chain=" ← ".join(one["chain"]) or words("not complete in ca_file")))
        for held in one["lists"]:
            typer.echo("  " + words("list of {issuer}, until {until}", **held))
        if one["unknown"]:
            typer.echo("  " + words("nothing known: {rule}", rule=one["unknown"]))
        typer.echo("  " + words("revocation of our own: {state}", state=one["state"]))
        for address in one["named"]:
            typer.echo("  " + words("its authority publishes at {address}", address=address))
        if one["waits"]:
            typer.echo("  " + words("waiting: {what}", what=one["waits"]))


def _shown(settings: Settings, pair: Pair, opened: TrustedLinks) -> dict[str, Any]:
    own = certificates_in(pair.certificate_file.read_bytes())[0]
    link = opened.link(pair.key)
    der = own.public_bytes(Encoding.DER)
    chain = link.trust.chain(der) if link else ()
    waits = ""
    if settings.certificates.folder is not None:
        renewal = Renewal.of(pair, settings.certificates.folder)
        waits = "certificate" if renewal.certificate.exists() else "request" if renewal.key.exists() else ""
    return {
        "pair": pair.key,
        "subject": own.subject.rfc4514_string(),
        "sha256": described(own),
        "until": f"{own.not_valid_after_utc:%Y-%m-%d}",
        "days": (own.not_valid_after_utc - _now()) // timedelta(days=1),
        "chain": [one.subject.rfc4514_string() for one in chain[1:]],
        "state": (link.trust.refuses(der) or "good") if link and chain else "not of this link's authorities",
        "unknown": link.link.revocation.unknown if link and not link.trust.lists() else "",
        "lists": [
            {"issuer": one.crl.issuer.rfc4514_string(), "until": f"{one.next_update:%Y-%m-%d %H:%M}"}
            for one in (link.trust.lists() if link else ())
        ],
        "named": list(_named(own)),
        "waits": waits,
    }


def _named(certificate: x509.Certificate) -> Iterator[str]:
    """Addresses of lists and responders that a certificate names: for a person to configure, never followed (T26)."""
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.CRLDistributionPoints):
            yield from (str(place.value) for point in value for place in point.full_name or ())
        elif isinstance(value, x509.AuthorityInformationAccess):
            yield from (str(point.access_location.value) for point in value)


# ── white list ───────────────────────────────────────────────────────────────────────────────────────────────


@list_app.command("refresh")
def whitelist_refresh(conf: Conf = None, lang: Lang = None) -> None:
    """Look for the list now; one that is refused changes nothing."""
    from gateway import orders
    from gateway.whitelist.watch import no_white_list

    settings, words = settings_of(conf), words_of(lang)
    if settings.white_list is None:
        raise no_white_list()

    async def look() -> dict[str, Any]:
        async with orders.orders(settings) as order:
            actor = operator()
            return dict(await order("white-list-look", {"actor": actor}))

    outcome = asyncio.run(look())
    said = N_("another list is in use: {boxes} boxes") if outcome["is_new"] else N_("unchanged: {boxes} boxes")
    typer.echo(words(said, boxes=outcome["boxes"]))


@list_app.command("show")
def whitelist_show(conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """The list in use, verified again from the stored bytes, and how the last look ended; exit 1 without one."""
    settings, words = settings_of(conf), words_of(lang)
    (held, *_), watch, look = asyncio.run(_held(settings, words, 1))
    if held is None:
        typer.echo(words("no list is held; last look: {code}", code=look.code if look else "-"))
        raise typer.Exit(1)
    content = watch.reread(held)
    if as_json:
        facts = {
            "generated": content.generated_at.isoformat(),
            "signer": held.signer,
            "signed": held.signed_at.isoformat(),
            "taken": held.taken_at.isoformat(),
            "last_look": {"at": look.at.isoformat(), "code": look.code} if look else None,
            "boxes": [_facts(box) for box in content.boxes.values()],
        }
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    typer.echo(
        words(
            "made {generated}, signed by {signer}, taken {taken}",
            generated=f"{content.generated_at:%Y-%m-%d %H:%M}",
            signer=held.signer,
            taken=f"{held.taken_at:%Y-%m-%d %H:%M}",
        )
    )
    if look and look.code:
        typer.echo(
            words(
                "since {moment} no newer one was taken: {code}", moment=f"{look.since:%Y-%m-%d %H:%M}", code=look.code
            )
        )
    for box in content.boxes.values():
        typer.echo(f"  {box.identifier}  {box.api_host}  {box.name}")


@list_app.command("diff")
def whitelist_diff(conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """What the list in use changed against the one before it."""
    settings, words = settings_of(conf), words_of(lang)
    held, watch, _ = asyncio.run(_held(settings, words, 2))
    if held[0] is None:
        typer.echo(words("no list is held; last look: {code}", code="-"))
        raise typer.Exit(1)
    before = watch.reread(held[1]) if len(held) > 1 and held[1] is not None else None
    changes = difference(before, watch.reread(held[0]))
    if as_json:
        facts = {
            "added": [_facts(box) for box in changes.added],
            "removed": [_facts(box) for box in changes.removed],
            "changed": [[_facts(old), _facts(new)] for old, new in changes.changed],
        }
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    for sign, listed in (("+", changes.added), ("-", changes.removed), ("~", [new for _, new in changes.changed])):
        for box in listed:
            typer.echo(f"{sign} {box.identifier}  {box.api_host}  {box.name}  {box.certificate_dn}")


async def _held(
    settings: Settings, words: Words, count: int
) -> tuple[tuple[rows.Held | None, ...], WhiteListWatch, rows.Look | None]:
    from gateway.views import reading
    from gateway.whitelist.watch import WhiteListWatch, no_white_list

    if settings.white_list is None:
        raise no_white_list()
    async with reading(settings, words) as store:
        watch = WhiteListWatch(settings.white_list, settings.certificates, store=store, clock=SystemClock())
        found = await store.read(lambda tx: rows.held(tx, count))
        look = await store.read(rows.look)
    return found or (None,), watch, look


def _facts(box: Box) -> dict[str, str]:
    return {
        "identifier": box.identifier,
        "db": box.api_host,
        "vi": box.viewer_host,
        "name": box.name,
        "certificate": box.certificate_dn,
        "changed": box.changed_at.isoformat(),
    }
