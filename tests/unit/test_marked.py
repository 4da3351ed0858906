"""What looks for the marks of T34 finds them however they are written."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from tests.support.marked import MARKED, found

ONE = MARKED[4]
NAME = ONE.patient.birth_name


def test_the_twenty_persons_share_no_mark_and_no_exam():
    marks = [mark for one in MARKED for mark in one.marks]
    assert len(MARKED) == 20
    assert len(set(marks)) == 80
    assert len({one.study for one in MARKED}) == 20


@pytest.mark.parametrize(
    "written",
    [
        NAME,
        f"x{NAME}y",
        quote("Â" + NAME),
        "".join(f"%{ord(c):02x}" for c in NAME),
        json.dumps(f"é{NAME}"),
        NAME.encode("utf-16-le"),
        base64.b64encode(f"un mot devant {NAME} et un après".encode()),
        b"x" + base64.urlsafe_b64encode(f"encore ?>?>?> {NAME} >?>".encode()).rstrip(b"="),
        f"encore un mot {NAME}".encode().hex(),
        f"né le {ONE.patient.birth_date:%d}, {ONE.patient.birth_date:%Y%m%d}",
        f"{ONE.patient.matricule}",
    ],
)
def test_a_mark_is_found_in_every_form(written):
    assert found(written) <= set(ONE.marks)
    assert found(written)


def test_nothing_is_found_where_no_mark_stands():
    assert found(b"1911 ZQ Q " + bytes(range(256)) * 40) == set()
