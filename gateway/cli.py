"""The command ``poterne``: thin; every command reads its configuration, does one thing and says what it found.

Exit codes: 0 done, 1 the checked thing is wrong, 2 bad usage or configuration (file, key and reason named).
Each command imports what it runs inside its own function, so that a question to the queue does not wait for the
libraries of the doors.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer
from typer.main import except_hook

from gateway import account_cli, audit_cli, campaign_cli, case_cli, draw_cli, plan_cli
from gateway.certs import app as certs_app
from gateway.lab import DemoFault
from gateway.manifests import options
from gateway.terminal import AsJson, Conf, Lang, chosen, settings_of, words_of
from security.errors import Fault
from security.startup import protect_memory, require_floors

if TYPE_CHECKING:
    from gateway.i18n import Words
    from gateway.settings import TenantSettings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its markup would swallow [section] names
    help="Poterne, the guarded gate beside a PACS.",
)
index_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The embedded index node (XDS.b registry and repository).",
)
app.add_typer(index_app, name="index")
app.add_typer(account_cli.app, name="accounts")
app.add_typer(audit_cli.app, name="audit")
app.add_typer(campaign_cli.app, name="campaign")
campaign_cli.app.add_typer(plan_cli.app, name="plan")
campaign_cli.app.command("combine")(plan_cli.combine)
campaign_cli.app.command("compare")(plan_cli.compare)
app.add_typer(case_cli.app, name="case")
app.add_typer(draw_cli.app, name="draw")
selftest_app = typer.Typer(rich_markup_mode=None)
app.add_typer(selftest_app, name="selftest", invoke_without_command=True)
queue_app = typer.Typer(rich_markup_mode=None, help="The publication queue.")
app.add_typer(queue_app, name="queue", invoke_without_command=True)
drill_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Rehearse what must work in an emergency.")
app.add_typer(drill_app, name="drill")
pacs_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The PACS beside which this gateway stands.")
app.add_typer(pacs_app, name="pacs")
manifest_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Manifest documents: made from files, checked, converted."
)
app.add_typer(manifest_app, name="manifest")
app.add_typer(certs_app, name="certs")

Tenant = Annotated[str, typer.Option("--tenant", help="Legal entity; needed when there are several.")]
Consent = Annotated[
    int | None, typer.Option("--consent", min=1, help="Number of what two persons agreed on, on the console.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why, for those who read it later; no patient's name.")]
Ready = Annotated[
    Path | None,
    typer.Option("--ready-file", help="Write the bound addresses there, as JSON, once every door is open."),
]


def _announce(ready_file: Path | None, bound: Mapping[str, str]) -> None:
    if ready_file:
        partial = ready_file.with_suffix(".part")
        partial.write_text(json.dumps(dict(bound)))
        partial.rename(ready_file)


@app.command()
def serve(conf: Conf = None, ready_file: Ready = None) -> None:
    """Run the gateway: listen for reports, publish their exams."""
    gc.disable()  # nothing that an import makes is garbage: looking for some takes a sixth of the start
    from gateway import lifecycle, wiring

    gc.freeze()
    gc.enable()

    settings = settings_of(conf)

    async def run() -> None:
        async with wiring.house(settings) as house:
            await lifecycle.serve(
                house, stop_grace_s=settings.outbox.stop_grace_s, announce=lambda bound: _announce(ready_file, bound)
            )

    asyncio.run(run())


@index_app.command("serve")
def index_serve(conf: Conf = None, ready_file: Ready = None) -> None:
    """Run the index node of the configuration's [index_node] section."""
    from gateway import lifecycle, wiring

    settings = settings_of(conf)
    if settings.index_node is None:
        words = words_of(None)
        typer.echo(words("{conf}: no section [index_node] → describe the node to run", conf=conf), err=True)
        raise typer.Exit(2)
    node = settings.index_node

    async def run() -> None:
        async with wiring.index_house(node, settings.certificates) as house:
            await lifecycle.serve(
                house, stop_grace_s=settings.outbox.stop_grace_s, announce=lambda bound: _announce(ready_file, bound)
            )

    asyncio.run(run())


@app.command()
def flows(
    conf: Conf = None,
    as_json: AsJson = False,
    as_rules: Annotated[
        bool, typer.Option("--rules", help="Rules of nftables for this host, which keep zones apart, instead.")
    ] = False,
    lang: Lang = None,
) -> None:
    """The flow matrix: who connects to whom, in which zone, by which port and protocol, proved by what."""
    from gateway import flows as matrix

    raise typer.Exit(matrix.run(settings_of(conf), words_of(lang), as_json=as_json, as_rules=as_rules))


@app.command()
def check(conf: Conf = None, as_json: AsJson = False) -> None:
    """Check the configuration: every problem at once, with file, key and reason."""
    from gateway import check as checking

    raise typer.Exit(checking.report(conf, os.environ, as_json=as_json))


@app.command()
def doctor(
    conf: Conf = None,
    send_test: Annotated[bool, typer.Option(help="Also send one alert marked TEST by every channel.")] = False,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Ask everything the gateway depends on: what is wrong, why, and what to do."""
    from gateway import doctor as examination

    said = words_of(lang).lang
    raise typer.Exit(
        asyncio.run(examination.report(conf, os.environ, lang=said, as_json=as_json, send_test=send_test))
    )


@app.command("support-bundle")
def support_bundle(
    conf: Conf = None,
    out: Annotated[Path | None, typer.Option(help="File to write; it must not exist.")] = None,
    log_file: Annotated[Path | None, typer.Option(help="Log of the gateway, JSON lines: its last lines.")] = None,
    lang: Lang = None,
) -> None:
    """One file for support, without patient data: figures, versions, findings."""
    from gateway import bundle

    code, told = asyncio.run(bundle.run(conf, os.environ, out=out, log_file=log_file, lang=words_of(lang).lang))
    typer.echo(told, nl=False, err=code != 0)
    raise typer.Exit(code)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to write the configuration and its secrets.")] = Path(),
    answer: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Answers a question before it is asked; may be repeated."),
    ] = None,
    no_input: Annotated[
        bool, typer.Option("--no-input", help="Ask nothing: what is not answered is its default.")
    ] = False,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Do not ask the PACS.")] = False,
    lang: Lang = None,
) -> None:
    """A few questions, then a commented configuration in shadow mode, and what to do next."""
    from gateway import init as questions

    given = {}
    for pair in answer or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair}: write key=value", param_hint="--answer")
        given[key] = value

    def ask(text: str, default: str, is_secret: bool) -> str:
        typer.echo(f"\n{text}")
        shown = f"  [{default}]" if default else " "
        told: str = typer.prompt(
            shown, default=default, hide_input=is_secret, show_default=False, prompt_suffix=" > "
        )
        return told

    raise typer.Exit(
        questions.run(
            folder,
            words=words_of(lang),
            ask=None if no_input else ask,
            say=typer.echo,
            given=given,
            probe=not no_probe,
        )
    )


@app.command()
def exam(
    what: Annotated[
        list[str], typer.Argument(metavar="[withdraw|republish|publish] STUDY", help="The StudyInstanceUID.")
    ],
    conf: Conf = None,
    tenant: Annotated[str, typer.Option(help="Legal entity; needed when several know the study.")] = "",
    retry: Annotated[
        str, typer.Option(help="Try it again now, for this reason; accepts nothing that is in question.")
    ] = "",
    reason: Annotated[
        str, typer.Option(help="Why it is withdrawn, republished or published now; kept in the audit trail.")
    ] = "",
    exchanges: Annotated[bool, typer.Option("--exchanges", help="Show what was said to the index, masked.")] = False,
    reveal: Annotated[
        bool,
        typer.Option("--reveal", help="In clear: for users of [exchanges] reveal_users; kept in the audit trail."),
    ] = False,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Why an exam is where it is: each event, decision and exchange with its reason, what is missing, next try.

    withdraw takes it out of the index, until republish lets it back; publish waits for no more images. All three
    need --reason.
    """
    from gateway import commands, views

    settings, words = settings_of(conf), words_of(lang)
    *verb, study_uid = what
    if verb not in ([], ["withdraw"], ["republish"], ["publish"]) or (verb and (retry or not reason)):
        raise typer.BadParameter("expected [withdraw|republish|publish] STUDY, and --reason with each")
    if verb or retry:
        name = views.one_tenant(settings, tenant, words)
        asked, why = (verb[0], reason) if verb else ("retry", retry)
        doing = commands.about_exam(settings, words, asked, tenant=name, study=study_uid, reason=why)
        raise typer.Exit(asyncio.run(doing))
    showing = views.exam(
        settings,
        study_uid,
        words,
        tenant=tenant,
        as_json=as_json,
        with_exchanges=exchanges or reveal,
        in_clear=reveal,
    )
    raise typer.Exit(asyncio.run(showing))


@queue_app.callback()
def queue(context: typer.Context, conf: Conf = None, as_json: AsJson = False, lang: Lang = None) -> None:
    """The publication queue: exams by state, what is paused, what each exam waits for."""
    if context.invoked_subcommand:
        return
    from gateway import views

    raise typer.Exit(asyncio.run(views.queue(settings_of(conf), words_of(lang), as_json=as_json)))


@queue_app.command("pause")
def queue_pause(reason: Reason, conf: Conf = None, tenant: Tenant = "", lang: Lang = None) -> None:
    """Let nothing more begin; what was sent is still asked after. Stays until resume, also through restarts."""
    from gateway import commands, views

    settings, words = settings_of(conf), words_of(lang)
    name = views.one_tenant(settings, tenant, words)
    raise typer.Exit(asyncio.run(commands.pause(settings, words, tenant=name, reason=reason)))


@queue_app.command("resume")
def queue_resume(conf: Conf = None, tenant: Tenant = "", lang: Lang = None) -> None:
    """Let exams begin again."""
    from gateway import commands, views

    settings, words = settings_of(conf), words_of(lang)
    name = views.one_tenant(settings, tenant, words)
    raise typer.Exit(asyncio.run(commands.resume(settings, words, tenant=name)))


@queue_app.command("refused")
def queue_refused(
    conf: Conf = None,
    tenant: Tenant = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 50,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """HL7 messages that were not taken, and why: each is kept, sealed."""
    from gateway import views

    settings = settings_of(conf)
    raise typer.Exit(
        asyncio.run(views.refused(settings, words_of(lang), tenant=tenant, limit=limit, as_json=as_json))
    )


@app.command()
def shadow(
    conf: Conf = None,
    tenant: Annotated[str, typer.Option(help="Legal entity; all of them otherwise.")] = "",
    days: Annotated[int, typer.Option(min=1, max=3650, help="How far to look back.")] = 30,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """What shadow mode would have sent, and why not the rest."""
    from gateway import views

    settings = settings_of(conf)
    raise typer.Exit(
        asyncio.run(views.shadow_report(settings, words_of(lang), tenant=tenant, days=days, as_json=as_json))
    )


@selftest_app.callback(invoke_without_command=True)
def selftest(
    context: typer.Context,
    conf: Conf = None,
    tenant: Tenant = "",
    send: Annotated[bool, typer.Option("--send", help="In shadow mode too: the index really hears of it.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Do not withdraw it at the end.")] = False,
    withdraw: Annotated[str, typer.Option(help="Withdraw the trial exam with this StudyInstanceUID.")] = "",
    limit_s: Annotated[float, typer.Option(min=1, max=3600, help="Seconds each part may take.")] = 900.0,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Publish a trial exam of the test patient, see it in the index, withdraw it."""
    if context.invoked_subcommand:
        return
    from gateway import commands, views

    settings, words = settings_of(conf), words_of(lang)
    raise typer.Exit(
        asyncio.run(
            commands.selftest(
                settings,
                words,
                tenant=views.one_tenant(settings, tenant, words),
                send=send,
                keep=keep,
                withdraw=withdraw,
                limit_s=limit_s,
                as_json=as_json,
            )
        )
    )


@selftest_app.command("attack")
def selftest_attack(
    conf: Conf = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DOOR=HOST:PORT", help="This door instead: ops=, index=, dicom= or hl7=; may be repeated."
        ),
    ] = None,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Send known attacks to this site's own doors and print what each got; exit 1 when one got through."""
    from gateway.attack import command

    settings, words = settings_of(conf), words_of(lang)
    raise typer.Exit(command.report(settings, words, at=at or (), as_json=as_json))


@pacs_app.command("probe")
def pacs_probe(
    name: Annotated[str, typer.Argument(help="PACS; all of the tenant's otherwise.")] = "",
    conf: Conf = None,
    tenant: Tenant = "",
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """What a PACS is able to do, what that means for the configuration, what has changed."""
    from gateway import commands, views

    settings, words = settings_of(conf), words_of(lang)
    named = views.one_tenant(settings, tenant, words)
    raise typer.Exit(asyncio.run(commands.probe(settings, words, tenant=named, pacs=name, as_json=as_json)))


@pacs_app.command("inbox")
def pacs_inbox(conf: Conf = None, tenant: Tenant = "", as_json: AsJson = False, lang: Lang = None) -> None:
    """What came by DICOM and lies here until the PACS shows it, or in quarantine; rejection notes not obeyed."""
    from gateway import received

    settings, words = settings_of(conf), words_of(lang)
    raise typer.Exit(asyncio.run(received.received(settings, words, tenant=tenant, as_json=as_json)))


@app.command()
def backload(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day of the exams.")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day of the exams.")],
    conf: Conf = None,
    tenant: Tenant = "",
    reports: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder of reports, one HL7 message per file.")
    ] = None,
    go: Annotated[bool, typer.Option("--go", help="Do it; otherwise only say what it would do.")] = False,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Old exams at the lowest priority: what stands where, and with --go their reports are taken in."""
    from gateway import commands, views

    settings, words = settings_of(conf), words_of(lang)
    raise typer.Exit(
        asyncio.run(
            commands.load_back(
                settings,
                words,
                tenant=views.one_tenant(settings, tenant, words),
                first=first.date(),
                last=last.date(),
                reports=reports,
                go=go,
                as_json=as_json,
                progress=_progress,
            )
        )
    )


@manifest_app.command("build")
def manifest_build(
    paths: options.Paths,
    profile: options.ProfileOption = None,
    kos: options.KosOut = None,
    fhir: options.FhirOut = None,
    codes: options.Codes = None,
    ins: options.Ins = "",
    ins_authority: options.InsAuthority = options.INS_AUTHORITY,
    patient_issuer: options.PatientIssuer = "",
    accession: options.Accession = "",
    accession_issuer: options.AccessionIssuer = "",
    placer_issuer: options.PlacerIssuer = "",
    institution: options.Institution = "",
    institution_id: options.InstitutionId = "",
    institution_system: options.InstitutionSystem = "",
    retrieve_url: options.RetrieveUrl = "",
    retrieve_location: options.RetrieveLocation = "",
    retrieve_aet: options.RetrieveAet = "",
    viewer_url: options.ViewerUrl = "",
    region: options.Region = None,
    zone: options.Zone = "",
    charset: options.Charset = options.CHARSET,
    force: options.Force = False,
    conf: Conf = None,
    tenant: Tenant = "",
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Make the manifest of a study from its DICOM files; without --kos and --fhir, say what it would hold."""
    from gateway.manifests import build
    from security.clock import SystemClock

    words = words_of(lang)
    wish = build.Wish(
        profile=profile,
        codes=codes or "DCM",
        ins=ins,
        ins_authority=ins_authority,
        patient_issuer=patient_issuer,
        accession=accession,
        accession_issuer=accession_issuer,
        placer_issuer=placer_issuer,
        institution=institution,
        institution_id=institution_id,
        institution_system=institution_system,
        retrieve_url=retrieve_url,
        retrieve_location=retrieve_location,
        retrieve_aet=retrieve_aet,
        viewer_url=viewer_url,
        regions=tuple(region or ()),
        timezone=zone,
        charset=charset,
    )
    code = build.run(
        paths,
        wish,
        build.Outputs(kos=kos, fhir=fhir, force=force),
        words,
        site=_site(conf, tenant, words),
        as_json=as_json,
        clock=SystemClock(),
        progress=_progress,
    )
    raise typer.Exit(code)


@manifest_app.command("check")
def manifest_check(
    document: options.Document, profile: options.ProfileOption = None, as_json: AsJson = False, lang: Lang = None
) -> None:
    """Hold a manifest document against the rules of its form and profile, without any network."""
    from gateway.manifests import checking

    raise typer.Exit(checking.run(document, words_of(lang), profile=profile, as_json=as_json))


@manifest_app.command("convert")
def manifest_convert(
    source: options.Source,
    out: options.Out,
    form: options.FormOption = None,
    profile: options.ProfileOption = None,
    codes: options.Codes = None,
    ins_qualified: options.Qualified = False,
    patient_issuer: options.PatientIssuer = "",
    accession: options.Accession = "",
    accession_issuer: options.AccessionIssuer = "",
    placer_issuer: options.PlacerIssuer = "",
    institution: options.Institution = "",
    institution_id: options.InstitutionId = "",
    institution_system: options.InstitutionSystem = "",
    retrieve_url: options.RetrieveUrl = "",
    retrieve_location: options.RetrieveLocation = "",
    retrieve_aet: options.RetrieveAet = "",
    viewer_url: options.ViewerUrl = "",
    region: options.Region = None,
    force: options.Force = False,
    conf: Conf = None,
    tenant: Tenant = "",
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Write a manifest document again in another form or profile, and say what that one cannot carry."""
    from gateway.manifests import build, conversion
    from security.clock import SystemClock

    words = words_of(lang)
    wish = build.Wish(
        patient_issuer=patient_issuer,
        accession=accession,
        accession_issuer=accession_issuer,
        placer_issuer=placer_issuer,
        institution=institution,
        institution_id=institution_id,
        institution_system=institution_system,
        retrieve_url=retrieve_url,
        retrieve_location=retrieve_location,
        retrieve_aet=retrieve_aet,
        viewer_url=viewer_url,
        regions=tuple(region or ()),
    )
    asked = conversion.Request(
        source=source,
        out=out,
        form=form,
        profile=profile,
        codes=codes,
        is_qualified=ins_qualified,
        force=force,
    )
    site = _site(conf, tenant, words)
    raise typer.Exit(conversion.run(asked, wish, words, site=site, as_json=as_json, clock=SystemClock()))


def _site(conf: Path | None, tenant: str, words: Words) -> TenantSettings | None:
    """The tenant whose site values a document takes; None without --conf: no configuration is looked for."""
    if conf is None:
        return None
    from gateway import views

    settings = settings_of(conf)
    return settings.tenants[views.one_tenant(settings, tenant, words)]


@app.command()
def reconcile(
    conf: Conf = None,
    tenant: Tenant = "",
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day of the exams; all otherwise.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day of the exams.")
    ] = None,
    withdraw_up_to: Annotated[
        int | None,
        typer.Option(
            min=0, help="Accept that many withdrawals, after a run that stopped and was looked at; takes two persons."
        ),
    ] = None,
    consent: Consent = None,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Compare PACS, database and index; mend what differs. Exit code 1 when a person must look."""
    from gateway import commands, views

    settings, words = settings_of(conf), words_of(lang)
    raise typer.Exit(
        asyncio.run(
            commands.reconcile(
                settings,
                words,
                tenant=views.one_tenant(settings, tenant, words),
                first=first.date() if first else None,
                last=last.date() if last else None,
                withdraw_up_to=withdraw_up_to,
                consent=consent,
                as_json=as_json,
                progress=_progress,
            )
        )
    )


@app.command()
def backup(
    file: Annotated[Path | None, typer.Argument(help="New file to write.")] = None,
    conf: Conf = None,
    with_key: Annotated[
        bool,
        typer.Option(
            "--with-key",
            help="Put the key file inside too: whoever has the file then reads patients. Takes two persons.",
        ),
    ] = False,
    consent: Consent = None,
    xdm: Annotated[
        Path | None,
        typer.Option(
            "--xdm",
            help="Instead, export what the index holds for another box: a new .zip, or a folder with one for each"
            " month. It names patients in clear.",
        ),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option("--since", formats=["%Y-%m-%d"], help="With --xdm: exams shown by the index since that day."),
    ] = None,
    study: Annotated[
        list[str] | None, typer.Option("--study", help="With --xdm: only this study; repeat it.")
    ] = None,
    tenant: Tenant = "",
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """One file with a consistent copy of database and configuration, read back and checked; also while serving.

    With --xdm, archives of the published exams for another box instead.
    """
    from gateway import commands, views

    settings, words = settings_of(conf), words_of(lang)
    if (file is None) is (xdm is None) or (xdm is None and (since or study)) or (xdm is not None and with_key):
        raise typer.BadParameter("FILE [--with-key], or --xdm PATH [--since DAY] [--study UID]")
    if xdm is not None:
        raise typer.Exit(
            asyncio.run(
                commands.export_xdm(
                    settings,
                    words,
                    tenant=views.one_tenant(settings, tenant, words),
                    target=xdm.absolute(),
                    since=since.date() if since else None,
                    studies=study or [],
                    as_json=as_json,
                    progress=_progress,
                )
            )
        )
    assert file is not None, "one of the two was given"
    raise typer.Exit(
        asyncio.run(
            commands.back_up(
                settings, words, conf=conf, file=file, with_key=with_key, consent=consent, as_json=as_json
            )
        )
    )


@app.command()
def restore(
    file: Annotated[Path | None, typer.Argument(help="File of poterne backup.")] = None,
    conf: Conf = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of a database, which is kept beside it.")
    ] = False,
    mark: Annotated[
        bool, typer.Option("--mark", help="Only note that the database was restored by other tools (PostgreSQL).")
    ] = False,
    xdm: Annotated[
        list[Path] | None,
        typer.Option(
            "--xdm", help="Instead, take the exams of an XDM archive into the database; repeat for several."
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="With --xdm: check the archive, change nothing.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="With --xdm: do it.")] = False,
    tenant: Tenant = "",
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Put the database of a backup in its place, checked before anything is touched.

    With --xdm, take exams from the archive of another box instead.
    """
    from gateway import commands, views

    settings, words = settings_of(conf), words_of(lang)
    if [file is not None, mark, bool(xdm)].count(True) != 1 or ((plan is apply) if xdm else (plan or apply)):
        raise typer.BadParameter("FILE [--replace], or --mark, or --xdm ARCHIVE with --plan or --apply")
    if xdm:
        raise typer.Exit(
            asyncio.run(
                commands.import_xdm(
                    settings,
                    words,
                    tenant=views.one_tenant(settings, tenant, words),
                    files=[one.absolute() for one in xdm],
                    apply=apply,
                    as_json=as_json,
                    progress=_progress,
                )
            )
        )
    raise typer.Exit(commands.restore(settings, words, file=file, replace=replace, as_json=as_json))


@drill_app.command("restore")
def drill_restore(
    file: Annotated[Path, typer.Argument(help="File of poterne backup, best the last one made by night.")],
    conf: Conf = None,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """Put a backup back on a copy, beside the running gateway, and tell how long that took and what it lacks."""
    from gateway import commands

    settings, words = settings_of(conf), words_of(lang)
    raise typer.Exit(asyncio.run(commands.drill_restore(settings, words, file=file, as_json=as_json)))


def _progress(told: str) -> None:
    """One line that is written over, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{told:<40}\r")
        sys.stderr.flush()


@app.command()
def demo(
    wait_s: Annotated[float, typer.Option(help="Seconds the exams may take to reach their expected states.")] = 30.0,
    fault: Annotated[
        DemoFault | None, typer.Option(help="Break one thing on purpose: the demo must notice and name it.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep the whole site in this new directory.")] = None,
    as_json: AsJson = False,
    lang: Lang = None,
) -> None:
    """A whole site on loopback, from report to index: seven exams, of which five must be indexed.

    One is held for its identity and one waits for its images. Exit code 1 when an exam ends otherwise. On a
    terminal the site then stays up until Ctrl-C.
    """
    from gateway import demo as demonstration

    raise typer.Exit(
        asyncio.run(
            demonstration.run(
                wait_s=wait_s,
                fault=fault,
                keep=keep,
                as_json=as_json,
                stay=sys.stdin.isatty(),
                words=words_of(lang),
            )
        )
    )


def main() -> None:
    """Entry point. A fault that a command did not handle is told with what to do about it, exit 2."""
    from gateway.faults import told

    try:
        require_floors()
        protect_memory()
        app()
    except* Fault as faults:
        for fault in _leaves(faults):
            typer.echo(told(fault, words_of(chosen.get())), err=True)
        sys.exit(2)
    finally:
        if sys.excepthook is except_hook:  # typer's: it quotes the words of a defect
            sys.excepthook = _died


def _died(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell of a defect by type and place, until the settings say how: its words may hold values (T34, T60)."""
    from gateway import telemetry
    from gateway.settings import LogSettings

    telemetry.configure_logging(LogSettings())
    sys.excepthook(kind, error, trace)


def _leaves(group: BaseExceptionGroup[Fault]) -> Iterator[Fault]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    main()
