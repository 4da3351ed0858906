"""The access matrix: every route and service that is really there, and who may use it, from the policy itself.

Built from live routers and tables, so a route that somebody adds without an action shows as ``MISSING`` and breaks a
test. ``python -m tests.support.access`` writes ``docs/access.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from aiohttp import web

from gateway import control
from gateway.dimse import access as dimse
from gateway.dimse.command import Field
from gateway.pacs.changes import nudge_route
from gateway.telemetry import Metrics
from gateway.web.console import mount_console
from gateway.web.health import ROUTES as OPS_ROUTES
from gateway.web.health import build_ops_app
from indexer.registry.app import ROUTES as INDEX_ROUTES
from indexer.registry.app import Node, application
from security.gatekeeper import Routes
from security.policy import TABLE, Action, Opens, Role, Rule, Zone
from tests.integration.outbox_lab import Hands
from tests.support.shelf import stocked

PAGE = Path(__file__).resolve().parents[2] / "docs" / "access.md"

MISSING = "MISSING"

_OPENS: Mapping[Opens, str] = {
    Opens.EVERYBODY: "everybody",
    Opens.SIGNED_IN: "whoever is signed in",
    Opens.THIS_MACHINE: "this machine",
    Opens.ROLES: "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One way in. ``action``: None for a route that nobody stated."""

    zone: Zone
    door: str
    what: str
    action: Action | None


def http_entries(app: web.Application, routes: Routes, *, zone: Zone, door: str) -> Iterator[Entry]:
    """Every route of a live application, those of mounted ones too."""
    for route in app.router.routes():
        assert route.resource is not None
        path = route.resource.canonical
        yield Entry(zone=zone, door=door, what=f"{route.method} {path}", action=routes.get((route.method, path)))


def entries() -> list[Entry]:
    """Every way into the house, each application built as the house builds it."""
    clock = Hands()
    ops = build_ops_app(ready=nothing, metrics=Metrics(), snapshot=nothing)
    ops.add_routes([nudge_route({})])
    console = mount_console(ops, stocked(clock), cast("Any", _Nobody()), idle_s=900, hosts={"127.0.0.1"}, clock=clock)
    node = application(cast("Node", None))
    return [
        *http_entries(ops, {**OPS_ROUTES, **console}, zone=Zone.OPS, door="ops"),
        *http_entries(node, INDEX_ROUTES, zone=Zone.PEERS, door="index node"),
        *service_entries(),
    ]


class _Nobody:
    """Accounts that are never asked."""

    class entry:  # noqa: N801
        standing = None

    class glass:  # noqa: N801
        holding = None


async def nothing() -> Any:
    """Is never asked: these applications only show their routes."""


def service_entries() -> list[Entry]:
    """What is no HTTP beyond this machine: DIMSE, MLLP, and the orders of commands."""
    dicom = [
        Entry(zone=Zone.PACS, door="DICOM", what=Field(field).name.replace("_", "-"), action=action)
        for field, action in dimse.ACTIONS.items()
    ]
    orders = [
        Entry(zone=Zone.HOST, door="commands", what=f"{method} {path}", action=action)
        for (method, path), action in control.ROUTES.items()
    ]
    return [*dicom, Entry(zone=Zone.PACS, door="MLLP", what="HL7 v2 message", action=Action.HL7_SEND), *orders]


def page(entries: list[Entry]) -> str:
    """``docs/access.md``."""
    doors = [
        f"| {one.zone} | {one.door} | `{one.what}` | {one.action or MISSING} | {_who(one.action, one.zone)} |"
        for one in sorted(entries, key=lambda one: (one.zone, one.door, *reversed(one.what.split(" ", 1))))
    ]
    used = {one.action for one in entries}
    header = " | ".join(role.value for role in Role)
    roles = [
        f"| {action} | {', '.join(sorted(rule.zones))} | {' | '.join(_mark(rule, role) for role in Role)} |"
        for action, rule in TABLE.items()
    ]
    unused = ", ".join(f"`{action}`" for action in TABLE if action not in used)
    return _PAGE.format(
        doors="\n".join(doors), header=header, line="---|" * len(Role), roles="\n".join(roles), unused=unused
    )


def who_of(one: Entry) -> str:
    """Who may use it, in words."""
    return _who(one.action, one.zone)


def _who(action: Action | None, zone: Zone) -> str:
    rule = TABLE.get(action) if action else None
    if rule is None or zone not in rule.zones:
        return "nobody"
    named = [_OPENS[rule.opens], *sorted(rule.roles)]
    conditions = ["after a fresh proof"] * rule.step_up + ["two persons"] * rule.two_persons
    glass = [f"by breaking the glass: {', '.join(sorted(rule.glass))}"] if rule.glass else []
    return "; ".join([", ".join(filter(None, named)), *conditions, *glass])


def _mark(rule: Rule, role: Role) -> str:
    if rule.opens in {Opens.EVERYBODY, Opens.SIGNED_IN}:
        return "·"
    mark = "yes" if role in rule.roles else "glass" if role in rule.glass else ""
    return f"{mark}{' ↑' * rule.step_up}{' ②' * rule.two_persons}" if mark else ""


_PAGE = """# Who may do what

Generated from the policy (`security/policy.py`) and from the routes that are really there; a test fails when a route has no
rule or when this page is stale (`python -m tests.support.access`). Everything that is not here is denied.

## Every way in

| zone | door | what | action | who |
|---|---|---|---|---|
{doors}

"this machine": what speaks over loopback, or, for commands, the service's own user and root over a Unix socket. A
certificate is one that TLS has verified; no header names anybody.

## Actions and roles

yes: may; ↑: after a proof of identity minutes old; ②: only when a second person asked for exactly the same; glass: only by
breaking the glass; ·: needs no role.

| action | zones | {header} |
|---|---|{line}
{roles}

Actions whose address is not built yet, or that commands carry out: {unused}.

An account may belong to one legal entity: what belongs to another is then answered as what does not exist.
"""


if __name__ == "__main__":
    PAGE.write_text(page(entries()), encoding="utf-8")
