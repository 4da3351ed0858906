"""A machine in several networks, made of network namespaces: one for the gateway, one for a host of each zone.

The gateway has one interface and one address in each zone; the host of a zone routes everything through it, so that
it may aim at the address of any other zone.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Networks:
    """``prefix``: of the namespaces' names."""

    prefix: str
    zones: tuple[str, ...]

    def address(self, zone: str) -> str:
        """The gateway's in ``zone``."""
        return f"10.77.{1 + self.zones.index(zone)}.1"

    def inside(self, zone: str, command: Sequence[str]) -> list[str]:
        """``command`` as the host of ``zone`` runs it; "gateway" for the gateway."""
        return ["ip", "netns", "exec", f"{self.prefix}{zone}", *command]

    def run(self, zone: str, *command: str, stdin: str = "") -> str:
        """What ``command`` prints there."""
        done = subprocess.run(
            self.inside(zone, command), input=stdin, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def networks(*zones: str) -> Iterator[Networks]:
    """The namespaces, taken away at the end. Where none can be made the test fails if CI says so, else is skipped."""
    made = Networks(f"pz{os.getpid()}-", zones)
    names = [f"{made.prefix}{zone}" for zone in ("gateway", *zones)]
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        for zone in zones:
            _join(made, zone)
        yield made
    except (_NotPossible, FileNotFoundError) as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no network namespaces here: {error}")
        pytest.skip(f"no network namespaces here: {error}")
    finally:
        for name in names:
            with suppress(_NotPossible, FileNotFoundError):
                _ip("netns", "del", name)


class _NotPossible(Exception):
    """The kernel, or this user's rights, do not allow it."""


def _join(made: Networks, zone: str) -> None:
    """One cable between the gateway, where it is named after the zone, and the zone's host."""
    gateway, host, address = f"{made.prefix}gateway", f"{made.prefix}{zone}", made.address(zone)
    _ip("-n", gateway, "link", "add", zone, "type", "veth", "peer", "name", "eth0", "netns", host)
    _ip("-n", gateway, "addr", "add", f"{address}/24", "dev", zone)
    _ip("-n", host, "addr", "add", f"{address[:-1]}2/24", "dev", "eth0")
    for name, device in ((gateway, zone), (host, "eth0")):
        _ip("-n", name, "link", "set", device, "up")
    _ip("-n", host, "route", "add", "default", "via", address)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        raise _NotPossible(done.stderr.strip())


def needed(tool: str) -> str:
    """The path of a tool; without it the test fails where CI says so, else it is skipped."""
    for folder in ("/usr/sbin", "/usr/bin"):
        if (path := Path(folder, tool)).exists():
            return str(path)
    if os.environ.get("CI") == "true":
        pytest.fail(f"{tool} is not installed")
    pytest.skip(f"{tool} is not installed")
