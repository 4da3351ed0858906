"""The law of the KOS: what is written is read back, but for what a profile cannot carry; and its exact exceptions."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.kos import CARRIES, LOSES, check, encode, lost, read
from indexer.manifest import Imprint, StudyManifest
from indexer.reading import CodeSet, Profile
from indexer.report import Coded, Order, Organization
from indexer.study import Address, Instance, KeyNote, Series
from security.errors import BadInput
from security.identity import Ins, LocalId, PatientIdentity, Traits, Uid
from tests.fixtures.exams import CT, ECG, INS_TEST, MANIFEST, MATRICULE, PATIENT, SR
from tests.fixtures.kos import DCM, EXAM, KO, PRIVATE, SCT, SIGNED, written

PROFILES: tuple[Profile, ...] = get_args(Profile)

# -- any manifest that every profile can write -------------------------------------------------------------------

NAMES = st.text(st.characters(codec="utf-8", categories=["Lu", "Ll"]), min_size=1, max_size=20)
WORDS = st.text(st.characters(codec="utf-8", categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=16)
TEXTS = st.just("") | st.lists(WORDS, min_size=1, max_size=3).map(" ".join)
OIDS = st.integers(1, 10**9).map(lambda n: f"1.2.250.1.999.{n}")
DATES = st.dates(date(1900, 1, 1), date(2100, 1, 1)).map(lambda one: one.strftime("%Y%m%d"))
TIMES = st.times().map(lambda one: one.strftime("%H%M%S.%f"))
CODES = st.builds(
    Coded,
    code=st.text(string.ascii_uppercase + string.digits, min_size=1, max_size=20),
    system=st.sampled_from([DCM, SCT, "2.16.840.1.113883.6.1", "1.2.250.1.213.2.5", "1.2.250.1.213.1.1.4.9"]),
    display=WORDS,
)
NUMBERS = st.none() | st.integers(-(2**31), 2**31 - 1)
ADDRESSES = st.builds(
    Address,
    base=st.sampled_from(["https://db1.exemple.test/rs", "http://db2.exemple.test:8080/aets/A/rs"]),
    location=OIDS,
    ae_title=st.text(string.ascii_uppercase, min_size=1, max_size=16),
)
TRAITS = st.builds(
    Traits,
    birth_name=NAMES,
    first_given_name=NAMES,
    given_names=NAMES,
    used_name=NAMES | st.just(""),
    used_given_name=NAMES | st.just(""),
    sex=st.sampled_from(["M", "F", "U"]),
    birth_date=st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    birthplace=st.sampled_from(["", "75112", "2A004", "99134"]),
)
LOCALS = st.lists(st.builds(LocalId, value=WORDS, issuer=OIDS), unique=True, max_size=3).map(tuple)
PATIENTS = st.builds(
    PatientIdentity,
    traits=TRAITS,
    ins=st.just(Ins(matricule=MATRICULE, oid=INS_TEST, status="VALI")),
    local_ids=LOCALS,
)
ORDERS = st.lists(
    st.builds(Order, accession_number=WORDS, accession_issuer=OIDS, placer_number=WORDS, placer_issuer=OIDS),
    min_size=1,
    max_size=3,
    unique=True,
).map(tuple)


@st.composite
def series(draw: st.DrawFn) -> tuple[Series, ...]:
    """Series of one study; every key-image note points at listed instances, in their order."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    uids = [[Uid(f"1.2.250.1.999.10.{s}.{n}") for n in range(size)] for s, size in enumerate(sizes)]
    every = [uid for some in uids for uid in some]
    address = draw(ADDRESSES)
    made = []
    for place, some in enumerate(uids):
        instances = tuple(_instance(draw, uid, every) for uid in some)
        region, part = draw(st.sampled_from([(None, ""), (None, "SELLA")])) if place % 2 else (draw(CODES), "")
        made.append(
            Series(
                uid=Uid(f"1.2.250.1.999.10.{place}"),
                modality=draw(st.sampled_from(["CT", "MR", "KO", "ECG"])),
                instances=instances,
                number=draw(NUMBERS),
                description=draw(TEXTS),
                body_part=part,
                date=draw(DATES),
                time=draw(TIMES),
                region=region,
                laterality=draw(st.sampled_from(["", "L", "R", "B"])),
                address=address if place and draw(st.booleans()) else None,
            )
        )
    return tuple(made)


def _instance(draw: st.DrawFn, uid: Uid, every: list[Uid]) -> Instance:
    sop_class = draw(st.sampled_from([CT, SR, ECG, KO, PRIVATE]))
    note = None
    if sop_class == KO:
        chosen = draw(st.sets(st.sampled_from(every), min_size=1))
        note = KeyNote(
            title=draw(CODES), description=draw(TEXTS), references=tuple(one for one in every if one in chosen)
        )
    return Instance(
        sop_class=sop_class,
        sop_instance=uid,
        number=draw(NUMBERS),
        frames=draw(st.none() | st.integers(1, 9999)),
        note=note,
    )


MANIFESTS = st.builds(
    StudyManifest,
    study=st.just(Uid("1.2.250.1.999.10")),
    date=DATES,
    time=TIMES,
    description=TEXTS,
    study_id=st.just("") | WORDS,
    referring_physician=st.just("") | NAMES,
    patient=PATIENTS,
    orders=ORDERS,
    series=series(),
    procedures=st.lists(CODES, unique=True, max_size=2).map(tuple),
    regions=st.lists(CODES, unique=True, min_size=1, max_size=3).map(tuple),
    institution=st.builds(Organization, identifier=st.text(string.digits, min_size=1, max_size=9), system=OIDS, name=WORDS),
    address=ADDRESSES,
    viewer_url=st.sampled_from(["", "https://visionneuse.exemple.test/s?u=1"]),
)  # fmt: skip
OFFSETS = st.integers(-56, 56).map(lambda quarters: timezone(timedelta(minutes=15 * quarters)))
IMPRINTS = st.builds(
    Imprint,
    unique_id=st.just(Uid("2.25.111")),
    series_uid=st.just(Uid("2.25.222")),
    created_at=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
        lambda one: one.replace(microsecond=0)
    ),
    zone=OFFSETS,
    manufacturer=WORDS,
)


# -- what remains of a manifest in a profile ---------------------------------------------------------------------


def carried(value: Any, losses: Mapping[str, str], path: str = "") -> Any:
    """``value`` with everything blanked that the profile loses."""
    if path in losses:
        return "∅"
    if is_dataclass(value) and not isinstance(value, type):
        prefix = f"{path}." if path else ""
        return {one.name: carried(getattr(value, one.name), losses, prefix + one.name) for one in fields(value)}
    return [carried(one, losses, path) for one in value] if isinstance(value, tuple) else value


def settled(manifest: StudyManifest) -> StudyManifest:
    """The same manifest with the address of its first series as the common one: a KOS states addresses by series."""
    first = manifest.series[0].address or manifest.address
    stated = ((one, one.address or manifest.address) for one in manifest.series)
    return replace(
        manifest,
        address=first,
        series=tuple(replace(one, address=None if where == first else where) for one, where in stated),
    )


def comparable(manifest: StudyManifest, profile: Profile) -> Any:
    """What both sides of the law must agree on. drim-m and MADO do not write the AE title: two addresses that differ
    in it alone are one there."""
    if "address.ae_title" in LOSES[profile]:
        bare = replace(manifest.address, ae_title="")
        manifest = replace(
            manifest,
            address=bare,
            series=tuple(
                replace(one, address=replace(one.address, ae_title="") if one.address is not None else None)
                for one in manifest.series
            ),
        )
    return carried(settled(manifest), LOSES[profile])


@pytest.mark.parametrize("codes", get_args(CodeSet))
@pytest.mark.parametrize("profile", PROFILES)
@given(manifest=MANIFESTS, made=IMPRINTS)
def test_what_is_written_is_read_back_but_for_what_the_profile_cannot_carry(
    profile: Profile, codes: CodeSet, manifest: StudyManifest, made: Imprint
) -> None:
    found = read(encode(manifest, made, profile=profile, codes=codes))
    assert comparable(found.manifest, profile) == comparable(manifest, profile)
    assert found.imprint == made
    assert (found.form, found.profile, found.codes) == ("kos", profile, codes if profile == "mado" else None)


@pytest.mark.parametrize("profile", PROFILES)
@given(manifest=MANIFESTS, made=IMPRINTS)
def test_nothing_that_is_written_breaks_a_rule_but_for_what_the_images_do_not_say(
    profile: Profile, manifest: StudyManifest, made: Imprint
) -> None:
    found = {one.rule for one in check(encode(manifest, made, profile=profile))}
    assert found <= {"kos-series-number"}
    assert ("kos-series-number" in found) == (
        profile == "drim-m" and any(one.number is None for one in manifest.series)
    )


@pytest.mark.parametrize("profile", PROFILES)
@given(manifest=MANIFESTS, made=IMPRINTS)
def test_what_was_read_is_written_again_byte_by_byte(
    profile: Profile, manifest: StudyManifest, made: Imprint
) -> None:
    data = encode(manifest, made, profile=profile)
    found = read(data)
    assert encode(qualified(found.manifest, manifest), found.imprint, profile=profile) == data


def qualified(found: StudyManifest, source: StudyManifest) -> StudyManifest:
    """What a person adds who converts: the status that no KOS states, and what the text for people was made from."""
    patient = replace(found.patient, ins=source.patient.ins)
    return replace(found, patient=patient, procedures=source.procedures, address=_titled(found, source))


def _titled(found: StudyManifest, source: StudyManifest) -> Address:
    return found.address if found.address.ae_title else replace(found.address, ae_title=source.address.ae_title)


# -- the exceptions ----------------------------------------------------------------------------------------------


def test_what_a_profile_carries_and_loses_is_every_field_once() -> None:
    every = {path for profile in PROFILES for path in CARRIES[profile]}
    for profile in PROFILES:
        gone = {path for path in every if any(f"{path}.".startswith(f"{one}.") for one in LOSES[profile])}
        assert set(CARRIES[profile]) == every - gone
    assert {"study", "patient.ins.matricule", "patient.local_ids.issuer", "orders.placer_number"} <= set(
        CARRIES["xds-i"]
    )
    assert "series.instances.frames" in CARRIES["mado"]
    assert "series.instances.note.references" in CARRIES["drim-m"]


def test_what_is_lost_of_one_exam_is_said_before_it_is_converted() -> None:
    assert lost(EXAM, "mado") == (
        "patient.traits.given_names",
        "patient.ins.status",
        "patient.traits.used_name",
        "patient.traits.used_given_name",
        "patient.traits.birthplace",
        "series.instances.note.references",
        "address.ae_title",
        "series.body_part",
    )
    assert "series.instances.frames" in lost(EXAM, "drim-m")
    assert "series.instances.frames" not in lost(MANIFEST, "drim-m")


@pytest.mark.parametrize("profile", PROFILES)
def test_no_status_of_an_ins_is_concluded_from_a_document(profile: Profile) -> None:
    ins = read(written(profile)).manifest.patient.ins
    assert ins == Ins(matricule=MATRICULE, oid=INS_TEST, status="")


def test_an_identity_that_was_read_is_not_qualified_enough_for_drim_m() -> None:
    found = read(written("mado"))
    with pytest.raises(BadInput) as caught:
        encode(found.manifest, found.imprint, profile="drim-m")
    assert caught.value.code == "kos-no-ins"


@pytest.mark.parametrize("status", ["PROV", "DOUTE", "HOMOLOGUE"])
def test_an_ins_that_is_not_qualified_names_nobody(status: str) -> None:
    doubtful = replace(PATIENT, ins=Ins(matricule=MATRICULE, oid=INS_TEST, status=status))
    data = written("mado", manifest=replace(EXAM, patient=doubtful))
    assert MATRICULE.encode() not in data
    assert read(data).manifest.patient.local_ids == (LocalId(value="IPP-1", issuer="1.2.250.1.999.1"),)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("codes", get_args(CodeSet))
def test_the_same_manifest_gives_the_same_bytes(profile: Profile, codes: CodeSet) -> None:
    assert written(profile, codes=codes) == written(profile, codes=codes)
    assert SIGNED.unique_id == "2.25.111"
