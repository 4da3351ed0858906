"""What every PACS adapter shares: one blocking question behind the bridge, and its three answers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from gateway.bridge import Bridge, Call
from gateway.pacs.door import Inconclusive
from indexer.study import StudyAnswer, Unknown
from security.errors import Unavailable
from security.identity import Uid


class PacsSource(ABC):
    """A PACS as ``indexer.ports.StudySource``. ``workers``: questions at once; ``deadline_s``: for a whole one."""

    def __init__(self, name: str, *, workers: int, deadline_s: float) -> None:
        self.name = name
        self._bridge = Bridge(name, workers=workers)
        self._deadline_s = deadline_s

    async def find(self, study: Uid) -> StudyAnswer:
        """Ask the PACS. Never raises for what a peer does: that is ``Unknown``."""
        try:
            return await self._bridge.run(self._ask, study, deadline_s=self._deadline_s)
        except Inconclusive as none:
            return none.answer()
        except Unavailable as fault:
            return Unknown(reason=fault.code, detail=fault.args[0])

    async def close(self) -> None:
        """Cut what is under way and end the threads."""
        await self._bridge.close()

    @abstractmethod
    def _ask(self, call: Call, study: Uid) -> StudyAnswer:
        """The question itself, on a thread of the bridge; raises ``Inconclusive`` when there is no answer."""
