"""How a command reaches the running gateway: a Unix socket beside its database, for its own user and root.

The database has one writer. While ``poterne serve`` runs, what a command wants changed is asked of that process;
otherwise the command opens the database itself and does it by the same functions.

Invariants:

* the socket is mode 0600 and every caller's uid is asked of the kernel: the gateway's own, or root's;
* an operation is told the caller's name as ``user``, by that uid, whatever the caller wrote there;
* a fault crosses the socket whole: its kind, code, message and hint are those the command shows;
* nothing is done twice because an answer was lost: each operation is safe to repeat.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import socket
import stat
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from gateway.facts import Facts, Operation, Say
from security.errors import BadInput, Broken, Fault, Refused, Unavailable
from security.gatekeeper import Routes, policed
from security.policy import NOBODY, Action, Subject, Tell, Zone, untold
from security.runner import Runner

log = structlog.get_logger()

REQUEST_BYTES_MAX = 128 * 1024 * 1024
_PATIENCE = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=1200)
_END = object()
_FAULTS: Mapping[str, type[Fault]] = {kind.__name__: kind for kind in (BadInput, Refused, Unavailable, Broken)}
ROUTES: Routes = {("POST", "/{operation}"): Action.HOST_ORDER}
_PEER = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


@asynccontextmanager
async def listening(place: Path, operations: Mapping[str, Operation], *, tell: Tell = untold) -> AsyncIterator[None]:
    """Answer commands at ``place`` until the end of the block. ``tell``: of each caller who is refused.

    Raises:
        Broken: ``control-place`` the socket cannot be made there.
    """
    gatekeeper = policed(ROUTES, zone=Zone.HOST, who=_caller, tell=tell)
    app = web.Application(client_max_size=REQUEST_BYTES_MAX, middlewares=[gatekeeper])

    async def answer(request: web.Request) -> web.StreamResponse:
        operation = operations.get(request.match_info["operation"])
        if operation is None:
            raise web.HTTPNotFound
        uid = _uid_of(request)
        user = "" if uid is None else user_name(uid)
        facts = json.loads(await request.read()) | {"user": user}  # asked of the kernel, never believed
        lines = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await lines.prepare(request)
        said: asyncio.Queue[Any] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            done = tasks.create_task(_outcome(operation, facts, said.put_nowait), name=f"order-{request.path[1:]}")
            done.add_done_callback(lambda _done: said.put_nowait(_END))
            while (heard := await said.get()) is not _END:
                await lines.write(_line({"said": heard}))
        await lines.write(_line(done.result()))
        return lines

    app.router.add_post("/{operation}", answer)
    runner = Runner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    bound = _bind(place)
    try:
        await web.SockSite(runner, bound).start()
        yield
    finally:
        await runner.cleanup()
        bound.close()
        _remove(place)


def deaf(_heard: Any) -> None:
    """Hears nothing."""


async def ask(place: Path, operation: str, facts: Facts, hear: Say = deaf) -> Any:
    """Ask the running gateway; its answer. ``hear``: takes what is said meanwhile.

    Raises:
        Fault: whatever the operation raised.
        Unavailable: ``not-running`` nobody listens at ``place``.
    """
    with _short(place) as path:
        connector = aiohttp.UnixConnector(path=path)
        async with aiohttp.ClientSession(connector=connector, timeout=_PATIENCE) as session:
            try:
                async with session.post(f"http://gateway/{operation}", data=BytesIO(_line(facts))) as response:
                    if response.status != 200:
                        raise _not_understood(operation, response.status)
                    told = await _last_line(response, hear)
            except aiohttp.ClientConnectorError:
                raise Unavailable(
                    f"no gateway is running at {place}",
                    code="not-running",
                    hint="start it: poterne serve",
                ) from None
            except aiohttp.ClientError as error:
                raise Unavailable(
                    f"the gateway ended while it was asked to {operation} ({type(error).__name__})",
                    code="control-cut",
                    hint="look at its log, then ask again: each operation may be repeated",
                ) from None
    if "fault" in told:
        fault = told["fault"]
        raise _FAULTS[fault["kind"]](fault["text"], code=fault["code"], hint=fault["hint"])
    return told["told"]


async def _outcome(operation: Operation, facts: Facts, say: Say) -> Mapping[str, Any]:
    try:
        return {"told": await operation(facts, say)}
    except Fault as fault:
        return _told(fault)
    except Exception as error:  # supervision edge: this command fails, the gateway goes on
        log.exception("control-operation-failed")
        return _told(
            Broken(
                f"a defect of the gateway stopped this ({type(error).__name__})",
                code="control-failed",
                hint="report it with the lines of the gateway's log; the gateway goes on",
            )
        )


def _told(fault: Fault) -> Mapping[str, Any]:
    return {"fault": {"kind": _kind(fault), "text": fault.args[0], "code": fault.code, "hint": fault.hint}}


async def _last_line(response: aiohttp.ClientResponse, hear: Say) -> Mapping[str, Any]:
    """What was told at the end.

    Raises:
        aiohttp.ClientPayloadError: there was no end.
    """
    pending = b""
    async for chunk in response.content.iter_any():
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            told: Mapping[str, Any] = json.loads(line)
            if "said" not in told:
                return told
            hear(told["said"])
    raise aiohttp.ClientPayloadError


def _line(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, ensure_ascii=False).encode() + b"\n"


def is_running(place: Path) -> bool:
    """Whether a gateway listens at ``place``."""
    with _short(place) as path, socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _remove(place: Path) -> None:
    with suppress(FileNotFoundError):
        place.unlink()


def _bind(place: Path) -> socket.socket:
    """A listening socket at ``place``, mode 0600. What a dead process left there is taken away. The caller holds the
    lock of its own database; a living gateway on another one may have its socket here, which stays."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(place.lstat().st_mode):
            raise Broken(
                f"{place} is in the way: it is no socket",
                code="control-place",
                hint="move that file elsewhere",
            )
        if is_running(place):
            raise Broken(
                f"{place} is the socket of another gateway that is running",
                code="control-place",
                hint="give each gateway a folder of its own for its database, or for its key (PostgreSQL)",
            )
        place.unlink()
    made = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        with _short(place) as path:
            made.bind(path)
    except OSError as error:
        made.close()
        raise Broken(
            f"{place}: {error.strerror}", code="control-place", hint="the service's user must own that folder"
        ) from error
    finally:
        os.umask(before)
    return made


class _short:  # noqa: N801 - reads as a function
    """A path that fits ``sun_path`` (108 bytes), whatever the folder: through its open descriptor."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._folder = -1

    def __enter__(self) -> str:
        try:
            self._folder = os.open(self._place.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return str(self._place)  # the caller meets the same refusal and says so
        return f"/proc/self/fd/{self._folder}/{self._place.name}"

    def __exit__(self, *_exc: object) -> None:
        if self._folder >= 0:
            os.close(self._folder)


def user_name(uid: int) -> str:
    """The name of a user of this machine, its number when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _uid_of(request: web.Request) -> int | None:
    """The user at the other end, as the kernel says it; None when the connection is gone."""
    connection = request.transport.get_extra_info("socket") if request.transport else None
    if connection is None:
        return None
    _, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(uid)


def _caller(request: web.Request) -> Subject:
    """Who calls, as the kernel says it: the gateway's own user and root are this machine, anybody else is nobody."""
    uid = _uid_of(request)
    if uid is None:
        return NOBODY
    if uid not in {0, os.geteuid()}:
        log.warning("control-refused", uid=uid)
        return NOBODY
    return Subject(name=f"user {uid}", is_local=True)


def _kind(fault: Fault) -> str:
    return next((name for name, kind in _FAULTS.items() if isinstance(fault, kind)), "Broken")


def _not_understood(operation: str, status: int) -> Broken:
    return Broken(
        f"the running gateway answered {status} to {operation}",
        code="control-not-understood",
        hint="the running version may be another one: restart the service",
    )
