"""The frame of an audit: nothing left out uncounted, small strata merged, objection obeyed, every count explained."""

from __future__ import annotations

import hashlib
import hmac
import random
from collections import Counter
from datetime import date

import pytest
from hypothesis import given
from hypothesis import settings as laws
from hypothesis import strategies as st

from sampler.draw.protocol import protocol_of
from sampler.draw.units import Unit, commit
from sampler.frame.building import performed, practitioner_id, requested, unit_id
from sampler.frame.counts import NO_REPORT, Listed, count
from sampler.frame.rows import Exclusion, PerformedExam, Request, RequestState, Standing, state_of
from sampler.frame.strata import UNITS_MIN, merged, rules_of
from sampler.pseudonym.keys import CampaignKeys
from security.errors import BadInput

KEY = bytes(range(32))
DAY = date(2026, 3, 3)


def protocol(*strata, **more):
    return protocol_of({"spec": "drim-draw/1", "campaign": "C-1", "strata": list(strata)} | more)


def stratum(id_, **more):
    return {"id": id_, "n": 1, "mode": "srs"} | more


PLAIN = protocol(stratum("CT"), stratum("MR"))


def exam(number, **changes):
    facts = {"study": f"1.2.3.{number}", "day": DAY, "modality": "CT", "practitioner": f"doctor {number % 4}"}
    return PerformedExam(**(facts | changes))


def request(number, **changes):
    facts = {"key": f"{number}", "day": DAY, "state": RequestState.PERFORMED, "modality": "CT", "practitioner": "d"}
    return Request(**(facts | changes))


def test_units_and_practitioners_are_the_keyed_pseudonyms_of_the_sheet():
    built = performed([exam(number) for number in range(6)], PLAIN, KEY)
    unit = hmac.new(KEY, b"drim-draw/1/unit\x00" + b"1.2.3.0", hashlib.sha256).hexdigest()[:32]
    person = "p" + hmac.new(KEY, b"drim-draw/1/practitioner-id\x00" + b"doctor 0", hashlib.sha256).hexdigest()[:12]
    assert built.frame.find(unit) == Unit(unit, "CT", person)
    assert (built.links[unit], built.practitioners[person]) == ("1.2.3.0", "doctor 0")


def test_ff51_two_campaigns_of_one_site_share_no_unit_and_no_practitioner():
    first, second = (CampaignKeys.derive(KEY, name).campaign for name in ("C-1", "C-2"))
    assert first != second
    one, other = (performed([exam(number) for number in range(6)], PLAIN, key).frame.units for key in (first, second))
    assert not {cell for row in one for cell in (row.unit, row.practitioner)} & {
        cell for row in other for cell in (row.unit, row.practitioner)
    }


def test_nothing_the_site_knows_a_person_by_stands_in_what_is_shown():
    built = performed([exam(number) for number in range(6)], PLAIN, KEY)
    shown = repr(built)
    assert "1.2.3" not in shown
    assert "doctor" not in shown


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"opposes": True}, Exclusion.PATIENT_OBJECTION),
        ({"opposes": True, "is_trial": True, "standing": Standing.HELD}, Exclusion.PATIENT_OBJECTION),
        ({"is_trial": True}, Exclusion.TRIAL),
        ({"standing": Standing.HELD}, Exclusion.REPORT_HELD),
        ({"standing": Standing.WITHDRAWN}, Exclusion.REPORT_WITHDRAWN),
        ({"modality": "US"}, Exclusion.NO_STRATUM),
    ],
)
def test_ff52_what_is_left_out_is_counted_under_its_reason(changes, why):
    built = performed([*(exam(number) for number in range(6)), exam(6, **changes)], PLAIN, KEY)
    assert built.exclusions == {why: 1}
    assert built.left_out == {"1.2.3.6": why}
    assert built.frame.find(unit_id(KEY, "1.2.3.6")) is None


def test_an_exam_without_a_stated_practitioner_stays_in_and_is_counted():
    built = performed(
        [*(exam(number) for number in range(6)), exam(6, practitioner=""), exam(7, practitioner="")], PLAIN, KEY
    )
    assert (len(built.frame.units), built.unstated) == (8, 2)
    assert built.frame.find(unit_id(KEY, "1.2.3.6")).practitioner == practitioner_id(KEY, "")


def test_an_exam_that_stands_twice_is_refused():
    with pytest.raises(BadInput) as refusal:
        performed([exam(number % 6) for number in range(7)], PLAIN, KEY)
    assert refusal.value.code == "E_DUPLICATE_UNIT"


ROWS = st.lists(
    st.builds(
        dict,
        modality=st.sampled_from(["CT", "MR", "US", "RX"]),
        practitioner=st.sampled_from(["a", "b", ""]),
        standing=st.sampled_from(Standing),
        opposes=st.booleans(),
    ),
    min_size=30,
    max_size=60,
)


@given(rows=ROWS, dice=st.randoms(use_true_random=False))
@laws(max_examples=40, deadline=None)
def test_rows_are_units_or_counted_exclusions_whatever_their_order(rows, dice):
    exams = [*(exam(n, **row) for n, row in enumerate(rows)), *(exam(n) for n in range(100, 105))]
    built = performed(exams, PLAIN, KEY)
    assert len(built.frame.units) + sum(built.exclusions.values()) == len(exams)
    assert all(size >= UNITS_MIN for size in built.frame.strata.values())
    in_frame = set(built.links.values())
    assert in_frame.isdisjoint(one.study for one in exams if one.opposes)
    mixed = performed(dice.sample(exams, len(exams)), PLAIN, KEY)
    assert mixed == built


# -- strata


def test_a_stratum_takes_by_modality_site_and_state_the_first_in_order_has_it():
    asked = protocol(
        stratum("RI", modalities=["XA"], sites=["A"]),
        stratum("CT-MR", modalities=["CT", "MR"]),
        stratum("REST", sites=["A", "B"]),
    )
    rows = [exam(n, modality="XA", site="A") for n in range(5)]
    rows += [exam(n, modality="MR", site="B") for n in range(5, 10)]
    rows += [exam(n, modality="XA", site="B") for n in range(10, 15)]
    rows += [exam(15, modality="XA", site="C")]
    built = performed(rows, asked, KEY)
    assert built.frame.strata == {"RI": 5, "CT-MR": 5, "REST": 5}
    assert built.exclusions == {Exclusion.NO_STRATUM: 1}


def test_a_stratum_below_five_is_merged_before_the_commit_where_the_protocol_says():
    asked = protocol(stratum("CT"), stratum("MR"), stratum("XA", merge_into="MR"))
    rows = [exam(n) for n in range(5)] + [exam(n, modality="MR") for n in range(5, 15)]
    built = performed([*rows, *(exam(n, modality="XA") for n in range(15, 19))], asked, KEY)
    assert built.merged == {"XA": "MR"}
    assert built.frame.strata == {"CT": 5, "MR": 14}
    assert commit(built.frame.units).root == built.frame.root


def test_five_are_enough_and_four_are_not():
    assert merged({"CT": 5, "MR": 5}, rules_of(PLAIN)) == {}
    assert merged({"CT": 9, "MR": 4}, rules_of(PLAIN)) == {"MR": "CT"}


def test_without_a_word_of_the_protocol_the_smallest_other_one_takes_them_step_by_step():
    rules = rules_of(protocol(stratum("A"), stratum("B"), stratum("C"), stratum("D")))
    # A (1) goes to B (2), B with 3 goes to C (4): 7
    assert merged({"A": 1, "B": 2, "C": 4, "D": 9}, rules) == {"A": "C", "B": "C"}


@given(sizes=st.dictionaries(st.sampled_from("ABCDEFG"), st.integers(0, 9), min_size=1))
@laws(max_examples=60, deadline=None)
def test_after_merging_no_stratum_is_small_and_no_unit_is_lost(sizes):
    rules = rules_of(protocol(*(stratum(name, merge_into="C") for name in "ABCDEFG")))
    if 0 < sum(sizes.values()) < UNITS_MIN:
        with pytest.raises(BadInput) as refusal:
            merged(sizes, rules)
        assert refusal.value.code == "frame-small"
        return
    into = merged(sizes, rules)
    after = Counter()
    for name, size in sizes.items():
        after[into.get(name, name)] += size
    assert all(size >= UNITS_MIN for size in after.values() if size)
    assert after.total() == sum(sizes.values())


@pytest.mark.parametrize("wrong", [{"modalities": "CT"}, {"sites": [1]}, {"merge_into": 3}])
def test_a_rule_that_is_none_is_refused(wrong):
    with pytest.raises(BadInput) as refusal:
        rules_of(protocol(stratum("CT", **wrong)))
    assert refusal.value.code == "frame-protocol"


# -- requests


def test_refused_cancelled_and_substituted_requests_stand_in_the_frame_of_requests():
    states = [one for one in RequestState for _ in range(5)]
    asked = protocol(
        stratum("DONE", states=["performed"]), stratum("NOT-DONE", modalities=["CT"]), source="REQUESTED"
    )
    built = requested([request(n, state=state) for n, state in enumerate(states)], asked, KEY)
    assert built.frame.strata == {"DONE": 5, "NOT-DONE": 25}
    assert built.links[unit_id(KEY, "request/0")] == "request/0"


def test_the_request_of_a_patient_who_objects_is_left_out_too():
    built = requested([*(request(n) for n in range(5)), request(9, opposes=True)], PLAIN, KEY)
    assert built.exclusions == {Exclusion.PATIENT_OBJECTION: 1}


@pytest.mark.parametrize(
    ("stated", "is_performed", "steps", "state"),
    [
        ("refused", True, ["COMPLETED"], RequestState.REFUSED),
        ("cancelled", False, [], RequestState.CANCELLED),
        ("substituted", False, [], RequestState.SUBSTITUTED),
        ("accepted", True, [], RequestState.PERFORMED),
        ("requested", False, ["DISCONTINUED", "COMPLETED"], RequestState.PERFORMED),
        ("accepted", False, ["DISCONTINUED"], RequestState.DISCONTINUED),
        ("accepted", False, ["IN PROGRESS"], RequestState.OPEN),
        ("requested", False, [], RequestState.OPEN),
    ],
)
def test_what_became_of_a_request(stated, is_performed, steps, state):
    assert state_of(stated, is_performed=is_performed, steps=steps) is state


# -- the four counts


def test_every_study_that_a_source_lists_is_in_the_frame_or_named():
    studies = {f"1.2.{number}" for number in range(100)}
    listed = [Listed(study=study) for study in sorted(studies)[:98]]
    listed += [Listed(study="1.3.1"), Listed(study="1.3.2"), Listed(study="1.3.2"), Listed(reason="refused")]
    found = count("RIS", listed, studies=studies, left_out={"1.3.1": "patient-objection"})
    assert (found.number, found.in_frame, found.missing) == (101, 98, 2)
    assert found.reasons == {"patient-objection": 1, NO_REPORT: 1, "refused": 1}
    assert found.number == found.in_frame + sum(found.reasons.values())


@pytest.mark.parametrize(("more", "asks"), [(2, False), (3, True)])
def test_a_gap_above_two_percent_asks_for_words(more, asks):
    studies = {f"1.2.{number}" for number in range(100)}
    listed = [Listed(study=study) for study in studies] + [Listed(study=f"1.3.{number}") for number in range(more)]
    assert count("PACS", listed, studies=studies, left_out={}).needs_words(100) is asks
    assert (
        count("PACS", [Listed(study=s) for s in sorted(studies)[more:]], studies=studies, left_out={}).needs_words(
            100
        )
        is asks
    )


def test_a_source_that_does_not_answer_counts_nothing_and_asks_for_words():
    found = count("PACS", None, studies={"1.2"}, left_out={}, why="pacs-unreachable")
    assert (found.number, found.gap(1), found.needs_words(1), found.why) == (None, None, True, "pacs-unreachable")


@given(
    listed=st.lists(
        st.builds(Listed, study=st.sampled_from(["", "a", "b", "c", "d"]), reason=st.sampled_from(["", "refused"]))
    ),
    studies=st.sets(st.sampled_from(["a", "b", "c", "e"])),
)
def test_the_numbers_of_a_source_always_add_up(listed, studies):
    found = count("RIS", random.Random(1).sample(listed, len(listed)), studies=studies, left_out={"d": "trial-exam"})
    assert found.number == found.in_frame + sum(found.reasons.values())
    assert len(studies) == found.in_frame + found.missing
