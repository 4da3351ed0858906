"""Identifiers, hash and stored form of a manifest."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from indexer import manifest as module
from indexer.manifest import Context, StudyManifest, content_hash, derived_uid, edition, to_blob
from indexer.report import Visibility
from indexer.study import Instance, Series
from security.identity import Uid
from tests.fixtures.exams import CONTEXT, CT, MANIFEST, STUDY_UID

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def read_back(blob: bytes) -> tuple[StudyManifest, Context]:
    """What a stored blob tells a reader that knows only its form: JSON, deflated."""
    return TypeAdapter(tuple[StudyManifest, Context]).validate_json(zlib.decompress(blob))


def made(version: int = 1, tenant: str = "north", content: str = "aa", at: datetime = NOON) -> module.Edition:
    return edition(tenant=tenant, study=STUDY_UID, version=version, content=content, created_at=at, replaces=None)


def test_i06_the_same_content_has_the_same_hash_and_it_never_changes() -> None:
    assert content_hash(MANIFEST, CONTEXT) == content_hash(replace(MANIFEST), replace(CONTEXT))
    assert content_hash(MANIFEST, CONTEXT) == "75ef746ddd083849fa5fffbc50ad0bada9f77fbedee98d6b7418c0873c6524a7"


def test_i06_a_field_that_is_silent_is_no_part_of_the_hash() -> None:
    """A later version may add fields: what was indexed before it must not look changed."""
    assert module.plain(Instance(sop_class=CT, sop_instance=Uid("2.25.1"))) == {
        "sop_class": CT,
        "sop_instance": "2.25.1",
    }


def test_i06_any_change_of_content_changes_the_hash() -> None:
    other = [
        content_hash(replace(MANIFEST, description="Autre"), CONTEXT),
        content_hash(replace(MANIFEST, series=MANIFEST.series[:1]), CONTEXT),
        content_hash(MANIFEST, replace(CONTEXT, visibility=Visibility())),
        content_hash(replace(MANIFEST, regions=()), CONTEXT),
    ]
    assert len({content_hash(MANIFEST, CONTEXT), *other}) == 5


def test_i06_the_moment_of_making_is_no_part_of_the_identity() -> None:
    assert made().unique_id == made(at=datetime(2027, 1, 1, tzinfo=UTC)).unique_id


def test_ff17_version_content_and_tenant_each_give_another_document() -> None:
    editions = [made(), made(version=2), made(content="bb"), made(tenant="south")]
    assert len({uid for e in editions for uid in (e.unique_id, e.series_uid, e.submission_id)}) == 12


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_ff17_derived_uids_are_valid_and_unique(count: int) -> None:
    uids = {derived_uid("document", str(number)) for number in range(count)}
    assert len(uids) == count
    assert all(Uid(str(uid)) == uid and uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


def test_ff17_sixteen_threads_build_sixteen_manifests() -> None:
    start = Barrier(16)

    def build(number: int) -> tuple[str, str]:
        start.wait()
        content = content_hash(replace(MANIFEST, study=Uid(f"1.2.{number}")), CONTEXT)
        return content, made(content=content).unique_id

    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(build, range(16)))
    start = Barrier(1)
    assert together == [build(number) for number in range(16)]
    assert len(set(together)) == 16


def test_a_stored_manifest_reads_back_as_it_was() -> None:
    assert read_back(to_blob(MANIFEST, CONTEXT)) == (MANIFEST, CONTEXT)


@given(
    description=st.text(max_size=80),
    numbers=st.lists(st.integers() | st.none(), min_size=1, max_size=20),
    start=st.none() | st.datetimes(timezones=st.just(UTC)),
)
def test_any_content_survives_the_store(description: str, numbers: list[int | None], start: datetime | None) -> None:
    instances = tuple(
        Instance(sop_class=CT, sop_instance=Uid(f"1.2.{place}"), number=number)
        for place, number in enumerate(numbers)
    )
    series = (Series(uid=Uid("1.2"), modality="CT", instances=instances, description=description),)
    content = replace(MANIFEST, series=series), replace(CONTEXT, service_start=start)
    assert read_back(to_blob(*content)) == content


def test_a_large_study_is_one_small_blob() -> None:
    instances = tuple(
        Instance(sop_class=CT, sop_instance=Uid(f"1.2.250.1.999.10.1.1.{n}"), number=n) for n in range(1, 1301)
    )
    large = replace(MANIFEST, series=(Series(uid=Uid("1.2"), modality="CT", number=1, instances=instances),))
    assert len(to_blob(large, CONTEXT)) < 20_000
