"""What every probe may use, and how a probe is declared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gateway.certificates.links import links
from gateway.certificates.watch import TrustedLinks
from gateway.doctor.findings import Finding, Said
from gateway.settings import Settings
from security.clock import SystemClock
from security.errors import Fault
from security.store.port import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One examination. ``store``: opened for reading, None when it cannot be (``store_fault`` says why) or when this
    machine has no gateway. ``send_test``: messages marked TEST may be sent."""

    settings: Settings
    now: datetime
    store: Store | None
    store_fault: Fault | None
    send_test: bool

    @property
    def database(self) -> Path | None:
        """The SQLite file of the gateway, None with another engine."""
        return self.settings.store.path if self.settings.store else None

    async def links(self) -> TrustedLinks:
        """The TLS links, with what is known of revocation now.

        Raises:
            Broken: a pair or a bundle of the configuration cannot be used.
        """
        made = TrustedLinks(links(self.settings), self.settings.certificates, SystemClock())
        await made.settle()
        return made

    def writer(self) -> int | None:
        """Process that holds the writer's lock of the SQLite file, as the kernel says; None when nobody does."""
        if self.database is None:
            return None
        lock = self.database.with_name(self.database.name + ".lock")
        try:
            inode, pid = lock.stat().st_ino, lock.read_text(encoding="ascii").strip()
            held = Path("/proc/locks").read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return None
        for line in held.splitlines():  # proc(5): "1: FLOCK  ADVISORY  WRITE 708 08:01:2048 0 EOF"
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[4] == pid and words[5].endswith(f":{inode}"):
                return int(pid)
        return None


Run = Callable[[Context, str], Awaitable[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One kind of probe: what it looks at (a text with ``{subject}``), at which subjects, how long it may take."""

    name: str
    what: str
    run: Run
    subjects: Callable[[Settings], Iterable[str]] = lambda _settings: ("",)
    limit_s: float = 10.0

    def said(self, subject: str) -> Said:
        """What it looks at, for people."""
        return Said(text=self.what, values={"subject": subject})
