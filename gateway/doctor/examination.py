"""All probes at once, in bounded time, and what they found together."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway import check, i18n
from gateway.components import COMPONENTS
from gateway.doctor import local, peers, providers
from gateway.doctor.context import Context, Probe
from gateway.doctor.findings import Finding, Line, Verdict, failed, of_fault, say, warning
from gateway.i18n import N_, Words
from gateway.settings import Problem, Settings, load
from gateway.stores import store_place
from security.errors import Fault, Unavailable
from security.store.opening import open_store
from security.store.port import Store

PROBES: tuple[Probe, ...] = (*local.PROBES, *peers.PROBES, *providers.PROBES)
_OPEN_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """Every line, in the order of the table. ``warnings_fail``: as ``[doctor]`` has it. ``is_configured``: False
    when the configuration is the problem, and nothing else was looked at."""

    lines: tuple[Line, ...]
    warnings_fail: bool
    is_configured: bool

    @property
    def exit_code(self) -> int:
        """0 well, 1 something failed (or warned, where warnings fail), 2 the configuration cannot be used."""
        if not self.is_configured:
            return 2
        bad = {Verdict.FAILED, Verdict.WARNING} if self.warnings_fail else {Verdict.FAILED}
        return int(any(line.finding.verdict in bad for line in self.lines))

    def count(self, verdict: Verdict) -> int:
        """How many lines have it."""
        return sum(line.finding.verdict is verdict for line in self.lines)

    def text(self, words: Words) -> str:
        """For people."""
        total = words(
            "good: {good}, warnings: {warnings}, failed: {failed}",
            good=self.count(Verdict.OK),
            warnings=self.count(Verdict.WARNING),
            failed=self.count(Verdict.FAILED),
        )
        return "".join(f"{line.text(words)}\n" for line in self.lines) + f"\n{total}\n"

    def facts(self, words: Words) -> dict[str, Any]:
        """For a program."""
        return {
            "exit_code": self.exit_code,
            "counts": {verdict.value: self.count(verdict) for verdict in Verdict},
            "findings": [line.facts(words) for line in self.lines],
        }


async def examine(path: Path | None, environ: Mapping[str, str], *, send_test: bool = False) -> Examination:
    """Run every probe that the configuration asks for."""
    checked = check.findings(path, environ)
    configuration = tuple(_of_problem(problem, Verdict.FAILED) for problem in checked.problems)
    configuration += tuple(_of_problem(problem, Verdict.WARNING) for problem in checked.warnings)
    if checked.problems:
        return Examination(lines=configuration, warnings_fail=False, is_configured=False)
    settings = load(path, environ)
    async with _opened(settings) as (store, fault):
        context = Context(
            settings=settings, now=datetime.now(UTC), store=store, store_fault=fault, send_test=send_test
        )
        lines = await asyncio.gather(
            *(_run(context, probe, subject) for probe in PROBES for subject in _subjects(probe, settings))
        )
    return Examination(
        lines=(*configuration, *lines), warnings_fail=settings.doctor.warnings_fail, is_configured=True
    )


async def report(
    path: Path | None, environ: Mapping[str, str], *, lang: str, as_json: bool = False, send_test: bool = False
) -> int:
    """Print what was found; the exit code."""
    found, said = await examine(path, environ, send_test=send_test), i18n.words(lang)
    if as_json:
        sys.stdout.write(json.dumps(found.facts(said), ensure_ascii=False, indent=2) + "\n")
    else:
        sys.stdout.write(found.text(said))
    return found.exit_code


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Store | None, Fault | None]]:
    """The gateway's database for reading, or why not."""
    if settings.store is None:
        yield None, None
        return
    try:
        async with asyncio.timeout(_OPEN_S):
            store = await open_store(store_place(settings.store), COMPONENTS, read_only=True)
    except TimeoutError:
        yield (
            None,
            Unavailable(
                f"no answer within {_OPEN_S:g} s", code="store-unreachable", hint="look at the database server"
            ),
        )
        return
    except Fault as fault:
        yield None, fault
        return
    try:
        yield store, None
    finally:
        await store.close()


def _subjects(probe: Probe, settings: Settings) -> list[str]:
    """What a probe looks at here; the gateway's own probes say nothing of an index node alone."""
    return list(probe.subjects(settings)) if settings.store or probe.name in {"version", "certificate"} else []


async def _run(context: Context, probe: Probe, subject: str) -> Line:
    began = time.monotonic()
    try:
        async with asyncio.timeout(probe.limit_s):
            finding = await probe.run(context, subject)
    except TimeoutError:
        finding = failed(
            say(N_("no answer within {seconds} s"), seconds=probe.limit_s),
            say(N_("Look at it and at the way there, then run this again.")),
        )
    except Fault as fault:
        finding = of_fault(fault)
    except Exception as error:  # noqa: BLE001 - supervision edge: a probe that breaks must hide no other
        finding = failed(
            say(N_("the probe itself broke")), say(N_("This is a defect: report it.")), type(error).__name__
        )
    took_ms = round((time.monotonic() - began) * 1000)
    return Line(probe=probe.name, subject=subject, what=probe.said(subject), finding=finding, took_ms=took_ms)


def _of_problem(problem: Problem, verdict: Verdict) -> Line:
    cause, hint = say("{problem}", problem=f"{problem.key or problem.file}: {problem.reason}"), problem.hint
    made: Finding = (failed if verdict is Verdict.FAILED else warning)(cause, say("{hint}", hint=hint), problem.file)
    return Line(probe="configuration", subject=problem.key, what=say(N_("configuration")), finding=made, took_ms=0)
