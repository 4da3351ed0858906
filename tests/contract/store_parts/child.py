"""``python -m tests.contract.store_parts.child ENGINE PLACE WRITERS``: write notes until killed.

Prints ``open`` when the store is, then the number of each note whose write returned, one per line, at once.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from functools import partial

from tests.contract.store_parts import add_note, notes
from tests.contract.store_parts.engines import ENGINES


async def main(engine: str, told: str, writers: int) -> None:
    store = await ENGINES[engine](told).open()
    numbers = itertools.count(max(await store.read(notes), default=0) + 1)
    print("open", flush=True)

    async def write() -> None:
        for number in numbers:
            print(await store.write(partial(add_note, number=number)), flush=True)

    await asyncio.gather(*(write() for _ in range(writers)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
