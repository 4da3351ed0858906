"""``poterne demo``: a whole site on loopback, seven exams, from report to index, with nothing faked.

PACS, index and gateway are processes of their own; the RIS of the demo sends real HL7 over MLLP. Five exams of
five modalities must reach the index, one must be held for an identity conflict, one must wait because the PACS does
not have it. What the index holds is asked by a process that imports nothing of ours. Anything else than expected is
named, and the exit code is 1. Ctrl-C, SIGTERM and SIGHUP end every process of the site and remove its directory.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from pydantic import TypeAdapter

from gateway.i18n import Words
from gateway.lab import DemoFault
from gateway.lab.exams import DemoExam, demo_exams
from gateway.lab.site import Site
from gateway.views import exam_text
from gateway.web import vocabulary
from indexer.timeline import Exam, ExamState
from security.errors import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one exam. ``wrong``: what is not as expected, empty when all is."""

    exam: DemoExam
    state: str
    seconds: float | None
    text: str
    entries: list[dict[str, Any]]
    wrong: list[str]


async def run(
    *, wait_s: float, fault: DemoFault | None, keep: Path | None, as_json: bool, stay: bool, words: Words
) -> int:
    """Play the demo; 0 when every exam ended as expected, 1 otherwise, 128 + number when a signal cut it short."""
    with _cancelled_by_signals() as received:
        try:
            return await _whole(wait_s=wait_s, fault=fault, keep=keep, as_json=as_json, stay=stay, words=words)
        except asyncio.CancelledError:
            if not received:
                raise
            return 128 + received[0]


async def _whole(
    *, wait_s: float, fault: DemoFault | None, keep: Path | None, as_json: bool, stay: bool, words: Words
) -> int:
    say: Callable[[str], None] = (lambda _line: None) if as_json else typer.echo
    started = time.monotonic()
    async with _directory(keep) as directory, Site(directory) as site:
        outcomes = await _play(site, say, words, wait_s=wait_s, fault=fault)
        wrong = [f"{outcome.exam.title}: {reason}" for outcome in outcomes for reason in outcome.wrong]
        if as_json:
            typer.echo(json.dumps([_plain(outcome) for outcome in outcomes], ensure_ascii=False))
        _summary(outcomes, wrong, say, words, time.monotonic() - started)
        for line in wrong:
            typer.echo(words("NOT AS EXPECTED") + f"  {line}", err=True)
        if stay and not wrong and site.gateway:
            say("")
            say(words("The site stays up; its console: {url}", url=f"http://{site.gateway.bound['ops']}/console/"))
            person = await site.person("camille", "operator", "identity-officer")
            say(words("Name: {name}   Password: {password}", name=person.name, password=person.password))
            say(words("Its second factor is shown here, as an authenticator would. Ctrl-C ends the site."))
            await _until_interrupted(lambda: words("Code: {code}", code=person.code(datetime.now(UTC))))
    return 1 if wrong else 0


async def _play(
    site: Site, say: Callable[[str], None], words: Words, *, wait_s: float, fault: DemoFault | None
) -> list[Outcome]:
    """Start the site, let every report arrive, wait for the ends, ask the index."""
    exams = demo_exams(altered=fault is DemoFault.TRAIT_ALTERED)
    pacs = await _uncut(site.start_pacs())
    say(words("PACS: {pacs}. Index node and gateway: processes of their own, mutual TLS, loopback only.", pacs=pacs))
    if fault is not DemoFault.PACS_EMPTIED:
        for exam in exams:
            if exam.in_pacs:
                await site.load(exam.images())
    index = await site.start_index()
    await site.start_gateway()
    if fault is DemoFault.INDEX_STOPPED:
        await index.end()
    for exam in exams:
        ack = (await site.report(exam.message)).decode()
        code = ack.split("\rMSA|", 1)[-1][:2]
        say(words("report of {exam}: {code}", exam=exam.title, code=code))
    await _await_ends(site, exams, wait_s)
    outcomes = await asyncio.gather(*(_outcome(site, exam, words) for exam in exams))
    for outcome in outcomes:
        say(f"\n{outcome.exam.title}\n{outcome.text}")
        for entry in outcome.entries:
            codes = ", ".join(entry["event_codes"])
            say(
                words(
                    "  in the index, asked by raw SOAP: {uid} {status} ({codes})",
                    uid=entry["unique_id"],
                    status=entry["status"],
                    codes=codes,
                )
            )
    return outcomes


async def _await_ends(site: Site, exams: list[DemoExam], wait_s: float) -> None:
    """Look at the queue until every exam is where it must end, or the time is over."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        code, printed = await site.command("queue", "--json")
        if code:
            raise Fault(
                f"poterne queue ended with {code}: {printed}",
                code="demo-command-failed",
                hint="keep the site with --keep and read its logs",
            )
        rows = {row["study"]: row for row in json.loads(printed)["open"]}
        if all(_at_its_end(exam, rows.get(exam.study)) for exam in exams):
            break
        await asyncio.sleep(0.2)


def _at_its_end(exam: DemoExam, row: dict[str, Any] | None) -> bool:
    """An exam that is indexed has left the queue; the others stand in it with their reason."""
    if exam.expected is ExamState.INDEXED:
        return row is None
    return row is not None and row["exam_state"] == exam.expected and row["reason"] == exam.expected_reason


async def _outcome(site: Site, exam: DemoExam, words: Words) -> Outcome:
    """Hold one exam against what was expected of it."""
    code, printed = await site.command("exam", exam.study, "--json")
    if code:
        return Outcome(exam=exam, state="", seconds=None, text=printed, entries=[], wrong=[printed.strip()])
    seen = json.loads(printed)
    text = exam_text(TypeAdapter(Exam).validate_python(seen), words, "Europe/Paris")
    wrong: list[str] = []
    if seen["state"] != exam.expected:
        why = f" ({seen['reason']}: {seen['missing']})" if seen["reason"] else ""
        wrong.append(f"expected {exam.expected}, is {seen['state']}{why}")
    elif exam.expected_reason and seen["reason"] != exam.expected_reason:
        wrong.append(f"expected the reason {exam.expected_reason}, found {seen['reason']}")
    entries: list[dict[str, Any]] = []
    try:
        entries = await site.entries(patient=exam.patient_cx, study=exam.study)
    except Fault as fault:
        wrong.append(str(fault))
    expected = 1 if exam.expected is ExamState.INDEXED else 0
    if len(entries) != expected:
        wrong.append(f"the index holds {len(entries)} entries, expected {expected}")
    wrong += [
        f"the entry's event codes {entry['event_codes']} lack {exam.modality}"
        for entry in entries
        if exam.modality not in entry["event_codes"]
    ]
    return Outcome(
        exam=exam, state=seen["state"], seconds=seen["seconds_to_index"], text=text, entries=entries, wrong=wrong
    )


def _summary(
    outcomes: list[Outcome], wrong: list[str], say: Callable[[str], None], words: Words, took_s: float
) -> None:
    width = max(len(outcome.exam.title) for outcome in outcomes)
    say(f"\n{words('exam'):<{width}}  {words('state'):<10}  {words('report → indexed'):>23}  {words('entries')}")
    for outcome in outcomes:
        seconds = f"{outcome.seconds:.3f} s" if outcome.seconds is not None else "—"
        known = vocabulary.STATES.get(outcome.state)
        state = words(known.word) if known else outcome.state
        say(f"{outcome.exam.title:<{width}}  {state:<10}  {seconds:>23}  {len(outcome.entries)}")
    if wrong:
        said = words.count(
            "{n} not as expected, {s} s in all", "{n} not as expected, {s} s in all", len(wrong), s=f"{took_s:.1f}"
        )
    else:
        said = words("all as expected, {s} s in all", s=f"{took_s:.1f}")
    say(said)


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "exam": outcome.exam.title,
        "study": outcome.exam.study,
        "expected": outcome.exam.expected,
        "state": outcome.state,
        "seconds_to_index": outcome.seconds,
        "entries": outcome.entries,
        "wrong": outcome.wrong,
    }


@asynccontextmanager
async def _directory(keep: Path | None) -> AsyncIterator[Path]:
    """The site's directory: the one to keep, or one that goes away."""
    if keep:
        await asyncio.to_thread(keep.mkdir, parents=True, mode=0o700)
        yield await asyncio.to_thread(keep.resolve)
        return
    with tempfile.TemporaryDirectory(prefix="poterne-demo-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


async def _until_interrupted(shown: Callable[[], str]) -> None:
    """Wait for Ctrl-C or a signal; ``shown``: what stands in the last line meanwhile, asked for every second."""
    try:
        while True:
            sys.stdout.write(f"\r{shown()} ")
            sys.stdout.flush()
            await asyncio.sleep(1)
    except asyncio.CancelledError:
        with suppress(OSError):  # after SIGHUP the terminal may be gone
            sys.stdout.write("\n")


async def _uncut(work: Coroutine[Any, Any, str]) -> str:
    """The result of ``work``, which runs to its end also when we are cancelled: a PACS that a thread is still
    starting could not be stopped.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


@contextmanager
def _cancelled_by_signals() -> Iterator[list[int]]:
    """SIGTERM and SIGHUP cancel the current task, once, as Ctrl-C does; yields the signals received. One that is
    ignored from outside (nohup) stays ignored.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    received: list[int] = []

    def cancel(number: int) -> None:
        if not received and task is not None:
            task.cancel()
        received.append(number)

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, cancel, number)
    try:
        yield received
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
