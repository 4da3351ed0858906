"""What every table of the configuration has in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One table of the configuration.

    ``together``: keys that are set all or none. ``one_of``: keys of which exactly one is set. ``rising``: pairs of
    keys whose values must not fall. ``deadline``: the key that bounds one exchange of a job, "" in a section that
    describes none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    together: ClassVar[tuple[tuple[str, ...], ...]] = ()
    one_of: ClassVar[tuple[tuple[str, ...], ...]] = ()
    rising: ClassVar[tuple[tuple[str, str], ...]] = ()
    deadline: ClassVar[str] = ""

    @classmethod
    def between(cls, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:  # noqa: ARG003  most have none
        """Key, reason and hint of each rule between keys that the lists above cannot state and ``table``, as it
        was written, breaks."""
        return iter(())
