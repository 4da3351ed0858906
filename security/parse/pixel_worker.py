"""The process that decodes foreign pixel data: a codec in C may end it, and nothing else (T08, T13).

``python -I pixel_worker.py`` takes on standard input one line of JSON, what the image announces with its transfer
syntax, then the value of pixel data. It answers with one line of JSON and every frame behind its length (eight bytes,
big endian). It limits its own memory, time and files.
"""

from __future__ import annotations

import json
import resource
import sys
import warnings

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

SECONDS_MAX = 120
_MEMORY_SPARE = 1024**3


def main() -> int:
    """The exit code: 0, or 3 with the kind of failure on standard error."""
    announced = json.loads(sys.stdin.buffer.readline())
    syntax, memory = UID(announced.pop("transfer_syntax")), announced.pop("bytes")
    resource.setrlimit(resource.RLIMIT_AS, (4 * memory + _MEMORY_SPARE,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_MAX, SECONDS_MAX))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    warnings.simplefilter("ignore")
    try:
        found = list(get_decoder(syntax).iter_buffer(sys.stdin.buffer.read(), raw=True, **announced))
    except Exception as cause:  # noqa: BLE001 - supervision edge: codecs at work on foreign bytes raise whatever they like
        sys.stderr.write(type(cause).__name__)
        return 3
    meta = found[0][1]
    told = {"photometric": meta["photometric_interpretation"], "planar": meta.get("planar_configuration", 0)}
    out = sys.stdout.buffer
    out.write(json.dumps(told).encode() + b"\n")
    for frame, _ in found:
        out.write(len(frame).to_bytes(8, "big"))
        out.write(frame)
    return 0


if __name__ == "__main__":
    sys.exit(main())
