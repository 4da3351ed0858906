"""The shell every page of every zone stands in: templates, static files, language, headers, pages for failures.

Invariants:

* a page says nothing a template did not escape, and a name no template was given is an error, not a blank;
* a page loads nothing from another host, runs no inline script and no inline style (T29);
* a page is kept by no cache; a static file is kept for good, because its name holds its digest;
* a failure says what happened and what to do next; an unexpected one shows its instance, found again in the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final
from urllib.parse import urlencode

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from gateway.i18n import DEFAULT, LANGUAGES, N_, Words, words
from gateway.web.session import Session
from security.errors import BadInput, Fault, Refused, Unavailable
from security.policy import Allow

log = structlog.get_logger()

SESSION: Final = web.RequestKey("session", Session)
ALLOWED: Final = web.RequestKey("allowed", Allow)
LANG_COOKIE: Final = "poterne-lang"

PAGE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",  # "no-referrer" would empty the Origin of our own forms
    "Server": "poterne",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_KEPT_FOR_GOOD = "public, max-age=31536000, immutable"
_ANSWER_S = 20.0
_CHANGE_S = 60.0
_LANGUAGE_S = 365 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A failure for people: what happened, what to do next."""

    title: str
    text: str
    next_step: str


PROBLEMS: Final[Mapping[int, Problem]] = {
    400: Problem(
        title=N_("This request cannot be read"),
        text=N_("Something in the address or in the form is not what this page expects. Nothing was done."),
        next_step=N_("Go back, correct what you entered, and send it again."),
    ),
    403: Problem(
        title=N_("This request is not allowed"),
        text=N_("It did not come from a page of this console, or your session does not allow it. Nothing was done."),
        next_step=N_("Open the console again, sign in, and start from there."),
    ),
    404: Problem(
        title=N_("There is nothing at this address"),
        text=N_("The page or the exam does not exist here. A link may be old, or a StudyInstanceUID mistyped."),
        next_step=N_("Look for the exam in the list."),
    ),
    405: Problem(
        title=N_("This address does not take that kind of request"),
        text=N_("The page exists, but not for what was asked of it. Nothing was done."),
        next_step=N_("Go back to the list of exams and start from there."),
    ),
    409: Problem(
        title=N_("This was not done"),
        text=N_("The state of the exam does not allow it."),
        next_step=N_("Open the exam, look at its state, then decide again."),
    ),
    413: Problem(
        title=N_("This is too long"),
        text=N_("The form holds more than this page takes. Nothing was done."),
        next_step=N_("Go back and shorten the text."),
    ),
    421: Problem(
        title=N_("This is not the name of this console"),
        text=N_("The browser asked for a host name that is not ours. Nothing was shown."),
        next_step=N_("Use the address under [ops] listen, or localhost through a tunnel."),
    ),
    500: Problem(
        title=N_("This page failed"),
        text=N_("A defect of Poterne, not of your request. Exams go on being sent: this page does not touch them."),
        next_step=N_("Try again. If it fails again, look for the reference below in the log, keep it and report it."),
    ),
    503: Problem(
        title=N_("The gateway cannot answer now"),
        text=N_("Its database or one of its parts does not answer."),
        next_step=N_("Wait a minute and try again. If it lasts, run poterne doctor on the server."),
    ),
}


_UNSURE = Problem(
    title=N_("It is not known whether this was done"),
    text=N_("The gateway did not answer in time. What you asked for may still be done."),
    next_step=N_("Wait a minute, then look at the exam or at the list before you do it again."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asset:
    body: bytes
    content_type: str


class Shell:
    """The pages of one zone.

    Args:
        prefix: path under which the zone stands, without a slash at its end.
        packages: where templates are looked for, before the shell's own; one of them holds ``zone.html``.
        facts: what every page of the zone knows.
    """

    def __init__(self, *, prefix: str, packages: Sequence[str], facts: Mapping[str, Any]) -> None:
        self.prefix = prefix
        self._facts = facts
        self._urls: dict[str, str] = {}
        self._assets: dict[str, _Asset] = {}
        self._collect(resources.files("gateway.web") / "static", "")
        self._pages = Environment(
            loader=ChoiceLoader([PackageLoader(name) for name in (*packages, "gateway.web")]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def _collect(self, folder: Traversable, under: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                self._collect(entry, f"{under}{entry.name}/")
                continue
            kind = mimetypes.guess_type(entry.name)[0]
            if kind not in {"text/css", "text/javascript", "image/svg+xml"}:
                continue  # licences and checksums
            body = entry.read_bytes()
            stem, _, suffix = entry.name.rpartition(".")
            name = f"{stem}.{hashlib.sha256(body).hexdigest()[:16]}.{suffix}"
            self._assets[name] = _Asset(body=body, content_type=kind)
            self._urls[under + entry.name] = f"{self.prefix}/static/{name}"

    async def static(self, request: web.Request) -> web.Response:
        """One static file, by the name that holds its digest."""
        asset = self._assets.get(request.match_info["name"])
        if asset is None:
            raise web.HTTPNotFound
        return web.Response(
            body=asset.body,
            content_type=asset.content_type,
            charset="utf-8",
            headers={"Cache-Control": _KEPT_FOR_GOOD},
        )

    def words(self, request: web.Request) -> Words:
        """The language of one request: ``?lang=``, else the cookie, else what the browser prefers, else French."""
        stated = (request.query.get("lang", ""), request.cookies.get(LANG_COOKIE, ""), *_accepted(request))
        return words(next((lang for lang in stated if lang in LANGUAGES), DEFAULT))

    def page(
        self, request: web.Request, template: str, *, status: int = 200, at: str = "", **context: Any
    ) -> web.Response:
        """One page in the language of the request. ``?lang=`` is remembered. ``at``: the page's address, when the
        request's own is that of a form."""
        said = self.words(request)
        text = self._pages.get_template(template).render(
            {
                "_": said,
                "count": said.count,
                "number": said.number,
                "span": said.span,
                "lang": said.lang,
                "languages": {lang: _in_language(request, at, lang) for lang in LANGUAGES},
                "static": self._urls,
                "prefix": self.prefix,
                "here": request.path_qs,
                "session": request.get(SESSION),
                **self._facts,
                **context,
            }
        )
        response = web.Response(text=text, status=status, content_type="text/html", charset="utf-8")
        if request.query.get("lang") in LANGUAGES:
            response.set_cookie(
                LANG_COOKIE,
                said.lang,
                max_age=_LANGUAGE_S,
                path=self.prefix,
                httponly=True,
                samesite="Strict",
                secure=request.secure,
            )
        return response

    def problem(
        self,
        request: web.Request,
        status: int,
        *,
        problem: Problem | None = None,
        detail: str = "",
        instance: uuid.UUID | None = None,
        at: str = "",
    ) -> web.Response:
        """The page of a failure. ``detail``: a sentence more, in English when no language has it; ``at``: where
        another language is asked for, when the request is not to be made again."""
        told = problem or PROBLEMS.get(status) or PROBLEMS[400 if status < 500 else 500]
        reference = (instance or uuid.uuid4()).urn
        log.info("page-refused", status=status, instance=reference)
        return self.page(
            request,
            "problem.html",
            status=status,
            at=at or f"{self.prefix}/",  # the address that failed may quote anything (T34)
            section="",
            problem=told,
            detail=detail,
            reference=reference,
            code=status,
        )


def see_other(url: str, **query: str) -> web.Response:
    """After a change: go and look (303), so that a reload repeats nothing."""
    return web.Response(status=303, headers={"Location": f"{url}?{urlencode(query)}" if query else url})


def failures_as_pages(shell: Shell, say: Callable[[Fault, Words], str]) -> Middleware:
    """Every failure as a page in the shell, every request in bounded time: a change that takes longer goes on, and
    the page says that its outcome is not known.

    ``say``: a fault in the words of a language.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        asks = request.method in {"GET", "HEAD"}
        try:
            async with asyncio.timeout(_ANSWER_S if asks else _CHANGE_S):
                return await handler(request)
        except web.HTTPException as refusal:
            response = shell.problem(request, refusal.status)
            if "Allow" in refusal.headers:
                response.headers["Allow"] = refusal.headers["Allow"]
            return response
        except TimeoutError:
            return shell.problem(request, 503, problem=None if asks else _UNSURE)
        except Fault as fault:
            log.warning("page-fault", error=fault)
            return shell.problem(request, _status(fault), detail=say(fault, shell.words(request)))
        except Exception:  # supervision edge: logged under the instance, answered without detail
            instance = uuid.uuid4()
            log.exception("page-failed", instance=instance.urn)
            return shell.problem(request, 500, instance=instance)

    return middleware


async def add_page_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """The headers of a page; a static file keeps its own rule for caches."""
    kept = response.headers.get("Cache-Control", "")
    response.headers.update(PAGE_HEADERS)
    if kept == _KEPT_FOR_GOOD:
        response.headers["Cache-Control"] = kept


def _status(fault: Fault) -> int:
    match fault:
        case BadInput():
            return 400
        case Refused():
            return 409
        case Unavailable():
            return 503
        case _:
            return 500


def _accepted(request: web.Request) -> list[str]:
    """The browser's languages, two letters each, preferred first."""
    stated = []
    for part in request.headers.get("Accept-Language", "").split(",")[:16]:
        tag, _, weight = part.partition(";q=")
        try:
            stated.append((-float(weight or 1), tag.strip()[:2].lower()))
        except ValueError:
            continue
    return [tag for _, tag in sorted(stated, key=lambda one: one[0])]


def _in_language(request: web.Request, at: str, lang: str) -> str:
    """The address of the same page in another language."""
    if at:
        return f"{at}?{urlencode({'lang': lang})}"
    return f"{request.path}?{urlencode({**request.query, 'lang': lang})}"
