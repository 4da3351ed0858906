"""``python -m tests.fuzz TARGET FOLDER SECONDS [CORPUS…]``: fuzz one path of foreign bytes, a name of ``TARGETS``.

It begins with CORPUS and with what the target's ``seeds`` make; those and what is new are in FOLDER afterwards.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import atheris

from tests.fuzz import TARGETS

if __name__ == "__main__":
    name, folder, seconds = sys.argv[1:4]
    with atheris.instrument_imports(include=list(TARGETS[name])):
        module = import_module(f"tests.fuzz.{name}")
    for number, seed in enumerate(module.seeds()):
        Path(folder, f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", "-max_len=16384", "-rss_limit_mb=1024", "-timeout=10"]
    atheris.Setup([sys.argv[0], *limits, folder, *sys.argv[4:]], module.target)
    atheris.Fuzz()
