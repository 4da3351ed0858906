"""Simulators of the systems around a gateway; nothing here runs in production."""

from __future__ import annotations

from enum import StrEnum


class DemoFault(StrEnum):
    """What the demo can break on purpose, to show that it is noticed and named."""

    INDEX_STOPPED = "index-stopped"
    PACS_EMPTIED = "pacs-emptied"
    TRAIT_ALTERED = "trait-altered"
