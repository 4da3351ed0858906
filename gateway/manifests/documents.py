"""Manifest documents as files: read whole under a cap, written whole or not at all.

Invariants:

* a file that is there already is never replaced unless that was asked for, whatever happens at the same time;
* who looks at the name of an output sees no file or a whole one; its mode is 0600: it names a patient;
* of several outputs none is written when one of them could not be made.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from security.errors import BadInput, Refused
from security.secrets import create_private

BYTES_MAX = 64 * 1024 * 1024
"""Of a document: a hundred thousand instances take about 40 MB as a KOS, 30 MB as FHIR."""


def load(path: Path) -> bytes:
    """The whole file.

    Raises:
        BadInput: ``document-too-large``.
        Refused: ``file-unreadable``.
    """
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise Refused(
            f"{path}: {error.strerror}", code="file-unreadable", hint="name a file that you may read"
        ) from error
    if len(data) > BYTES_MAX:
        raise BadInput(
            f"{path.name}: more than {BYTES_MAX} bytes",
            code="document-too-large",
            hint="is this a manifest document?",
        )
    return data


def check_free(paths: Iterable[Path], *, force: bool) -> None:
    """Nothing stands where an output is to be written: asked before the work, and kept by ``save`` after it.

    Raises:
        Refused: ``file-exists``.
    """
    for path in paths:
        if path.is_dir() or (not force and os.path.lexists(path)):
            raise _exists(path)


def save(outputs: Mapping[Path, bytes], *, force: bool) -> None:
    """Write every document, or raise before a name exists that did not.

    Raises:
        Refused: ``file-exists``; ``file-unwritable``.
    """
    with ExitStack() as stack:
        parts = []
        for path, data in outputs.items():
            try:
                parts.append((_part(path, data, stack), path))
            except OSError as error:
                raise _unwritable(path, error) from error
        check_free(outputs, force=force)  # before the first is named, so that not half of them are there
        for part, path in parts:
            try:
                if force:
                    part.replace(path)
                else:
                    os.link(part, path)  # unlike rename, it never replaces
            except FileExistsError:
                raise _exists(path) from None
            except OSError as error:
                raise _unwritable(path, error) from error


def _part(path: Path, data: bytes, stack: ExitStack) -> Path:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    create_private(part, data)
    stack.callback(part.unlink, missing_ok=True)
    return part


def _exists(path: Path) -> Refused:
    return Refused(f"{path} exists already", code="file-exists", hint="name another file, or replace it with --force")


def _unwritable(path: Path, error: OSError) -> Refused:
    return Refused(
        f"{path}: {error.strerror}", code="file-unwritable", hint="name a file in a folder you may write to"
    )
