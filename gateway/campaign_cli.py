"""``poterne campaign``: the commands; what they do and print is in ``gateway.campaign_commands``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.terminal import AsJson, Conf, Lang, settings_of, words_of

if TYPE_CHECKING:
    from gateway.campaign_commands import Asker

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Campaigns of peer audit.")
answers_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Answers to the grid.")
findings_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Findings, apart from answers.")
app.add_typer(answers_app, name="answers")
app.add_typer(findings_app, name="findings")

Tenant = Annotated[str, typer.Option("--tenant", help="Legal entity; needed when there are several.")]
Campaign = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's id.")]
As = Annotated[str, typer.Option("--as", metavar="ROLE", help="For which role this is done, as lead-auditor.")]
Name = Annotated[str, typer.Option("--name", help="Who does it, as the campaign knows them: a token, no full name.")]
Cases = Annotated[list[str] | None, typer.Argument(metavar="CASE", help="All that are not done when none is named.")]


def _asker(conf: Path | None, lang: str | None, tenant: str, campaign: str, role: str, name: str) -> Asker:
    from gateway import views
    from gateway.campaign_commands import Asker

    settings, words = settings_of(conf), words_of(lang)
    of = views.one_tenant(settings, tenant, words)
    return Asker(settings=settings, words=words, tenant=of, campaign=campaign, role=role, name=name)


@app.command("list")
def campaign_list(conf: Conf = None, tenant: Tenant = "", as_json: AsJson = False, lang: Lang = None) -> None:
    """Every campaign and where it is."""
    from gateway import campaign_commands as commands

    raise typer.Exit(asyncio.run(commands.listed(_asker(conf, lang, tenant, "", "", ""), as_json=as_json)))


@app.command("new")
def campaign_new(
    campaign: Campaign,
    title: Annotated[str, typer.Option(help="What people call it.")],
    body: Annotated[str, typer.Option(help="The body that conducts it.")],
    name: Name,
    role: As = "secretariat",
    domain: Annotated[str, typer.Option(help="RAD or RT.")] = "RAD",
    grid: Annotated[str, typer.Option(help="rad-1, rt-1, or a grid as .json or .csv.")] = "rad-1",
    head: Annotated[Path | None, typer.Option(help="The head of a grid that is a table, JSON.")] = None,
    conf: Conf = None,
    tenant: Tenant = "",
    lang: Lang = None,
) -> None:
    """Open a campaign under one version of one grid."""
    from gateway import campaign_commands as commands

    asker = _asker(conf, lang, tenant, campaign, role, name)
    raise typer.Exit(asyncio.run(commands.new(asker, title=title, domain=domain, body=body, grid=grid, head=head)))


@app.command("freeze")
def campaign_freeze(
    campaign: Campaign,
    protocol: Annotated[Path, typer.Argument(metavar="PROTOCOL.json", help="Hashed as it is.")],
    signed: Annotated[list[str], typer.Option("--signed", metavar="ROLE=NAME", help="site-lead and lead-auditor.")],
    name: Name,
    role: As = "secretariat",
    conf: Conf = None,
    tenant: Tenant = "",
    lang: Lang = None,
) -> None:
    """Freeze the protocol that site and auditors signed."""
    from gateway import campaign_commands as commands

    asker = _asker(conf, lang, tenant, campaign, role, name)
    raise typer.Exit(asyncio.run(commands.freeze(asker, protocol, signed)))


@app.command("frame")
def campaign_frame(
    campaign: Campaign,
    frame: Annotated[Path, typer.Argument(metavar="FRAME.csv", help="unit,stratum,practitioner.")],
    name: Name,
    role: As = "site-data-manager",
    conf: Conf = None,
    tenant: Tenant = "",
    lang: Lang = None,
) -> None:
    """Commit to the frame."""
    from gateway import campaign_commands as commands

    raise typer.Exit(asyncio.run(commands.frame(_asker(conf, lang, tenant, campaign, role, name), frame)))


@app.command("draw")
def campaign_draw(
    campaign: Campaign,
    transcript: Annotated[Path, typer.Argument(metavar="TRANSCRIPT.json", help="What poterne draw run wrote.")],
    frame: Annotated[Path, typer.Option("--frame", metavar="FRAME.csv", help="The frame that was committed to.")],
    name: Name,
    role: As = "lead-auditor",
    key: Annotated[str, typer.Option("--public-key", metavar="HEX", help="The key that the site announced.")] = "",
    conf: Conf = None,
    tenant: Tenant = "",
    lang: Lang = None,
) -> None:
    """Verify a draw and take over its cases; again, with more replacements, later. 1 when it does not verify."""
    from gateway import campaign_commands as commands

    asker = _asker(conf, lang, tenant, campaign, role, name)
    raise typer.Exit(asyncio.run(commands.draw(asker, transcript, frame, key)))


@app.command("move")
def campaign_move(
    campaign: Campaign,
    state: Annotated[str, typer.Argument(help="IN_REVIEW, REPORT_DRAFT, CONTRADICTORY, COMMISSION, DECIDED…")],
    name: Name,
    role: As = "lead-auditor",
    conf: Conf = None,
    tenant: Tenant = "",
    lang: Lang = None,
) -> None:
    """Take the campaign one step further, aside or back."""
    from gateway import campaign_commands as commands

    raise typer.Exit(asyncio.run(commands.move(_asker(conf, lang, tenant, campaign, role, name), state)))


@app.command("case")
def campaign_case(
    campaign: Campaign,
    state: Annotated[str, typer.Argument(help="PREPARING, READY, OPENED, ARBITRATION, LOCKED, WITHDRAWN.")],
    name: Name,
    role: As,
    cases: Cases = None,
    conf: Conf = None,
    tenant: Tenant = "",
    lang: Lang = None,
) -> None:
    """Take cases one step further."""
    from gateway import campaign_commands as commands

    asker = _asker(conf, lang, tenant, campaign, role, name)
    raise typer.Exit(asyncio.run(commands.cases(asker, state, cases or ())))


@app.command("declare")
def campaign_declare(
    campaign: Campaign,
    name: Name,
    role: As = "auditor",
    site: Annotated[list[str] | None, typer.Option(help="A site one has a link with.")] = None,
    practitioner: Annotated[list[str] | None, typer.Option(help="A practitioner's pseudonym.")] = None,
    conf: Conf = None,
    tenant: Tenant = "",
    lang: Lang = None,
) -> None:
    """State one's links with sites and practitioners, or, with none named, that there are none."""
    from gateway import campaign_commands as commands

    asker = _asker(conf, lang, tenant, campaign, role, name)
    raise typer.Exit(asyncio.run(commands.declare(asker, site or (), practitioner or ())))


@app.command("assign")
def campaign_assign(
    campaign: Campaign,
    auditor: Annotated[list[str], typer.Option("--auditor", help="Who reads the cases; twice for two readers.")],
    name: Name,
    role: As = "lead-auditor",
    cases: Cases = None,
    conf: Conf = None,
    tenant: Tenant = "",
    lang: Lang = None,
) -> None:
    """Give cases to auditors whom nothing links with them."""
    from gateway import campaign_commands as commands

    asker = _asker(conf, lang, tenant, campaign, role, name)
    raise typer.Exit(asyncio.run(commands.assign(asker, auditor, cases or ())))


@answers_app.command("import")
def answers_import(
    campaign: Campaign,
    answers: Annotated[
        Path, typer.Argument(help="CSV or JSON: case,item,answer,reason,comment,evidence,approved_by.")
    ],
    name: Name,
    role: As = "auditor",
    lead: Annotated[list[str] | None, typer.Option(help="Lead auditor who may approve what does not apply.")] = None,
    conf: Conf = None,
    tenant: Tenant = "",
    lang: Lang = None,
) -> None:
    """Take the answers of one auditor, all of them or none; "service" stands for a case's id."""
    from gateway import campaign_commands as commands

    asker = _asker(conf, lang, tenant, campaign, role, name)
    raise typer.Exit(asyncio.run(commands.answers(asker, answers, lead or ())))


@findings_app.command("import")
def findings_import(
    campaign: Campaign,
    findings: Annotated[Path, typer.Argument(help="CSV or JSON: id,requirement,origin,severity,text[,cites].")],
    name: Name,
    role: As = "lead-auditor",
    conf: Conf = None,
    tenant: Tenant = "",
    lang: Lang = None,
) -> None:
    """State findings at the level of requirements."""
    from gateway import campaign_commands as commands

    raise typer.Exit(asyncio.run(commands.findings(_asker(conf, lang, tenant, campaign, role, name), findings)))


@app.command("decide")
def campaign_decide(
    campaign: Campaign,
    finding: Annotated[str, typer.Argument(help="The finding's id.")],
    decision: Annotated[str, typer.Argument(help="maintained, requalified or withdrawn.")],
    motive: Annotated[str, typer.Option(help="Why.")],
    member: Annotated[list[str], typer.Option("--member", help="Who sat; linked ones neither vote nor count.")],
    name: Name,
    role: As = "commission",
    severity: Annotated[str, typer.Option(help="minor, major or critical, when requalified.")] = "",
    doctrine: Annotated[str, typer.Option(help="The doctrine it rests on.")] = "",
    quorum: Annotated[int, typer.Option(min=1)] = 3,
    conf: Conf = None,
    tenant: Tenant = "",
    lang: Lang = None,
) -> None:
    """Keep the commission's word on a finding."""
    from gateway import campaign_commands as commands

    asker = _asker(conf, lang, tenant, campaign, role, name)
    told = {"severity": severity, "motive": motive, "doctrine": doctrine, "members": member, "quorum": quorum}
    raise typer.Exit(asyncio.run(commands.decide(asker, finding, decision, **told)))


@app.command("site-answer")
def campaign_site_answer(
    campaign: Campaign,
    text: Annotated[str, typer.Argument(help="What the site answers to the draft; no patient's name.")],
    name: Name,
    role: As = "site-lead",
    conf: Conf = None,
    tenant: Tenant = "",
    lang: Lang = None,
) -> None:
    """Keep the site's answer in the contradictory step."""
    from gateway import campaign_commands as commands

    raise typer.Exit(asyncio.run(commands.site_answer(_asker(conf, lang, tenant, campaign, role, name), text)))


@app.command("status")
def campaign_status(
    campaign: Campaign, conf: Conf = None, tenant: Tenant = "", as_json: AsJson = False, lang: Lang = None
) -> None:
    """Where a campaign, its cases and findings are; 1 when a row is not as it was written."""
    from gateway import campaign_commands as commands

    asker = _asker(conf, lang, tenant, campaign, "", "")
    raise typer.Exit(asyncio.run(commands.status(asker, as_json=as_json)))


@app.command("figures")
def campaign_figures(
    campaign: Campaign,
    name: Name,
    role: As = "lead-auditor",
    conf: Conf = None,
    tenant: Tenant = "",
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """The figures as they stand: each rate with its interval, cases, frame and method."""
    from gateway import campaign_commands as commands

    asker = _asker(conf, lang, tenant, campaign, role, name)
    raise typer.Exit(asyncio.run(commands.figures(asker, as_json=as_json)))


@app.command("export")
def campaign_export(
    campaign: Campaign,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the files; made when missing.")],
    name: Name,
    role: As = "lead-auditor",
    with_words: Annotated[
        bool, typer.Option("--with-words", help="Comments and evidence too, and the reviews as FHIR.")
    ] = False,
    conf: Conf = None,
    tenant: Tenant = "",
    lang: Lang = None,
) -> None:
    """Tables and JSON from which a stranger recomputes every figure. That it was exported is recorded."""
    from gateway import campaign_commands as commands

    asker = _asker(conf, lang, tenant, campaign, role, name)
    raise typer.Exit(asyncio.run(commands.export(asker, out, with_words=with_words)))


@app.command("report")
def campaign_report(
    campaign: Campaign,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.html", help="Write the page there.")],
    name: Name,
    role: As = "lead-auditor",
    conf: Conf = None,
    tenant: Tenant = "",
    lang: Lang = None,
) -> None:
    """The first report, as one HTML page that prints. That it was made is recorded."""
    from gateway import campaign_commands as commands

    raise typer.Exit(asyncio.run(commands.report(_asker(conf, lang, tenant, campaign, role, name), out)))
