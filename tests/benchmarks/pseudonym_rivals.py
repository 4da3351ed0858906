"""One tool over a folder of DICOM files: ``python pseudonym_rivals.py TOOL SOURCE TARGET``, in the tool's own environment.

Prints one JSON object: files written, files refused, seconds of wall and of processor, imports not counted. Each tool runs by its
documented call with its defaults, but that private attributes go where a switch exists.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

One = Callable[[Path, Path], None]
Begin = Callable[[list[Path]], One]


def dicom_anonymizer() -> Begin:
    from dicomanonymizer import anonymize_dicom_file

    return lambda _sources: (
        lambda source, target: anonymize_dicom_file(str(source), str(target), delete_private_tags=True)
    )


def deid(*, strip_sequences: bool = False) -> Begin:
    from deid.config import DeidRecipe
    from deid.dicom import replace_identifiers

    recipe = DeidRecipe()

    def one(source: Path, target: Path) -> None:
        cleaned = replace_identifiers(
            dicom_files=[str(source)], deid=recipe, save=False, remove_private=True, strip_sequences=strip_sequences
        )
        cleaned[0].save_as(target)

    return lambda _sources: one


def dicognito() -> Begin:
    from dicognito.anonymizer import Anonymizer
    from pydicom import dcmread

    anonymizer = Anonymizer()

    def one(source: Path, target: Path) -> None:
        data_set = dcmread(source)
        anonymizer.anonymize(data_set)
        data_set.save_as(target)

    return lambda _sources: one


def poterne(*, searched: bool = True) -> Begin:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from sampler.pseudonym.objects import Seen, originals
    from sampler.pseudonym.residue import Search
    from tests.fixtures.pseudonym_objects import a_case

    if not searched:
        Search.require_none = lambda self, data, *, what: None

    def begin(sources: list[Path]) -> One:
        """All originals are read first, as for a case: what one of them says is looked for in every other."""
        case = a_case(originals=originals(sources, what="the files"))
        return lambda source, target: (
            target.write_bytes(case.made(source, what=source.name, seen=Seen()).data) and None
        )

    return begin


TOOLS: dict[str, Callable[[], Begin]] = {
    "poterne": poterne,
    "poterne, not searched": lambda: poterne(searched=False),
    "dicom-anonymizer": dicom_anonymizer,
    "deid": deid,
    "deid, sequences stripped": lambda: deid(strip_sequences=True),
    "dicognito": dicognito,
}


def pairs(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    for path in sorted(source.iterdir()):
        yield path, target / path.name


def main(tool: str, source: Path, target: Path) -> None:
    warnings.simplefilter("ignore")
    begin = TOOLS[tool]()
    todo = list(pairs(source, target))
    with suppress(Exception):  # what it cannot do is counted below
        begin([todo[0][0]])(todo[0][0], target / "warm-up")
    (target / "warm-up").unlink(missing_ok=True)
    refused = 0
    wall, cpu = time.perf_counter(), time.process_time()
    one = begin([origin for origin, _ in todo])
    for origin, goal in todo:
        try:
            one(origin, goal)
        except Exception as error:
            refused += 1
            print(f"{tool}: {type(error).__name__}: {error}"[:300], file=sys.stderr)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"written": len(todo) - refused, "refused": refused, "wall": wall, "cpu": cpu}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
