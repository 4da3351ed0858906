"""``python -m tests.fuzz FOLDER SECONDS``: fuzz the DICOM door's path of foreign bytes; what is new goes to FOLDER."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["gateway.dimse", "security.parse"]):
    from tests.fuzz.dimse import target

if __name__ == "__main__":
    folder, seconds = sys.argv[1:3]
    corpus = [str(path) for path in sys.argv[3:]]
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            "-max_len=8192",
            "-rss_limit_mb=1024",
            "-timeout=10",
            folder,
            *corpus,
        ],
        target,
    )
    atheris.Fuzz()
