"""Targets of the fuzzer, one module for each path of foreign bytes, and what of the house is instrumented for each."""

from __future__ import annotations

from collections.abc import Mapping

TARGETS: Mapping[str, tuple[str, ...]] = {
    "dimse": ("gateway.dimse", "security.parse"),
    "hl7": ("gateway.hl7", "security.parse", "security.ins", "security.identity"),
    "mime": ("indexer.xds", "security.parse"),
    "soap": ("indexer.xds", "indexer.registry", "security.parse"),
    "kos": ("indexer.kos", "security.parse", "pydicom.filereader", "pydicom.values", "pydicom.dataset"),
}
