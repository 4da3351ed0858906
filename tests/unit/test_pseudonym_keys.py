"""Keys of a campaign and the pseudonyms made with them (FF-51, T51, T53)."""

from __future__ import annotations

import hashlib
import hmac
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampler.pseudonym.keys import CampaignKeys, Pseudonyms, Subject, age_at, age_kept
from security.errors import BadInput, Broken

MASTER = bytes(range(32))
ZOE = Subject(authority="1.2.250.1.999.1", id="P-0042")


def of(campaign: str, subject: Subject = ZOE) -> Pseudonyms:
    return Pseudonyms(CampaignKeys.derive(MASTER, campaign), subject)


def rfc5869(master: bytes, info: bytes) -> bytes:
    """RFC 5869 2.2 and 2.3 by hand, one block."""
    extracted = hmac.digest(bytes(32), master, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)


def test_the_four_keys_are_hkdf_of_the_master_key_with_campaign_and_purpose():
    keys = CampaignKeys.derive(MASTER, "rad-2026-01")
    assert keys.uid == rfc5869(MASTER, b"rad-2026-01uid")
    assert keys.pid == rfc5869(MASTER, b"rad-2026-01pid")
    assert keys.date == rfc5869(MASTER, b"rad-2026-01date")
    assert keys.campaign == rfc5869(MASTER, b"rad-2026-01campaign")


def test_keys_and_identifiers_do_not_appear_when_printed():
    assert repr(CampaignKeys.derive(MASTER, "c")) == "CampaignKeys()"
    assert "P-0042" not in repr(ZOE)


def test_a_short_master_key_or_a_nameless_campaign_is_refused():
    with pytest.raises(Broken) as short:
        CampaignKeys.derive(bytes(31), "c")
    assert short.value.code == "campaign-key-short"
    with pytest.raises(BadInput) as nameless:
        CampaignKeys.derive(MASTER, "")
    assert nameless.value.code == "campaign-id-empty"


def test_a_uid_becomes_the_integer_of_a_uuid_version_8():
    digest = bytearray(hmac.digest(rfc5869(MASTER, b"cuid"), b"1.2.3", hashlib.sha256)[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    assert of("c").uid("1.2.3") == f"2.25.{int.from_bytes(digest, 'big')}"


def test_patient_identifier_and_name_have_the_form_of_the_campaign():
    zoe = of("c")
    assert len(zoe.patient_id) == 14
    assert zoe.patient_id.startswith("A-")
    assert zoe.patient_name == "AUDIT^" + zoe.patient_id
    assert of("c", Subject(authority="1.2.250.1.999.2", id="P-0042")).patient_id != zoe.patient_id


@pytest.mark.parametrize(
    ("value", "kept"),
    [("089Y", "089Y"), ("090Y", "090Y"), ("101Y", "090Y"), ("003M", "003M"), (" 045Y", "045Y"), ("45Y", None)],
)
def test_ages_of_ninety_and_above_are_one(value, kept):
    assert age_kept(value) == kept


@pytest.mark.parametrize(
    ("birth", "day", "age"),
    [
        ("19360229", "20260228", "089Y"),
        ("19360229", "20260301", "090Y"),
        ("19200101", "20260101", "090Y"),
        ("20250601", "20260301", "009M"),
        ("20260201", "20260301", "028D"),
        ("20260302", "20260301", None),
        ("", "20260301", None),
    ],
)
def test_an_age_is_told_from_birth_and_day_of_the_exam(birth, day, age):
    assert age_at(birth, day) == age


def test_dates_of_every_written_form_move_and_what_is_no_date_is_none():
    zoe = of("c")
    weeks = -zoe.shift.days // 7
    assert 1 <= weeks <= 52
    assert zoe.shift == timedelta(days=-7 * weeks)
    day = (date(2026, 3, 4) - timedelta(weeks=weeks)).strftime("%Y%m%d")
    assert zoe.shifted_date("20260304") == zoe.shifted_date("2026.03.04") == day
    assert zoe.shifted_date_time("20260304101112.345678+0100") == day + "101112.345678+0100"
    assert zoe.shifted_date_time("202603") == (date(2026, 3, 1) + zoe.shift).strftime("%Y%m")
    assert [zoe.shifted_date(text) for text in ("", "20261301", "00010101", "4 mars 2026", "20260304-20260305")] == [
        None
    ] * 5
    assert zoe.shifted_date_time("20260304T101112") is None


DAYS = st.dates(min_value=date(1900, 1, 1), max_value=date(2100, 12, 31))
IDS = st.text(min_size=1, max_size=20)


@settings(max_examples=40)
@given(one=DAYS, other=DAYS, patient=IDS)
def test_intervals_and_weekdays_stay(one, other, patient):
    who = of("c", Subject(authority="a", id=patient))
    moved = [date.fromisoformat(who.shifted_date(day.strftime("%Y%m%d"))) for day in (one, other)]
    assert moved[0] - moved[1] == one - other
    assert [day.weekday() for day in moved] == [one.weekday(), other.weekday()]
    assert timedelta(days=7) <= one - moved[0] <= timedelta(days=364)


UIDS = st.from_regex(r"1\.2\.250(\.[1-9][0-9]{0,8}){1,6}", fullmatch=True)


@settings(max_examples=40)
@given(uids=st.sets(UIDS, min_size=2, max_size=6))
def test_ff51_the_same_uid_has_one_image_in_a_campaign_and_two_uids_have_two(uids):
    once, again = of("c"), of("c", Subject(authority="a", id="another patient"))
    images = {uid: once.uid(uid) for uid in uids}
    assert images == {uid: again.uid(uid) for uid in sorted(uids, reverse=True)}
    assert len(set(images.values())) == len(uids)
    assert all(len(image) <= 64 for image in images.values())


@settings(max_examples=40)
@given(uids=st.sets(UIDS, min_size=1, max_size=6), patient=IDS)
def test_t53_two_campaigns_share_no_value(uids, patient):
    subject = Subject(authority="a", id=patient)
    one, other = of("c1", subject), of("c2", subject)
    assert not {one.uid(uid) for uid in uids} & {other.uid(uid) for uid in uids}
    assert one.patient_id != other.patient_id
    assert one.patient_name != other.patient_name
