"""Asks one address at a steady rate from another address of this machine, in a process of its own.

``URL RATE SECONDS FROM TOKEN`` → one JSON object: how many answers of each status, in how many seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

import aiohttp


async def flood(url: str, rate: float, seconds: float, source: str, token: str) -> Counter[str]:
    """Requests that start on time, whatever became of those before."""
    answers: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(local_addr=(source, 0), limit=100)
    async with (
        aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {token}"}) as http,
        asyncio.TaskGroup() as tasks,
    ):

        async def one() -> None:
            try:
                async with http.get(url) as answer:
                    await answer.read()
                    answers[str(answer.status)] += 1
            except aiohttp.ClientError:
                answers["cut"] += 1

        began = loop.time()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(began + number / rate - loop.time(), 0))
            tasks.create_task(one())
    return answers


if __name__ == "__main__":
    url_, rate_, seconds_, source_, token_ = sys.argv[1:]
    started = time.monotonic()
    got = asyncio.run(flood(url_, float(rate_), float(seconds_), source_, token_))
    print(json.dumps({"answers": got, "seconds": time.monotonic() - started}))
