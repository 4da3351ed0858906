"""What a backload would do: from the PACS's days, what we know, and a folder of reports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.backload import Day, ReportFile, Stand, load, preview, preview_text
from gateway.i18n import words

D1, D2, D3 = date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)


def day(of: date, *studies: str, unknown: str = "") -> Day:
    return Day(day=of, studies=studies, unknown=unknown)


def file(name: str, *studies: str, unusable: str = "") -> ReportFile:
    return ReportFile(path=Path(name), studies=studies, unusable=unusable)


def test_each_study_of_the_period_stands_somewhere():
    found = preview(
        (day(D1, "1", "2"), day(D2, "3", "4")),
        {"1": Stand.INDEXED, "3": Stand.UNDER_WAY},
        [file("a", "2"), file("b", "9")],
    )

    assert found.stands == {
        "1": Stand.INDEXED,
        "2": Stand.TO_LOAD,
        "3": Stand.UNDER_WAY,
        "4": Stand.WITHOUT_REPORT,
    }


def test_the_most_recent_exam_goes_first():
    found = preview((day(D3, "3"), day(D1, "1"), day(D2, "2")), {}, [file("1", "1"), file("2", "2"), file("3", "3")])

    assert [str(one.path) for one in found.files] == ["3", "2", "1"]


def test_a_report_about_another_period_or_about_exams_under_way_is_not_sent():
    found = preview((day(D1, "1", "2"),), {"2": Stand.INDEXED}, [file("other", "9"), file("known", "2")])

    assert found.files == ()


def test_a_report_of_two_studies_goes_when_one_of_them_is_not_known():
    found = preview((day(D1, "1", "2"),), {"2": Stand.INDEXED}, [file("both", "1", "2")])

    assert [one.path.name for one in found.files] == ["both"]


def test_ff54_a_day_without_a_clean_list_is_named_and_loads_nothing():
    found = preview((day(D1, unknown="timeout: no progress"),), {}, [file("a", "1")])

    assert found.files == ()
    assert [one.day for one in found.unknown] == [D1]
    assert "2024-01-01" in "\n".join(preview_text(found, words("en"), first=D1, last=D1))


def test_an_unusable_file_is_named_and_disturbs_no_other():
    found = preview((day(D1, "1"),), {}, [file("bad", unusable="bad-base64"), file("good", "1")])

    assert [one.path.name for one in found.files] == ["good"]
    assert "bad-base64" in "\n".join(preview_text(found, words("fr"), first=D1, last=D1))


async def test_every_message_is_sent_once_in_order_and_every_refusal_is_kept(tmp_path: Path):
    for name in ("1", "2", "3"):
        (tmp_path / name).write_bytes(b"message " + name.encode())
    found = preview(
        (day(D1, "1"), day(D2, "2"), day(D3, "3")), {}, [file(str(tmp_path / name), name) for name in ("1", "2", "3")]
    )
    sent: list[str] = []
    steps: list[tuple[int, int]] = []

    async def order(message: str) -> tuple[str, str]:
        sent.append(message)
        return ("AE", "identity-name") if len(sent) == 2 else ("AA", "")

    loaded = await load(found, order, lambda number, of: steps.append((number, of)))

    assert len(sent) == len(set(sent)) == 3
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert dict(loaded.answers) == {"AA": 2, "AE": 1}
    assert [(path.name, reason) for path, reason in loaded.refused] == [("2", "identity-name")]


STUDY = st.integers(0, 9).map(str)


@given(
    days=st.lists(st.lists(STUDY, max_size=4), max_size=4),
    known=st.dictionaries(STUDY, st.sampled_from([Stand.INDEXED, Stand.UNDER_WAY, Stand.WITHDRAWN])),
    files=st.lists(st.lists(STUDY, min_size=1, max_size=3), max_size=6),
)
def test_what_is_sent_is_exactly_what_speaks_of_an_unknown_study_of_the_period(
    days: list[list[str]], known: Mapping[str, Stand], files: list[list[str]]
):
    listed = tuple(day(date(2024, 1, 1 + n), *studies) for n, studies in enumerate(days))
    found = preview(listed, dict(known), [file(str(n), *studies) for n, studies in enumerate(files)])

    period = {study for one in days for study in one}
    assert set(found.stands) == period
    assert {one.path.name for one in found.files} == {
        str(n) for n, studies in enumerate(files) if any(s in period and s not in known for s in studies)
    }
    assert sum(found.counts.values()) == len(period)
