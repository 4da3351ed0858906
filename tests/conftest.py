"""Fixtures that every test may ask for."""

from __future__ import annotations

from tests.support.postgres import postgres_place, postgres_server

__all__ = ["postgres_place", "postgres_server"]
