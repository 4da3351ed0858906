"""What every PACS adapter shares: one blocking question behind the bridge, and its answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import date
from typing import TypeVar

from gateway.bridge import Bridge, Call
from gateway.pacs.door import Inconclusive
from indexer.study import CalendarAnswer, ListedStudy, StudyAnswer, Unknown
from security.errors import Unavailable
from security.identity import Uid

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class PacsSource(ABC):
    """A PACS as ``indexer.ports.StudySource`` and ``StudyCalendar``.

    ``workers``: questions at once; ``deadline_s``: for a whole one.
    """

    def __init__(self, name: str, *, workers: int, deadline_s: float) -> None:
        self.name = name
        self._bridge = Bridge(name, workers=workers)
        self._deadline_s = deadline_s

    async def find(self, study: Uid) -> StudyAnswer:
        """Ask the PACS. Never raises for what a peer does: that is ``Unknown``."""
        return await self._answer(self._ask, study)

    async def studies_on(self, day: date) -> CalendarAnswer:
        """Every study of that day. Never raises for what a peer does: that is ``Unknown``."""
        return await self._answer(self._list, day)

    async def close(self) -> None:
        """Cut what is under way and end the threads."""
        await self._bridge.close()

    async def _answer(self, question: Callable[[Call, Asked], Answer], asked: Asked) -> Answer | Unknown:
        try:
            return await self._bridge.run(question, asked, deadline_s=self._deadline_s)
        except Inconclusive as none:
            return none.answer()
        except Unavailable as fault:
            return Unknown(reason=fault.code, detail=fault.args[0])

    @abstractmethod
    def _ask(self, call: Call, study: Uid) -> StudyAnswer:
        """The question itself, on a thread of the bridge; raises ``Inconclusive`` when there is no answer."""

    @abstractmethod
    def _list(self, call: Call, day: date) -> tuple[ListedStudy, ...]:
        """The studies of a day, all of them, on a thread of the bridge; raises ``Inconclusive`` otherwise."""
