"""Where the material beside the repository is, for tests marked ``corpus``.

It is never needed: without it those tests skip with a reason. ``POTERNE_CORPUS`` names its folder; by default it
is looked for next to the checkout.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data"
CORPUS = Path(os.environ.get("POTERNE_CORPUS", _DEFAULT))


def corpus(*parts: str) -> Path:
    """The path of one piece of material; skips the calling test when the whole material is absent."""
    if not CORPUS.is_dir():
        pytest.skip(f"no material at {CORPUS} (set POTERNE_CORPUS)")
    path = CORPUS.joinpath(*parts)
    assert path.exists(), f"the material at {CORPUS} lacks {'/'.join(parts)}"
    return path
