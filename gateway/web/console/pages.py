"""The pages of the console and what their forms do. The house answers through ``Desk``; nothing is decided here.

Invariants:

* every route is an action of the policy, below, or it answers nobody (T46);
* an identity leaves only after the desk has made the access durable in the audit trail, and once per request;
* a change is answered by a redirect (303), so that a reload repeats nothing;
* no patient value stands in an address.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.i18n import N_, Words
from gateway.providers.signin import RelyingParty
from gateway.web import details, vocabulary
from gateway.web.console import views
from gateway.web.console.agreements import Agreements
from gateway.web.console.entrance import Entrance, Reception
from gateway.web.console.federation import Federation
from gateway.web.desk import Desk, TenantFacts
from gateway.web.guard import guard
from gateway.web.session import LOOPBACK_HOSTS, Sessions
from gateway.web.shell import ALLOWED, SESSION, Shell, add_page_headers, failures_as_pages, see_other
from indexer import release
from indexer.exams import Wanted
from indexer.timeline import WAITING_FOR_IMAGES, ExamState
from security.clock import Clock
from security.errors import BadInput, Refused
from security.gatekeeper import Routes, resource_of
from security.policy import Action, Allow, Purpose, Tell, Zone, decide, untold

log = structlog.get_logger()

PREFIX: Final = "/console"
_HELD_LINES = 10
_TENANT = "{tenant:[a-z][a-z0-9_-]*}"
_NUMBER = "{number:[1-9][0-9]{0,17}}"
_SIDE = "{side:request|answer}"
_EXAM = _TENANT + "/{study:[0-9.]{1,64}}"

DONE: Final[Mapping[str, str]] = {
    "compared-not-needed": N_("This exam is not held by an identity any more: there is nothing to compare."),
    "paused": N_("Paused. Nothing of this tenant is sent until somebody resumes it."),
    "released": N_("Released. The exam goes on by itself; what follows shows below."),
    "resumed": N_("Resumed. What waited is being sent."),
    "retried": N_("Asked for. The exam is tried again now; what follows shows below."),
    "taken-out": N_("Asked for. The exam leaves the index and stays out; what follows shows below."),
    "let-in": N_("Asked for. The exam is looked at again; what follows shows below."),
    "glass-broken": N_("The glass is broken: people were told. You may look at identities until it ends."),
    "hurried": N_("Asked for. The exam waits for no more images; what follows shows below."),
}
"""What a page says after a change, by the word in its address."""


def mount_console(
    app: web.Application,
    desk: Desk,
    reception: Reception,
    *,
    idle_s: float,
    hosts: Collection[str],
    clock: Clock,
    tell: Tell = untold,
    parties: Mapping[str, RelyingParty] | None = None,
) -> Routes:
    """Serve the console under ``/console`` of the ``ops`` listener; what each of its addresses is for the policy.

    Args:
        app: the listener's application; nothing is served yet.
        desk: what the house answers.
        clock: measures sessions and tries, and says now.
        reception: the accounts that may sign in.
        idle_s: seconds without a click after which a session closes.
        tell: told of each refusal.
        hosts: names and addresses of the listener, beside those of this machine.
        parties: the identity providers at which people may sign in, by name.
    """
    shell = Shell(prefix=PREFIX, packages=["gateway.web.console"], facts={"idle_s": idle_s})
    console = web.Application()
    sessions = Sessions(clock=clock, idle_s=idle_s)
    known = parties or {}
    entrance = Entrance(shell=shell, desk=desk, sessions=sessions, reception=reception, parties=known)
    federation = Federation(shell=shell, entrance=entrance, entry=reception.entry, parties=known, tell=tell)
    agreements = Agreements(shell=shell, desk=desk, reception=reception, clock=clock)
    pages = _Pages(shell=shell, desk=desk, clock=clock)
    console.middlewares.append(failures_as_pages(shell, vocabulary.fault))
    table = [*entrance.routes(), *federation.routes(), *agreements.routes(), *pages.routes()]
    routes: dict[tuple[str, str], Action] = {}
    for method, path, handler, action in table:
        add = console.router.add_get if method == "GET" else console.router.add_post
        where = add(path, handler).resource
        assert where is not None
        for each in ("GET", "HEAD") if method == "GET" else ("POST",):
            routes[each, PREFIX + where.canonical] = action
    gatekeeper = guard(
        shell,
        sessions,
        hosts={*hosts, *LOOPBACK_HOSTS},
        routes=routes,
        zone=Zone.OPS,
        standing=reception.entry.standing,
        emergency=reception.glass.holding,
        tell=tell,
    )
    console.middlewares.append(gatekeeper)
    console.on_response_prepare.append(add_page_headers)
    app.router.add_get("/", _to_console)
    app.router.add_get(PREFIX, _to_console)  # before the prefix takes it
    app.add_subapp(PREFIX, console)
    return routes


async def _to_console(_request: web.Request) -> web.Response:
    return see_other(f"{PREFIX}/")


class _Pages:
    """The handlers of one console."""

    def __init__(self, *, shell: Shell, desk: Desk, clock: Clock) -> None:
        self._shell = shell
        self._desk = desk
        self._clock = clock

    def routes(self) -> list[tuple[str, str, Any, Action]]:
        """Method, path, handler and the action it is for the policy."""
        return [
            ("GET", "/static/{name}", self.static, Action.PAGE_OPEN),
            ("GET", "/accessibility", self.accessibility, Action.PAGE_OPEN),
            ("GET", "/", self.exams, Action.EXAM_READ),
            ("GET", f"/exams/{_EXAM}", self.exam, Action.EXAM_READ),
            ("GET", f"/exams/{_EXAM}/exchanges/{_NUMBER}", self.exchange, Action.EXAM_READ),
            ("GET", f"/exams/{_EXAM}/exchanges/{_NUMBER}/{_SIDE}", self.raw, Action.EXCHANGE_REVEAL),
            ("POST", f"/exams/{_EXAM}/retry", self.retry, Action.EXAM_RETRY),
            ("POST", f"/exams/{_EXAM}/withdraw", self.withdraw, Action.EXAM_WITHDRAW),
            ("POST", f"/exams/{_EXAM}/republish", self.republish, Action.EXAM_REPUBLISH),
            ("POST", f"/exams/{_EXAM}/publish", self.publish, Action.EXAM_REPUBLISH),
            ("GET", "/held", self.held, Action.EXAM_READ),
            ("GET", f"/held/{_EXAM}", self.compare, Action.IDENTITY_READ),
            ("POST", f"/held/{_EXAM}/release", self.release, Action.EXAM_RELEASE),
            ("POST", f"/tenants/{_TENANT}/pause", self.pause, Action.TENANT_PAUSE),
            ("POST", f"/tenants/{_TENANT}/resume", self.resume, Action.TENANT_PAUSE),
        ]

    # -- open to everybody ---------------------------------------------------------------------------------

    async def static(self, request: web.Request) -> web.Response:
        return await self._shell.static(request)

    async def accessibility(self, request: web.Request) -> web.Response:
        return self._shell.page(request, "accessibility.html", section="accessibility")

    # -- exams ---------------------------------------------------------------------------------------------

    async def exams(self, request: web.Request) -> web.Response:
        """How many stand where, and the list."""
        return await self._exams(request)

    async def _exams(
        self, request: web.Request, *, pause: Mapping[str, str] | None = None, status: int = 200
    ) -> web.Response:
        said, now = self._shell.words(request), self._clock.now()
        tenants = await self._tenants(request)
        query = request.query if request.method != "POST" else {}
        wanted, errors = views.wanted_exams(query, tenants)
        if not wanted.tenant:
            wanted = replace(wanted, tenant=request[SESSION].tenant)
        counts = await self._desk.counts(wanted.tenant)
        found = await self._desk.page(wanted)
        return self._shell.page(
            request,
            "exams.html",
            status=400 if errors else status,
            at=f"{PREFIX}/" if request.method == "POST" else "",
            section="exams",
            live=f"{PREFIX}/?{views.query_of(query, before=wanted.before)}",
            done=self._done(request),
            now=views.moment(now, now, _first_zone(tenants), said),
            tenants=tenants,
            tiles=views.tiles(counts, wanted, PREFIX),
            reasons=views.reasons(counts, wanted.reason, said),
            states=list(vocabulary.STATES.items()),
            query={key: query.get(key, "") for key in ("tenant", "state", "reason", "study", "since", "until")},
            errors=errors,
            filtered=wanted != Wanted(limit=wanted.limit, before=wanted.before, tenant=request[SESSION].tenant),
            rows=[views.row(line, now, tenants.get(line.tenant), said, PREFIX) for line in found.lines],
            older=f"{PREFIX}/?{views.query_of(query, before=found.next)}" if found.next else "",
            newest=f"{PREFIX}/?{views.query_of(query)}" if wanted.before else "",
            pause=pause or {},
            **await self._banners(tenants, said),
        )

    async def exam(self, request: web.Request) -> web.Response:
        """One exam: where it stands, what it lacks, how it got there."""
        return await self._exam(request)

    async def _exam(
        self, request: web.Request, *, field: str = "", wrong: str = "", text: str = "", refused: str = ""
    ) -> web.Response:
        """The page of one exam. ``field``: the form that was sent, by its field; ``wrong``: what must be corrected in
        it, ``text``: what it held, ``refused``: why it was not done."""
        said, now = self._shell.words(request), self._clock.now()
        tenant, study = _named(request)
        tenants = await self._tenants(request)
        found = await self._desk.exam(tenant, study) if tenant in tenants else None
        if found is None:
            raise web.HTTPNotFound
        zone = tenants[tenant].zone
        steps = views.steps(found, now, zone, said)
        every = "all" in request.query
        return self._shell.page(
            request,
            "exam.html",
            status=409 if refused else 400 if wrong else 200,
            at=f"{PREFIX}/exams/{tenant}/{study}" if request.method == "POST" else "",
            section="exams",
            live=f"{PREFIX}/exams/{tenant}/{study}{'?all=1' if every else ''}",
            done=self._done(request),
            now=views.moment(now, now, zone, said),
            tenant=tenant,
            title=tenants[tenant].title,
            study=study,
            exam=found,
            word=vocabulary.STATES[found.state.value],
            reason=vocabulary.reason(found.reason, said),
            missing=said(found.missing),
            next_try=views.moment(found.next_try, now, zone, said) if found.next_try else None,
            overdue=bool(found.next_try and found.next_try <= now),
            steps=steps if every else steps[: views.STEPS_MAX],
            hidden_steps=0 if every else max(0, len(steps) - views.STEPS_MAX),
            exchanges=views.exchanges(
                await self._desk.exchanges(tenant, study), now, zone, said, f"{PREFIX}/exams/{tenant}/{study}"
            ),
            next_step=details.next_step(views.turn(found, tenants[tenant]), said, zone),
            may_retry=views.may_retry(found),
            waits_for_images=found.reason in WAITING_FOR_IMAGES,
            is_out=found.state is ExamState.WITHDRAWN or found.reason == "kept-out",
            compare=f"{PREFIX}/held/{tenant}/{study}"
            if found.state is ExamState.HELD and views.is_about_identity(found.reason)
            else "",
            errors={field: wrong} if wrong else {},
            field=field,
            text=text,
            refused=refused,
            **await self._banners(tenants, said, tenant, found.reason),
        )

    async def exchange(self, request: web.Request) -> web.Response:
        """One exchange with the index, masked."""
        tenant, study = await self._known(request)
        found = await self._desk.exchange(tenant, study, int(request.match_info["number"]))
        if found is None:
            raise web.HTTPNotFound
        said, now = self._shell.words(request), self._clock.now()
        tenants = await self._tenants(request)
        here = f"{PREFIX}/exams/{tenant}/{study}"
        (row,) = views.exchanges([found.listed], now, tenants[tenant].zone, said, here)
        return self._shell.page(
            request,
            "exchange.html",
            section="exams",
            tenant=tenant,
            study=study,
            back=here,
            row=row,
            found=found,
            may_read=_may_reveal(request),
        )

    async def raw(self, request: web.Request) -> web.Response:
        """The bytes of one side of an exchange, for who has the right."""
        tenant, study = await self._known(request)
        number, side = int(request.match_info["number"]), request.match_info["side"]
        found = await self._desk.reveal(
            tenant, study, actor=_actor(request), numbers=[number], has_right=_may_reveal(request)
        )
        if not found:
            raise web.HTTPNotFound
        name = f"exchange-{number}-{side}.bin"
        return web.Response(
            body=found[0].request if side == "request" else found[0].answer,
            content_type="application/octet-stream",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    async def retry(self, request: web.Request) -> web.Response:
        """Try an exam again now, for a reason."""
        return await self._about_exam(request, self._desk.retry, field="reason", done="retried")

    async def withdraw(self, request: web.Request) -> web.Response:
        """Take an exam out of the index, for a reason."""
        return await self._about_exam(request, self._desk.withdraw, field="reason-index", done="taken-out")

    async def republish(self, request: web.Request) -> web.Response:
        """Let an exam back into the index, for a reason."""
        return await self._about_exam(request, self._desk.republish, field="reason-index", done="let-in")

    async def publish(self, request: web.Request) -> web.Response:
        """Publish an exam with the images that are there, for a reason."""
        return await self._about_exam(request, self._desk.publish, field="reason-images", done="hurried")

    async def _about_exam(
        self, request: web.Request, act: Callable[..., Awaitable[None]], *, field: str, done: str
    ) -> web.Response:
        tenant, study = await self._known(request)
        text, wrong = _reason(await request.post())
        if wrong:
            return await self._exam(request, field=field, wrong=wrong, text=text)
        try:
            await act(tenant, study, actor=_actor(request), reason=text)
        except BadInput as fault:
            return await self._exam(request, field=field, wrong=self._said(request, fault), text=text)
        except Refused as refusal:
            return await self._exam(request, field=field, text=text, refused=self._said(request, refusal))
        return see_other(f"{PREFIX}/exams/{tenant}/{study}", done=done)

    # -- held ----------------------------------------------------------------------------------------------

    async def held(self, request: web.Request) -> web.Response:
        """What is held, by reason, the most frequent first."""
        said, now = self._shell.words(request), self._clock.now()
        tenants = await self._tenants(request)
        own = request[SESSION].tenant
        counts = await self._desk.counts(own)
        numbers = {code: n for (state, code), n in counts.by_reason.items() if state is ExamState.HELD and n}
        groups = []
        for code, number in sorted(numbers.items(), key=lambda one: (-one[1], one[0])):
            found = await self._desk.page(Wanted(tenant=own, state=ExamState.HELD, reason=code, limit=_HELD_LINES))
            rows = [views.row(line, now, tenants.get(line.tenant), said, PREFIX) for line in found.lines]
            groups.append({"code": code, "reason": vocabulary.reason(code, said), "number": number, "rows": rows})
        return self._shell.page(
            request,
            "held.html",
            section="held",
            done=self._done(request),
            live=f"{PREFIX}/held",
            now=views.moment(now, now, _first_zone(tenants), said),
            number_held=sum(numbers.values()),
            groups=groups,
            tenants=tenants,
            **await self._banners(tenants, said),
        )

    async def compare(self, request: web.Request) -> web.Response:
        """The identities of one held exam side by side."""
        return await self._compare(request)

    async def _compare(
        self,
        request: web.Request,
        *,
        errors: Mapping[str, str] | None = None,
        text: str = "",
        refused: str = "",
    ) -> web.Response:
        tenant, study = await self._known(request)
        found = await self._desk.held(tenant, study, actor=_actor(request), by_glass=request[ALLOWED].by_glass)
        if found is None:
            if await self._desk.exam(tenant, study) is None:
                raise web.HTTPNotFound
            return see_other(f"{PREFIX}/exams/{tenant}/{study}", done="compared-not-needed")
        said = self._shell.words(request)
        tenants = await self._tenants(request)
        return self._shell.page(
            request,
            "compare.html",
            status=409 if refused else 400 if errors else 200,
            at=f"{PREFIX}/held/{tenant}/{study}" if request.method == "POST" else "",
            section="held",
            tenant=tenant,
            title=tenants[tenant].title,
            study=study,
            held=found,
            reason=vocabulary.reason(found.reason, said),
            missing=said(found.missing),
            why_not=said(found.why_not),
            sources=views.source_names(found.sources, said),
            fields=views.compared(found, said),
            conflicts=views.conflicts(found, said),
            others=[study for study in found.studies if study != found.study],
            errors=errors or {},
            text=text,
            refused=refused,
        )

    async def release(self, request: web.Request) -> web.Response:
        """Accept exactly the conflicts the person has seen."""
        tenant, study = await self._known(request)
        form = await request.post()
        text, wrong = _reason(form)
        errors = {"reason": wrong} if wrong else {}
        if form.get("compared") != "yes":
            errors["compared"] = N_("Confirm that you compared the two identities at their sources.")
        if errors:
            return await self._compare(request, errors=errors, text=text)
        try:
            await self._desk.release(
                tenant, study, actor=_actor(request), reason=text, seen=str(form.get("seen", ""))
            )
        except BadInput as fault:
            return await self._compare(request, errors={"reason": self._said(request, fault)}, text=text)
        except Refused as refusal:
            return await self._compare(request, text=text, refused=self._said(request, refusal))
        return see_other(f"{PREFIX}/exams/{tenant}/{study}", done="released")

    # -- tenants -------------------------------------------------------------------------------------------

    async def pause(self, request: web.Request) -> web.Response:
        """Stop sending for one tenant, for a reason."""
        tenant = await self._tenant(request)
        text, wrong = _reason(await request.post())
        if wrong:
            return await self._exams(request, pause={"tenant": tenant, "text": text, "error": wrong}, status=400)
        await self._desk.pause(tenant, actor=_actor(request), reason=text)
        return see_other(f"{PREFIX}/", done="paused")

    async def resume(self, request: web.Request) -> web.Response:
        """Send again for one tenant."""
        tenant = await self._tenant(request)
        await self._desk.resume(tenant, actor=_actor(request))
        return see_other(f"{PREFIX}/", done="resumed")

    # -- parts ---------------------------------------------------------------------------------------------

    async def _tenants(self, request: web.Request) -> Mapping[str, TenantFacts]:
        """The legal entities that this person may see."""
        return views.of_session(await self._desk.tenants(), request[SESSION].tenant)

    async def _tenant(self, request: web.Request) -> str:
        tenant = request.match_info["tenant"]
        if tenant not in await self._tenants(request):
            raise web.HTTPNotFound
        return tenant

    async def _known(self, request: web.Request) -> tuple[str, str]:
        """Tenant and study of the address, the tenant being one of ours."""
        return await self._tenant(request), request.match_info["study"]

    async def _banners(
        self, tenants: Mapping[str, TenantFacts], said: Words, tenant: str = "", reason: str = ""
    ) -> dict[str, Any]:
        """What concerns the exams on the page: pauses, shadow mode, open alerts. ``reason``: of the one exam."""
        shown = {name: facts for name, facts in tenants.items() if tenant in {"", name}}
        opened = [one for one in await self._desk.alerts(said.lang) if one.tenant in {"", *tenants}]
        if tenant:
            opened = [one for one in opened if one.tenant in {"", tenant} and one.subject == reason != ""]
        now = self._clock.now()
        return {
            "pauses": views.pauses(shown, now, said),
            "shadows": [facts.title for facts in shown.values() if facts.mode == "shadow"],
            "alerts": views.alerts(opened, tenants, now, said),
        }

    def _said(self, request: web.Request, fault: BadInput | Refused) -> str:
        return vocabulary.fault(fault, self._shell.words(request))

    def _done(self, request: web.Request) -> str:
        """What was just done; a link from elsewhere does not make the page claim that it was."""
        followed = request.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
        return DONE.get(request.query.get("done", ""), "") if followed else ""


def _reason(form: Mapping[str, Any]) -> tuple[str, str]:
    """The reason a form states, on one line, and what is wrong with it, "" when nothing is.

    What nobody sees is taken out of what is shown again, never out of what is kept.
    """
    text = unicodedata.normalize("NFC", " ".join(str(form.get("reason", "")).split()))
    seen = "".join(character for character in text if character.isprintable())
    if seen != text:
        return seen, vocabulary.FAULTS["reason-unseen"]
    if not release.REASON_MIN <= len(text) <= release.REASON_MAX:
        return text, vocabulary.FAULTS["reason-too-long" if len(text) > release.REASON_MAX else "reason-too-short"]
    return text, ""


def _actor(request: web.Request) -> str:
    """The role that allows it and the subject, as the audit record says it."""
    return f"{request[ALLOWED].role}:{request[SESSION].name}"


def _named(request: web.Request) -> tuple[str, str]:
    return request.match_info["tenant"], request.match_info["study"]


def _first_zone(tenants: Mapping[str, TenantFacts]) -> Any:
    return next((facts.zone for facts in tenants.values()), UTC)


def _may_reveal(request: web.Request) -> bool:
    """Whether who asks may read exchanges of this legal entity in clear."""
    subject, about = request[SESSION].subject, resource_of(request)
    return isinstance(decide(subject, Purpose.OPERATION, Action.EXCHANGE_REVEAL, about, Zone.OPS), Allow)
