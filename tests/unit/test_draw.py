"""The draw ``drim-draw/1``: the sheet's vectors, a plain second implementation, and the laws of its section 5."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace as changed

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from sampler.draw import drawing
from sampler.draw.canonical import canonical
from sampler.draw.drawing import draw, signed_bytes
from sampler.draw.protocol import Stratum, protocol_of
from sampler.draw.seed import beacon_of, check_commitment, commitment, contributions_of
from sampler.draw.selection import REASONS, Replacement, by_ticket, first, following, order, ticket
from sampler.draw.table import lines_of, rows_of
from sampler.draw.transcript import digest_of, revealed_of, units_of
from sampler.draw.transcript import signed_bytes as transcript_bytes
from sampler.draw.units import Unit, commit, leaf_hash, line, sides
from security.errors import BadInput
from tests.corpus import corpus
from tests.fixtures import plain_draw

TOKENS = st.text("abcXYZ019._-", min_size=1, max_size=6)
SEEDS = st.binary(min_size=32, max_size=32)
MODES = st.sampled_from(
    [
        {"mode": "srs"},
        {"mode": "cap", "max_per_practitioner": 1},
        {"mode": "cap", "max_per_practitioner": 3},
        {"mode": "two_stage"},
    ]
)
GIVEN = {"auditor": plain_draw.nonce("auditor"), "site": plain_draw.nonce("site")}
ROUND_1 = {
    "chain": "8990e7a9aaed2ffed73dbd7092123d6f289930540d7651336225dc172e51b2ce",
    "round": 1,
    "signature": "8d61d9100567de44682506aea1a7a6fa6e5491cd27a0a0ed349ef6910ac5ac20ff7bc3e09d7c046566c9f7f3c6f3b10104"
    "990e7cb424998203d8f7de586fb7fa5f60045417a432684f85093b06ca91c769f0e7ca19268375e659c2a2352b4655",
    "randomness": "101297f1ca7dc44ef6088d94ad5fb7ba03455dc33d53ddb412bbc4564ed986ec",
}
"""Round 1 of drand's default chain, as its archive publishes it."""


def units(rows) -> list[Unit]:
    return [Unit(*row) for row in rows]


def stratum(n: int, mode, id_: str = "CT") -> Stratum:
    return protocol({"id": id_, "n": n, **mode}).strata[0]


def document(*strata, **more):
    return {"spec": "drim-draw/1", "campaign": "CAMP-1", "strata": list(strata)} | more


def protocol(*strata, **more):
    return protocol_of(document(*strata, **more))


@st.composite
def frames(draw_, *, least: int = 1, most: int = 40):
    names = draw_(st.lists(TOKENS, min_size=least, max_size=most, unique=True))
    people = st.sampled_from(["p1", "p2", "p3", "p4", "p5"])
    return [Unit(name, "CT", draw_(people)) for name in names]


# -- vectors


def vectors():
    return json.loads(corpus("audit", "draw-vectors.json").read_text())["vectors"]


@pytest.mark.corpus
@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("shuffle", range(4))
def test_the_published_vectors_come_back_in_any_order_of_the_rows(number, shuffle):
    vector = vectors()[number]
    expect = vector["expect"]
    rows = [Unit(**row) for row in vector["frame"]]
    random.Random(shuffle).shuffle(rows)
    frame, agreed = commit(rows), protocol_of(vector["protocol"])
    values = contributions_of(vector["contributions"])
    assert frame.root.hex() == expect["frame_root"]
    assert agreed.hash.hex() == expect["protocol_hash"]
    assert {role: commitment(role, value).hex() for role, value in values.items()} == vector["commitments"]
    assert line(frame.units[0]).decode() == expect["first_line"]
    assert leaf_hash(frame.units[0]).hex() == expect["first_leaf_hash"]
    events = [
        Replacement(stratum=one["stratum"], out=one["unit"], reason=one["reason"])
        for one in vector.get("replacement_events", [])
    ]
    drawn = draw(
        frame,
        agreed,
        draw_no=vector["draw_no"],
        contributions=values,
        beacon=beacon_of(vector["beacon"]),
        replacements=events,
    )
    assert drawn.seed.hex() == expect["seed"]
    assert ticket(drawn.seed, frame.units[0].unit).hex() == expect["first_ticket"]
    assert units_of(drawn.selected) == expect["selected"]
    for one in agreed.strata:
        whole = [unit.unit for unit in order(frame.of(one.id), seed=drawn.seed, stratum=one)]
        assert whole[one.n : one.n + 5] == expect["reserves"][one.id]
    proof = expect["inclusion_proof"]
    unit = proof["leaf"].split("|")[0]
    found = frame.proofs([unit])[unit]
    assert (found.index, found.size) == (proof["index"], proof["tree_size"])
    path = [[side, one.hex()] for side, one in zip(sides(found.index, found.size), found.path, strict=True)]
    assert path == proof["path"]
    if events:
        assert units_of(drawn.final) == expect["final"]
        assert [one.follows for one in drawn.replacements] == [one["in"] for one in expect["replacement_log"]]


@pytest.mark.corpus
def test_the_published_refusals_have_their_codes():
    def tried(one):
        if "beacon" in one:
            return beacon_of(one["beacon"])
        if "commitment" in one:
            return check_commitment(one["role"], bytes.fromhex(one["commitment"]), bytes.fromhex(one["reveal"]))
        frame = commit([Unit(**row) for row in one["frame"]])
        return draw(frame, protocol(*one["strata"]), draw_no=1, contributions=contributions_of(GIVEN))

    told = {}
    for one in json.loads(corpus("audit", "draw-error-vectors.json").read_text())["vectors"]:
        with pytest.raises(BadInput) as refusal:
            tried(one)
        told[one["id"]] = (refusal.value.code, one["expect"])
    assert len(told) == 7
    assert all(found == expected for found, expected in told.values()), told


@pytest.mark.corpus
def test_the_published_transcript_has_the_hash_and_the_signature_of_these_bytes():
    known = json.loads(corpus("audit", "draw-transcript-signed.json").read_text())
    assert digest_of(known["body"]).hex() == known["canonical_sha256"]
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(known["private_key"]))
    assert key.sign(transcript_bytes(known["body"])).hex() == known["signature"]


@pytest.mark.parametrize("size", [1, 2, 7, 8, 61])
@pytest.mark.parametrize(
    "mode",
    [{"mode": "srs"}, {"mode": "cap", "max_per_practitioner": 2}, {"mode": "two_stage"}],
    ids=lambda m: m["mode"],
)
def test_a_plain_second_implementation_draws_the_same(size, mode):
    rows = plain_draw.frame(size, strata=("CT", "MG"))
    asked = [{"id": name, "n": 1 + many // 2, **mode} for name, many in Counter(row[1] for row in rows).items()]
    agreed = document(*asked)
    drawn = draw(
        commit(units(rows)),
        protocol_of(agreed),
        draw_no=3,
        contributions=contributions_of(GIVEN),
        beacon=beacon_of(ROUND_1),
    )
    key = plain_draw.seed(rows, agreed, 3, GIVEN | {"beacon": ROUND_1["randomness"]})
    assert drawn.seed == key
    assert units_of(drawn.selected) == {
        one["id"]: [row[0] for row in plain_draw.order(rows, key, one)[: one["n"]]] for one in asked
    }


def test_a_frame_worked_by_hand_has_the_root_of_its_two_leaves():
    # sha256(01 ‖ sha256(00 "a|CT|p\n") ‖ sha256(00 "b|CT|p\n")), computed with sha256sum
    assert commit([Unit("b", "CT", "p"), Unit("a", "CT", "p")]).root.hex() == (
        "77b8d84bb87d9be2b4f8886d4f307ce0035ba78983a459c59971d166e05515d0"
    )


# -- refusals


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([], "E_EMPTY_FRAME"),
        ([("a", "CT", "p"), ("a", "MG", "q")], "E_DUPLICATE_UNIT"),
        ([("a|b", "CT", "p")], "E_TOKEN"),
        ([("a", "", "p")], "E_TOKEN"),
        ([("a", "CT", "p" * 65)], "E_TOKEN"),
        ([("a", "CT", "p\n")], "E_TOKEN"),
        ([("a", "É", "p")], "E_TOKEN"),
        ([("a\x00", "CT", "p")], "E_TOKEN"),
    ],
)
def test_a_frame_that_is_none_is_refused(rows, code):
    with pytest.raises(BadInput) as refusal:
        commit(units(rows))
    assert refusal.value.code == code


def test_more_cases_than_a_stratum_holds_are_refused():
    frame = commit(units(plain_draw.frame(12)))
    everybody = protocol({"id": "CT", "n": 12, "mode": "srs"})
    assert len(draw(frame, everybody, draw_no=1, contributions=contributions_of(GIVEN)).selected["CT"]) == 12
    with pytest.raises(BadInput) as refusal:
        draw(frame, protocol({"id": "CT", "n": 13, "mode": "srs"}), draw_no=1, contributions=contributions_of(GIVEN))
    assert refusal.value.code == "E_N_GT_STRATUM"


def test_a_refusal_names_row_and_column_and_never_the_cell():
    with pytest.raises(BadInput, match="row 2: practitioner") as refusal:
        commit([Unit("a", "CT", "p"), Unit("b", "CT", "Dr Fantôme")])
    assert "Fant" not in str(refusal.value)


@pytest.mark.parametrize(
    "value", [1.0, 2**53, -(2**53), float("nan"), "\ud800", {"é": 1}, {1: 2}, b"", (1,), {"a": [0.5]}]
)
def test_json_without_restricted_form_is_refused(value):
    with pytest.raises(BadInput) as refusal:
        canonical(value, what="protocol")
    assert refusal.value.code == "E_CANONICAL"


def test_the_restricted_form_is_that_of_rfc_8785():
    value = {"b": [True, False, None, -1, 2**53 - 1], "a": 'é"\\\n\x1f/\u2028', "A": {}}
    assert canonical(value, what="x").decode() == (
        '{"A":{},"a":"é\\"\\\\\\n\\u001f/\u2028","b":[true,false,null,-1,9007199254740991]}'
    )


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        document() | {"spec": "drim-draw/2"},
        document(),
        document({"id": "CT", "n": -1, "mode": "srs"}),
        document({"id": "CT", "n": True, "mode": "srs"}),
        document({"id": "CT", "n": 1, "mode": "best"}),
        document({"id": "CT", "n": 1, "mode": "cap"}),
        document({"id": "CT", "n": 1, "mode": "cap", "max_per_practitioner": 0}),
        document({"id": "C|T", "n": 1, "mode": "srs"}),
        document({"id": "CT", "n": 1, "mode": "srs"}, {"id": "CT", "n": 2, "mode": "srs"}),
        document({"id": "CT", "n": 1, "mode": "srs"}, campaign="Dr F"),
        document({"id": "CT", "n": 1, "mode": "srs"}, signers={"site": "00" * 32}),
        document({"id": "CT", "n": 1, "mode": "srs"}, signers={"site": "00" * 32, "auditor": "00" * 32}),
        document({"id": "CT", "n": 1, "mode": "srs"}, signers=["00" * 32]),
    ],
)
def test_a_protocol_that_is_none_is_refused(wrong):
    with pytest.raises(BadInput) as refusal:
        protocol_of(wrong)
    assert refusal.value.code == "E_PROTOCOL"


@pytest.mark.parametrize(
    "wrong",
    [
        {"auditor": GIVEN["auditor"]},
        {"site": GIVEN["site"], "commission": GIVEN["auditor"]},
        GIVEN | {"beacon": GIVEN["site"]},
        GIVEN | {"site": GIVEN["site"].upper()},
        GIVEN | {"site": GIVEN["site"][:62]},
        [],
    ],
)
def test_one_party_alone_or_a_wrong_value_makes_no_draw(wrong):
    with pytest.raises(BadInput) as refusal:
        contributions_of(wrong)
    assert refusal.value.code == "E_CONTRIBUTION"


@pytest.mark.parametrize(
    "change",
    [
        {"randomness": "0" * 64},
        {"randomness": None},
        {"round": 0},
        {"round": True},
        {"round": "1"},
        {"signature": "xx"},
        {"signature": 3},
    ],
)
def test_a_beacon_that_contradicts_itself_is_refused(change):
    with pytest.raises(BadInput) as refusal:
        beacon_of(ROUND_1 | change)
    assert refusal.value.code == "E_BEACON"


def test_what_was_committed_to_must_be_what_is_revealed():
    seeds = {
        "draw_no": 1,
        "contributions": GIVEN,
        "commitments": {r: plain_draw.commit(r, v) for r, v in GIVEN.items()},
    }
    assert revealed_of(seeds).contributions == contributions_of(GIVEN)
    with pytest.raises(BadInput) as refusal:
        revealed_of(seeds | {"contributions": GIVEN | {"site": GIVEN["auditor"]}})
    assert refusal.value.code == "E_COMMIT_MISMATCH"
    third = seeds["commitments"] | {"commission": "0" * 64}
    with pytest.raises(BadInput, match="void the draw"):
        revealed_of(seeds | {"commitments": third})


# -- laws of section 5


@given(rows=frames(), seed=SEEDS, mode=MODES, dice=st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_ff52_the_sample_depends_on_the_set_of_units_and_not_on_their_order(rows, seed, mode, dice):
    mixed = dice.sample(rows, len(rows))
    one, other = commit(rows), commit(mixed)
    assert one == other
    asked = stratum(1, mode)
    assert order(rows, seed=seed, stratum=asked) == order(mixed, seed=seed, stratum=asked)


@given(rows=frames(), seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_units_stand_by_the_ticket_that_is_theirs_alone(rows, seed):
    assert by_ticket(rows, seed=seed) == sorted(rows, key=lambda one: (ticket(seed, one.unit), one.unit))


@given(rows=frames(), seed=SEEDS, other=st.sampled_from(["MG", "RX"]), dice=st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_restratifying_keeps_the_relative_order_of_units(rows, seed, other, dice):
    moved = {one.unit: one._replace(stratum=dice.choice(["CT", other])) for one in rows}
    before = [one.unit for one in by_ticket(rows, seed=seed)]
    after = [one.unit for one in by_ticket([one for one in moved.values() if one.stratum == "CT"], seed=seed)]
    assert after == [unit for unit in before if moved[unit].stratum == "CT"]


@given(rows=frames(), seed=SEEDS, mode=MODES)
@settings(max_examples=60, deadline=None)
def test_an_order_holds_each_unit_once_and_its_beginning_alone_stands_in_the_same_order(rows, seed, mode):
    asked = stratum(1, mode)
    whole = order(rows, seed=seed, stratum=asked)
    assert sorted(whole) == sorted(rows)
    for many in range(len(whole) + 1):
        assert order(whole[:many], seed=seed, stratum=asked) == whole[:many]
    plain = plain_draw.order([tuple(one) for one in rows], seed, {"id": "CT", "n": 1, **mode})
    assert [tuple(one) for one in whole] == plain


@given(rows=frames(), seed=SEEDS, mode=MODES, n=st.integers(0, 45))
@settings(max_examples=60, deadline=None)
def test_the_cases_are_the_beginning_of_the_order_however_they_are_found(rows, seed, mode, n):
    asked = stratum(n, mode)
    assert first(rows, seed=seed, stratum=asked) == order(rows, seed=seed, stratum=asked)[:n]


@given(rows=frames(), seed=SEEDS, cap=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_nobody_exceeds_the_cap_while_another_practitioner_has_units_left_under_it(rows, seed, cap):
    whole = order(rows, seed=seed, stratum=stratum(1, {"mode": "cap", "max_per_practitioner": cap}))
    owned, held = Counter(one.practitioner for one in rows), Counter()
    for one in whole:
        walk = held[one.practitioner] // cap
        assert all(held[other] >= min(many, walk * cap) for other, many in owned.items())
        held[one.practitioner] += 1


@given(rows=frames(least=2), seed=SEEDS, mode=MODES, dice=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_a_removed_unit_never_returns_and_who_follows_is_the_one_due(rows, seed, mode, dice):
    many = dice.randint(1, len(rows))
    stated = {"id": "CT", "n": many, **mode}
    agreed = protocol(stated)
    frame = commit(rows)
    selected = {"CT": order(rows, seed=seed, stratum=agreed.strata[0])[:many]}
    plain = [tuple(one) for one in rows]
    ever, active, wishes = {one.unit for one in selected["CT"]}, [one.unit for one in selected["CT"]], []
    for _ in range(len(rows) - many):
        out = dice.choice(active)
        due = plain_draw.follower(plain, seed, stated, active, out, ever)
        wishes.append(Replacement(stratum="CT", out=out, reason=dice.choice(REASONS)))
        made, final = drawing.replace(frame, agreed, seed=seed, selected=selected, replacements=wishes)
        assert made[-1].follows == due
        assert due not in ever
        active[active.index(out)] = due
        ever.add(due)
        assert [one.unit for one in final["CT"]] == active
    wishes.append(Replacement(stratum="CT", out=active[0], reason="CORRUPT"))
    with pytest.raises(BadInput) as refusal:  # every unit was a case once
        drawing.replace(frame, agreed, seed=seed, selected=selected, replacements=wishes)
    assert refusal.value.code == "E_NO_RESERVE"


def test_a_freed_place_lets_the_practitioner_of_the_removed_case_come_again():
    rows = [Unit("a", "CT", "p1"), Unit("b", "CT", "p1"), Unit("c", "CT", "p2"), Unit("d", "CT", "p2")]
    walk = [rows[0], rows[2], rows[1], rows[3]]
    capped = stratum(2, {"mode": "cap", "max_per_practitioner": 1})
    found = following(walk, active=[rows[0], rows[2]], out=rows[0], ever={"a", "c"}, stratum=capped)
    assert found == rows[1]
    found = following(walk, active=[rows[0], rows[2]], out=rows[2], ever={"a", "c"}, stratum=capped)
    assert found == rows[3]


def test_where_nobody_is_under_the_cap_it_rises_by_its_step():
    rows = [Unit(name, "CT", who) for name, who in [("a", "p1"), ("b", "p2"), ("c", "p1"), ("d", "p2")]]
    capped = stratum(3, {"mode": "cap", "max_per_practitioner": 1})
    found = following(rows, active=rows[:3], out=rows[1], ever={"a", "b", "c"}, stratum=capped)
    assert found == rows[3]  # p2 has none now
    found = following([rows[0], rows[2]], active=rows[:2], out=rows[1], ever={"a", "b"}, stratum=capped)
    assert found == rows[2]  # p1 has one: only a cap of two lets it


@pytest.mark.parametrize(
    "reason", ["TOO_COMPLEX", "NOT_REPRESENTATIVE", "PRACTITIONER_ABSENT", "images_unavailable", ""]
)
def test_no_other_reason_replaces_a_case(reason):
    frame, agreed = commit(units(plain_draw.frame(9))), protocol({"id": "CT", "n": 2, "mode": "srs"})
    drawn = draw(frame, agreed, draw_no=1, contributions=contributions_of(GIVEN))
    wish = Replacement(stratum="CT", out=drawn.selected["CT"][0].unit, reason=reason)
    with pytest.raises(BadInput) as refusal:
        draw(frame, agreed, draw_no=1, contributions=contributions_of(GIVEN), replacements=[wish])
    assert refusal.value.code == "E_REASON"


def test_a_replacement_needs_two_signatures_of_two_keys_over_this_draw():
    keys = {
        role: Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
        for number, role in enumerate(("auditor", "site"))
    }
    signers = {role: key.public_key().public_bytes_raw().hex() for role, key in keys.items()}
    agreed = protocol({"id": "CT", "n": 2, "mode": "srs"}, signers=signers)
    frame = commit(units(plain_draw.frame(9)))
    plain = draw(frame, agreed, draw_no=1, contributions=contributions_of(GIVEN))
    due = order(frame.units, seed=plain.seed, stratum=agreed.strata[0])[2].unit
    wish = Replacement(stratum="CT", out=plain.selected["CT"][0].unit, reason="CORRUPT", follows=due)
    by = {role: key.sign(signed_bytes(wish, seed=plain.seed)) for role, key in keys.items()}

    def drawn(signatures, draw_no=1):
        return draw(
            frame,
            agreed,
            draw_no=draw_no,
            contributions=contributions_of(GIVEN),
            replacements=[changed(wish, follows=None, signatures=signatures)],
        )

    assert drawn(by).final["CT"][0].unit == due
    for lacking in (
        {},
        {"site": by["site"]},
        by | {"site": by["auditor"]},
        {"auditor": by["auditor"], "other": by["site"]},
    ):
        with pytest.raises(BadInput) as refusal:
            drawn(lacking)
        assert refusal.value.code == "E_SIGNATURE"
    with pytest.raises(BadInput) as refusal:  # the same two signatures in another draw
        drawn(by, draw_no=2)
    assert refusal.value.code in {"E_SIGNATURE", "E_REPLACEMENT"}


def test_signatures_that_nobody_can_check_are_refused():
    frame, agreed = commit(units(plain_draw.frame(9))), protocol({"id": "CT", "n": 2, "mode": "srs"})
    out = draw(frame, agreed, draw_no=1, contributions=contributions_of(GIVEN)).selected["CT"][0].unit
    wish = Replacement(stratum="CT", out=out, reason="CORRUPT", signatures={"site": bytes(64), "auditor": bytes(64)})
    with pytest.raises(BadInput) as refusal:
        draw(frame, agreed, draw_no=1, contributions=contributions_of(GIVEN), replacements=[wish])
    assert refusal.value.code == "E_SIGNATURE"


@given(bit=st.integers(0, 255), what=st.sampled_from(["leaf", "auditor", "site", "beacon", "protocol", "draw_no"]))
@settings(max_examples=40, deadline=None)
def test_t50_one_flipped_bit_in_what_the_draw_stands_on_changes_the_seed(bit, what):
    rows = plain_draw.frame(12)

    def flipped(text: str) -> str:
        return (int(text, 16) ^ 1 << bit).to_bytes(32, "big").hex()

    def seed(rows, values, agreed, draw_no):
        beacon = beacon_of({"round": 1, "randomness": values["beacon"]})
        parties = {role: values[role] for role in GIVEN}
        return draw(
            commit(units(rows)),
            protocol_of(agreed),
            draw_no=draw_no,
            contributions=contributions_of(parties),
            beacon=beacon,
        ).seed

    values = GIVEN | {"beacon": ROUND_1["randomness"]}
    agreed = document({"id": "CT", "n": 1, "mode": "srs"})
    before = seed(rows, values, agreed, 1)
    if what == "leaf":
        at = bit % len(rows)
        unit = f"{int(rows[at][0], 16) ^ 1 << bit % 128:032x}"
        rows = [*rows[:at], (unit, *rows[at][1:]), *rows[at + 1 :]]
    elif what == "protocol":
        agreed |= {"campaign": "CAMP-" + str(2 + bit)}
    elif what != "draw_no":
        values |= {what: flipped(values[what])}
    assert seed(rows, values, agreed, 1 + (what == "draw_no")) != before


def uniform(replays: int, mode, n: int = 4) -> Counter[str]:
    rows = plain_draw.frame(60)
    frame, asked = commit(units(rows)), stratum(n, mode)
    taken: Counter[str] = Counter()
    for number in range(replays):
        seed = number.to_bytes(32, "big")
        taken.update(one.unit for one in order(frame.units, seed=seed, stratum=asked)[:n])
    return taken


def chi_square(taken: Counter[str], replays: int) -> float:
    """Over 60 units, n = 4, corrected for drawing without putting back: 59 degrees of freedom."""
    expected = replays * 4 / 60
    raw = sum((taken[row[0]] - expected) ** 2 / expected for row in plain_draw.frame(60))
    return raw * 59 / (60 - 4)


def test_ff52_every_unit_is_drawn_as_often_as_any_other():
    assert chi_square(uniform(3_000, {"mode": "srs"}), 3_000) < 98.3  # p = 0.001 on 59 degrees of freedom


@pytest.mark.full
def test_ff52_every_unit_is_drawn_as_often_as_any_other_over_60_000_replays():
    found = chi_square(uniform(60_000, {"mode": "srs"}), 60_000)
    print(f"chi-square over 60,000 replays: {found:.1f} on 59 degrees of freedom")
    assert found < 98.3


SIZES = (24, 14, 10, 6, 4, 2)
CAP_CHANCES = (0.9632, 0.8891, 0.8076, 0.6297, 0.4613, 0.2491)
"""How probable it is that each of six practitioners has a case, n = 4 and a cap of 1 (the sheet's table of §6.5)."""


def shares(mode, replays: int) -> list[float]:
    """Of the draws of 4, in how many each practitioner has a case."""
    rows = [Unit(f"{who}-{number}", "CT", f"p{who}") for who, many in enumerate(SIZES) for number in range(many)]
    asked, had = stratum(4, mode), Counter()
    for number in range(replays):
        had.update({one.practitioner for one in first(rows, seed=number.to_bytes(32, "big"), stratum=asked)})
    return [had[f"p{who}"] / replays for who in range(len(SIZES))]


@pytest.mark.parametrize("mode", ["cap", "two_stage"])
@pytest.mark.parametrize("replays", [3_000, pytest.param(60_000, marks=pytest.mark.full)])
def test_ff52_practitioners_are_drawn_as_often_as_their_mode_says(mode, replays):
    expected = CAP_CHANCES if mode == "cap" else (4 / 6,) * 6
    found = shares({"mode": mode, "max_per_practitioner": 1}, replays)
    for share, chance in zip(found, expected, strict=True):
        assert abs(share - chance) < 4 * (chance * (1 - chance) / replays) ** 0.5 + 0.0001, (found, expected)


# -- the second level, and the table


def test_audit_files_of_a_campaign_are_drawn_the_same_way():
    rows = [Unit(f"AUD-2026-{number:03}", "RAD", f"pair-{number % 5}") for number in range(40)]
    agreed = protocol({"id": "RAD", "n": 5, "mode": "two_stage"}, level="audit-file")
    drawn = draw(commit(rows), agreed, draw_no=1, contributions=contributions_of(GIVEN))
    assert len({one.practitioner for one in drawn.selected["RAD"]}) == 5


def test_the_table_of_a_frame_is_read_back_in_any_order():
    frame = commit(units(plain_draw.frame(30)))
    text = list(lines_of(frame))
    assert text[0] == "unit,stratum,practitioner\n"
    mixed = [text[0], *random.Random(1).sample(text[1:], 30), "\n"]
    assert commit(rows_of(mixed)) == frame


@pytest.mark.parametrize(
    "lines", [[], ["\n"], ["unit,stratum\n"], ["unit,stratum,practitioner\n", "a,b\n"], ["unit,stratum,practitioner\n", "a,b,c,d\n"],
              ["unit,stratum,practitioner\n", '"' + "a" * 200_000]]
)  # fmt: skip
def test_a_table_that_is_none_is_refused(lines):
    with pytest.raises(BadInput) as refusal:
        list(rows_of(lines))
    assert refusal.value.code == "frame-table"


@pytest.mark.parametrize("cell", ["-1", "-cmd"])
def test_t30_no_cell_of_a_frame_begins_a_formula(cell):
    with pytest.raises(BadInput) as refusal:
        list(lines_of(commit([Unit("a", cell, "p")])))
    assert refusal.value.code == "E_TOKEN"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "@A1", "\tx", "\rx", "＝1", "＋1", "－1", "＠a"])
def test_t30_the_other_signs_of_a_formula_are_no_tokens(cell):
    with pytest.raises(BadInput) as refusal:
        commit([Unit("a", cell, "p")])
    assert refusal.value.code == "E_TOKEN"
