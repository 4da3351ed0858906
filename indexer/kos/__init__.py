"""A study's manifest as a Key Object Selection document, written and read in three profiles."""

from indexer.kos.classes import SOP_CLASS, value_type
from indexer.kos.writer import encode

__all__ = ["SOP_CLASS", "encode", "value_type"]
