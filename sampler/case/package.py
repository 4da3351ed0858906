"""What of a case may be read by an auditor, as one ZIP file with a list and digests.

``case.json`` (campaign, unit, what is in it, what was left out and why), ``images/``, ``report.xml``, ``report/``
(pictures of covered pages), ``request.json``, ``dose.json``, ``SHA256SUMS``. The same case gives the same bytes.

Invariants:

* nothing is written unless everything is ready, and the file appears whole or not at all;
* images that show a face are not in it unless it is for the site's own viewer;
* every part was searched for the originals' values, by whoever made it.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lxml import etree

from sampler.case import dose
from sampler.case.preparation import Originals, figures_of
from sampler.case.work import SPEC
from sampler.pages import document, redaction
from security.errors import Refused

_EPOCH = (1980, 1, 1, 0, 0, 0)
MODE = 0o600


def write(originals: Originals, out: Path, *, for_viewer: bool, told: Callable[[int], object]) -> dict[str, Any]:
    """Write the package; the content of its ``case.json``.

    Raises:
        Refused: ``case-not-ready`` with what is missing; ``case-residue``, ``residue-found``.
        BadInput: as the parts that make it.
        FileExistsError: ``out`` is there already.
    """
    _require_ready(originals)
    digests: dict[str, str] = {}
    partial = out.with_name(out.name + ".part")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    try:
        with os.fdopen(handle, "wb") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:

                def put(name: str, content: bytes) -> None:
                    digests[name] = hashlib.sha256(content).hexdigest()
                    archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)

                told_of = _images(originals, put, for_viewer=for_viewer, told=told)
                facts = _facts(originals, told_of, for_viewer=for_viewer) | {"texts": _texts(originals, put)}
                put("dose.json", _json([asdict(figure) for figure in _figures(originals, told_of["figures"])]))
                put("case.json", _json(facts))
                sums = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
                archive.writestr(zipfile.ZipInfo("SHA256SUMS", _EPOCH), sums)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(partial, out)  # refuses to replace a package
    finally:
        partial.unlink(missing_ok=True)
    return facts


def _require_ready(originals: Originals) -> None:
    work = originals.work
    missing = []
    if work.waiting:
        missing.append(f"{len(work.waiting)} images wait for a person")
    if not work.is_read:
        missing.append("nobody confirmed that report and request were read")
    if missing:
        raise Refused(
            "the case is not ready: " + "; ".join(missing), code="case-not-ready", hint="see poterne case review"
        )


def _images(
    originals: Originals, put: Callable[[str, bytes], None], *, for_viewer: bool, told: Callable[[int], object]
) -> dict[str, Any]:
    found: dict[str, Any] = {"images": 0, "rendered_only": 0, "methods": set(), "studies": set(), "figures": []}
    for number, image in enumerate(originals.work.images, start=1):
        if image.left_out:
            continue
        made = originals.made(number)
        found["studies"].add(made.study)
        found["methods"] |= set(made.methods)
        found["figures"] += figures_of(made)
        found["rendered_only"] += made.rendered_only
        if for_viewer or not made.rendered_only:
            put(f"images/{made.sop_instance}.dcm", made.data)
            found["images"] += 1
        told(number)
    return found


def _facts(originals: Originals, found: dict[str, Any], *, for_viewer: bool) -> dict[str, Any]:
    work = originals.work
    return {
        "spec": SPEC,
        "campaign": work.campaign,
        "unit": work.unit,
        "patient": originals.pseudonyms.patient_id,
        "studies": sorted(found["studies"]),
        "images": found["images"],
        "images_rendered_only": found["rendered_only"],
        "images_left_out": dict(sorted(Counter(image.left_out for image in work.images if image.left_out).items())),
        "methods": sorted(found["methods"]),
        "for_viewer": for_viewer,
    }


def _texts(originals: Originals, put: Callable[[str, bytes], None]) -> dict[str, Any]:
    texts, covers = originals.texts, originals.work.covers
    if texts.report is not None:
        put("report.xml", texts.report)
    redaction.within(covers, texts.pages)
    redaction.without_residue(texts.pages, covers, originals.identifiers)
    if texts.pages:
        for number, picture in enumerate(redaction.covered(document.drawn(texts.pdf), covers), start=1):
            put(f"report/page-{number:02}.png", picture)
    if texts.requests:
        put("request.json", _json([asdict(one) for one in texts.requests]))
    return {
        "report": texts.report is not None,
        "pages": len(texts.pages),
        "covers": len(covers),
        "requests": len(texts.requests),
        "age": texts.age,
    }


def _figures(originals: Originals, found: list[dose.Figure]) -> Iterator[dose.Figure]:
    yield from found
    if originals.texts.report is not None:
        yield from dose.of_report(etree.fromstring(originals.texts.report))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).encode()
