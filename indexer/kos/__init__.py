"""A study's manifest as a Key Object Selection document, written, read and checked in three profiles.

* ``encode``: the strict form of one profile, or a refusal with the id of its rule (FF-18);
* ``read``: any maker's document as a manifest, each departure from the rules a deviation;
* ``check``: the deviations and every rule of the document's profile;
* ``CARRIES``, ``LOSES``, ``lost``: what a profile can and cannot say of a manifest.

The rules are listed in ``indexer.rules.kos``. Left to others: whether a patient may be published (``indexer.gate``),
the metadata of the index (``indexer.xds``).
"""

from indexer.kos.carried import CARRIES, LOSES, lost
from indexer.kos.classes import SOP_CLASS, value_type
from indexer.kos.conformance import check
from indexer.kos.reader import read
from indexer.kos.writer import encode

__all__ = ["CARRIES", "LOSES", "SOP_CLASS", "check", "encode", "lost", "read", "value_type"]
