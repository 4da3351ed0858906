"""The console of the person on call: what stands where, why, and what they may do about it."""

from __future__ import annotations

from gateway.web.console.pages import PREFIX, mount_console

__all__ = ["PREFIX", "mount_console"]
