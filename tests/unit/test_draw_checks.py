"""Transcripts checked by two ways that share no code: the gateway's, and the file that strangers run."""

from __future__ import annotations

import ast
import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampler.draw import checks, notes, verifier
from sampler.draw.canonical import canonical
from sampler.draw.drawing import signed_bytes as replacement_bytes
from sampler.draw.protocol import protocol_of
from sampler.draw.selection import REASONS, Replacement
from sampler.draw.table import lines_of
from sampler.draw.transcript import Times, body_of, digest_of, revealed_of, sign, signed_bytes, written
from sampler.draw.units import Unit, commit
from security.errors import BadInput
from tests.corpus import corpus
from tests.fixtures import plain_draw
from tests.unit.test_draw import GIVEN, ROUND_1, document

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNERS = {role: Ed25519PrivateKey.from_private_bytes(bytes([at + 7]) * 32) for at, role in enumerate(GIVEN)}
TIMES = Times(committed_at="2020-07-22T15:00:00Z", revealed_at="2020-07-22T15:30:00Z")
ROWS = [Unit(*row) for row in plain_draw.frame(45, people=5, strata=("CT", "MG", "RT"))]
FRAME = commit(ROWS)
AGREED = document(
    {"id": "CT", "n": 3, "mode": "cap", "max_per_practitioner": 1},
    {"id": "MG", "n": 4, "mode": "srs"},
    {"id": "RT", "n": 3, "mode": "two_stage"},
    signers={role: key.public_key().public_bytes_raw().hex() for role, key in SIGNERS.items()},
)
SEEDS = {"draw_no": 1, "contributions": GIVEN, "beacon": ROUND_1 | {"round": 20}}


def transcript(seeds=SEEDS, *, agreed=AGREED, previous=None, frame=FRAME):
    body, _ = body_of(
        frame, protocol_of(agreed), revealed_of(seeds), times=TIMES, previous=previous, software="poterne test"
    )
    return json.loads(written(sign(body, KEY, frame=frame)))


def replaced():
    """A transcript with one replacement in each stratum, each signed by two."""
    first = transcript()["body"]
    agreed = protocol_of(AGREED)
    wishes = []
    for stratum, cases in first["selected"].items():
        by_id = {"id": stratum} | next(one for one in AGREED["strata"] if one["id"] == stratum)
        ever = set(cases)
        due = plain_draw.follower(
            [tuple(one) for one in ROWS], bytes.fromhex(first["seed"]), by_id, cases, cases[1], ever
        )
        wish = Replacement(stratum=stratum, out=cases[1], reason="CORRUPT", follows=due)
        message = replacement_bytes(wish, seed=bytes.fromhex(first["seed"]))
        signatures = {role: key.sign(message).hex() for role, key in SIGNERS.items()}
        wishes.append({"stratum": stratum, "out": wish.out, "reason": wish.reason, "signatures": signatures})
    assert agreed.signers.keys() == SIGNERS.keys()
    return transcript(SEEDS | {"replacements": wishes})


WHOLE = replaced()


def signed_again(whole):
    """The same with a body that somebody changed and signed."""
    whole["signature"] = KEY.sign(signed_bytes(whole["body"])).hex()
    return whole


def by_both(whole, *, rows=ROWS, previous=(), key=""):
    """Step → outcome, which both ways must agree about."""
    verdict = checks.check(whole, rows=rows, previous=previous, key=key)
    ours = {one.name: one.outcome for one in verdict.steps}
    theirs = {step: outcome for step, outcome, _ in verifier.verify(verifier.Given(whole, rows, previous, key))}
    assert ours == theirs, [(one.name, one.why) for one in verdict.steps]
    assert tuple(ours) == checks.STEPS
    return ours


def failed(whole, **more):
    return [step for step, outcome in by_both(whole, **more).items() if outcome == "failed"]


def test_a_whole_transcript_with_its_frame_is_right_in_every_step():
    assert set(by_both(WHOLE).values()) == {"ok"}


def test_without_the_frame_what_needs_it_is_unchecked_and_never_right():
    found = by_both(WHOLE, rows=None)
    assert {step for step, outcome in found.items() if outcome == "unchecked"} == {
        "frame",
        "selection",
        "replacements",
    }
    bare = {name: value for name, value in WHOLE.items() if name != "proofs"}
    assert by_both(bare, rows=None)["inclusion"] == "unchecked"


def test_the_frame_may_be_shown_in_any_order():
    assert failed(WHOLE, rows=ROWS[::-1]) == []


def flip(text: str, bit: int = 0) -> str:
    return f"{int(text, 16) ^ 1 << bit:0{len(text)}x}"


@given(bit=st.integers(0, 255), role=st.sampled_from(sorted(GIVEN)))
@settings(max_examples=10, deadline=None)
def test_t50_a_flipped_bit_of_a_nonce_names_commitments_and_seed(bit, role):
    whole = copy.deepcopy(WHOLE)
    whole["body"]["contributions"][role] = flip(whole["body"]["contributions"][role], bit)
    assert failed(whole) == ["commitments", "seed", "signature"]
    assert failed(signed_again(whole)) == ["commitments", "seed"]


@pytest.mark.parametrize("at", range(len(ROWS)))
def test_t50_a_flipped_bit_of_a_leaf_names_the_frame_first(at):
    one, bit = ROWS[at], at * 7 % 128
    rows = [*ROWS[:at], one._replace(unit=flip(one.unit, bit)), *ROWS[at + 1 :]]
    assert failed(WHOLE, rows=rows)[0] == "frame"


def test_t50_a_flipped_bit_of_the_protocol_names_the_protocol():
    whole = copy.deepcopy(WHOLE)
    whole["body"]["protocol"]["strata"][1]["n"] ^= 1
    assert failed(whole)[0] == "protocol"
    whole = copy.deepcopy(WHOLE)
    whole["body"]["protocol_hash"] = flip(whole["body"]["protocol_hash"])
    assert failed(signed_again(whole)) == ["protocol", "seed"]


@pytest.mark.parametrize("name", ["randomness", "signature"])
def test_t50_a_flipped_bit_of_the_beacon_names_the_beacon(name):
    whole = copy.deepcopy(WHOLE)
    whole["body"]["beacon"][name] = flip(whole["body"]["beacon"][name])
    assert failed(signed_again(whole))[0] == "beacon"


def test_t50_a_flipped_bit_of_the_seed_names_the_seed():
    whole = copy.deepcopy(WHOLE)
    whole["body"]["seed"] = flip(whole["body"]["seed"])
    assert failed(signed_again(whole))[0] == "seed"


@pytest.mark.parametrize("stratum", ["CT", "MG", "RT"])
@pytest.mark.parametrize("shown", [ROWS, None], ids=["frame", "proofs"])
def test_t50_another_order_names_the_selection(stratum, shown):
    whole = copy.deepcopy(WHOLE)
    cases = whole["body"]["selected"][stratum]
    cases[0], cases[2] = cases[2], cases[0]
    assert failed(signed_again(whole), rows=shown)[0] == "selection"


def test_ff52_a_case_that_was_chosen_instead_of_drawn_names_the_selection():
    whole = copy.deepcopy(WHOLE)
    chosen = next(one for one in ROWS if one.stratum == "MG" and one.unit not in whole["proofs"])
    whole["body"]["selected"]["MG"][-1] = chosen.unit
    found = failed(signed_again(whole))
    assert found[0] == "inclusion"  # it brings no proof
    assert "selection" in found


def test_a_unit_of_another_stratum_among_the_cases_is_seen_by_its_proof_alone():
    whole = copy.deepcopy(WHOLE)
    body = whole["body"]
    body["selected"]["MG"][0], body["selected"]["CT"][0] = body["selected"]["CT"][0], body["selected"]["MG"][0]
    assert failed(signed_again(whole), rows=None)[0] == "selection"


@pytest.mark.parametrize(
    "change",
    [
        lambda proof: proof.update(index=proof["index"] ^ 1),
        lambda proof: proof.update(tree_size=proof["tree_size"] + 1),
        lambda proof: proof.update(leaf=proof["leaf"].replace("|CT|", "|MG|")),
        lambda proof: proof["path"].pop(),
        lambda proof: proof["path"][0].__setitem__(1, flip(proof["path"][0][1])),
        lambda proof: proof["path"][0].__setitem__(0, "L" if proof["path"][0][0] == "R" else "R"),
        lambda proof: proof.update(path=5),
        lambda proof: proof.clear(),
    ],
)
def test_a_proof_that_was_changed_names_the_inclusion(change):
    whole = copy.deepcopy(WHOLE)
    change(whole["proofs"][whole["body"]["selected"]["CT"][0]])
    assert failed(whole)[0] == "inclusion"


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["replacements"][0].update(reason="TOO_COMPLEX"),
        lambda body: body["replacements"][0]["signatures"].popitem(),
        lambda body: body["replacements"][0]["signatures"].update(site=body["replacements"][1]["signatures"]["site"]),
        lambda body: body["replacements"][0].pop("signatures"),
        lambda body: body["replacements"].pop(),
        lambda body: body["replacements"].append(body["replacements"][0]),
        lambda body: body["final"]["CT"].reverse(),
        lambda body: body["replacements"][0].update({"in": body["replacements"][1]["in"]}),
    ],
)
@pytest.mark.parametrize("shown", [ROWS, None], ids=["frame", "proofs"])
def test_a_replacement_against_the_rule_names_the_replacements(change, shown):
    whole = copy.deepcopy(WHOLE)
    change(whole["body"])
    assert "replacements" in failed(signed_again(whole), rows=shown)


def test_who_follows_out_of_turn_is_seen_with_the_frame():
    agreed = {name: value for name, value in AGREED.items() if name != "signers"}
    out = transcript(agreed=agreed)["body"]["selected"]["MG"][0]
    seeds = SEEDS | {"replacements": [{"stratum": "MG", "out": out, "reason": "CORRUPT"}]}
    whole = transcript(seeds, agreed=agreed)
    body = whole["body"]
    skipped = next(one for one in ROWS if one.stratum == "MG" and one.unit not in whole["proofs"]).unit
    body["replacements"][0]["in"] = skipped
    body["final"]["MG"][0] = skipped
    assert "replacements" in failed(signed_again(whole))


@given(bit=st.integers(0, 511))
@settings(max_examples=10, deadline=None)
def test_t50_a_flipped_bit_of_the_signature_names_the_signature(bit):
    whole = copy.deepcopy(WHOLE)
    whole["signature"] = flip(whole["signature"], bit)
    assert failed(whole) == ["signature"]


def test_another_key_than_the_announced_one_names_the_signature():
    assert failed(WHOLE, key=WHOLE["public_key"]) == []
    assert failed(WHOLE, key="00" * 32) == ["signature"]
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    whole = copy.deepcopy(WHOLE) | {"public_key": other.public_key().public_bytes_raw().hex()}
    assert failed(whole) == ["signature"]


@pytest.mark.parametrize("name", ["public_key", "signature"])
def test_hexadecimal_digits_have_one_form(name):
    whole = copy.deepcopy(WHOLE)
    whole[name] = whole[name].upper()
    assert failed(whole) == ["signature"]


def test_a_beacon_s_signature_with_blanks_fails_by_both_ways():
    whole = copy.deepcopy(WHOLE)
    whole["body"]["beacon"]["signature"] = (
        whole["body"]["beacon"]["signature"][:2] + " " + whole["body"]["beacon"]["signature"][2:]
    )
    assert failed(signed_again(whole)) == ["beacon"]


def test_no_replacements_may_be_said_by_null():
    assert transcript(SEEDS | {"replacements": None}) == transcript()


# -- the chain of voided draws


def voided(reason="NO_REVEAL", *, draw_no=1, by="site", previous=None):
    committed = {role: plain_draw.commit(role, value) for role, value in GIVEN.items()}
    seeds = {"draw_no": draw_no, "commitments": committed, "contributions": {"auditor": GIVEN["auditor"]}}
    return transcript(seeds | {"voided": {"by": by, "reason": reason}}, previous=previous)


def test_a_voided_draw_stays_in_the_chain_and_draws_nothing():
    first = voided()
    assert set(by_both(first).values()) == {"ok"}
    assert (first["body"]["seed"], first["body"]["selected"], first["proofs"]) == (None, {}, {})
    second = transcript(SEEDS | {"draw_no": 2}, previous=first)
    assert second["body"]["prev"] == digest_of(first["body"]).hex()
    assert failed(second, previous=[first]) == []
    assert by_both(second)["chain"] == "unchecked"
    assert "CHAIN_NOT_SHOWN" in notes.notes_of(second["body"])


def test_two_draws_voided_by_one_party_are_told():
    first = voided()
    second = voided(draw_no=2, previous=first)
    third = transcript(SEEDS | {"draw_no": 3}, previous=second)
    assert failed(third, previous=[second, first]) == []
    assert "TWO_VOIDED" in notes.notes_of(third["body"], [second, first])
    assert "TWO_VOIDED" not in notes.notes_of(third["body"], [second])


def test_a_transcript_left_out_or_changed_breaks_the_chain():
    first = voided()
    second = voided(draw_no=2, previous=first, by="auditor")
    third = transcript(SEEDS | {"draw_no": 3}, previous=second)
    assert failed(third, previous=[first]) == ["chain"]
    changed = copy.deepcopy(second)
    changed["body"]["voided"]["by"] = "site"
    assert failed(third, previous=[signed_again(changed)]) == ["chain"]
    unsigned = copy.deepcopy(second) | {"signature": "0" * 128}
    assert failed(third, previous=[unsigned]) == ["chain"]


@pytest.mark.parametrize("draw_no", [1, 3])
def test_a_draw_takes_the_number_after_the_one_before(draw_no):
    with pytest.raises(BadInput) as refusal:
        transcript(SEEDS | {"draw_no": draw_no}, previous=voided())
    assert refusal.value.code == "E_CHAIN"


def test_a_draw_after_a_voided_one_is_over_the_same_frame():
    with pytest.raises(BadInput) as refusal:
        transcript(
            {"draw_no": 2, "contributions": GIVEN},
            agreed=document({"id": "CT", "n": 1, "mode": "srs"}),
            previous=voided(),
            frame=commit([Unit("a", "CT", "p")]),
        )
    assert refusal.value.code == "E_CHAIN"


@pytest.mark.parametrize(
    "voiding", [{"by": "nobody", "reason": "NO_REVEAL"}, {"by": "site", "reason": "DISLIKED"}, "site"]
)
def test_a_draw_is_voided_by_a_party_for_a_reason_of_the_list(voiding):
    committed = {role: plain_draw.commit(role, value) for role, value in GIVEN.items()}
    with pytest.raises(BadInput) as refusal:
        revealed_of({"draw_no": 1, "commitments": committed, "contributions": {}, "voided": voiding})
    assert refusal.value.code == "E_VOID"


def test_a_first_draw_that_names_one_before_it_fails():
    whole = copy.deepcopy(WHOLE)
    whole["body"]["prev"] = "1" * 64
    assert failed(signed_again(whole)) == ["chain"]


# -- what is left to weigh


def test_a_draw_with_a_timely_beacon_and_signed_replacements_leaves_the_rate_to_weigh():
    assert checks.check(WHOLE, rows=ROWS).notes == ["REPLACEMENT_RATE"]


@pytest.mark.parametrize(("number", "is_early"), [(20, True), (1, True), (5_000, False)])
def test_a_round_less_than_ten_minutes_after_the_last_commitment_is_told(number, is_early):
    # round r of the default chain comes at 1595431050 + 30 (r − 1): 2020-07-22 15:17:30 UTC for the first
    body = copy.deepcopy(WHOLE["body"])
    body["committed_at"] = "2020-07-22T15:25:00Z"
    body["beacon"]["round"] = number
    assert ("BEACON_EARLY" in notes.notes_of(body)) is is_early


def test_what_else_is_left_to_weigh_is_told():
    agreed = document({"id": "CT", "n": 3, "mode": "srs"})
    out = transcript(SEEDS | {"beacon": None}, agreed=agreed)["body"]["selected"]["CT"][0]
    seeds = SEEDS | {"beacon": None, "replacements": [{"stratum": "CT", "out": out, "reason": "OUT_OF_SCOPE"}]}
    body = transcript(seeds, agreed=agreed)["body"]
    body["revealed_at"] = "2020-07-24T00:00:00Z"
    assert notes.notes_of(body) == [
        "BEACON_ABSENT", "LATE_REVEAL", "STRATUM_NOT_DRAWN", "REPLACEMENTS_UNSIGNED", "REPLACEMENT_RATE", "FRAME_ERRORS",
    ]  # fmt: skip
    typed = transcript(SEEDS | {"beacon": {"round": 9, "randomness": "ab" * 32}}, agreed=agreed)
    assert by_both(typed)["beacon"] == "unchecked"
    assert "BEACON_UNSIGNED" in notes.notes_of(typed["body"])


# -- foreign transcripts

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "CT", "0" * 64, "é"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["CT", "by", "id", "n"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value, path=()):
    """Every place of a JSON value."""
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in members:
        yield from places(inner, (*path, name))


PLACES = [path for path in places(WHOLE) if path]


def tried(path, value, shown, gone):
    """A transcript with one member replaced or gone: neither way stumbles, and both say whether it stands."""
    whole = copy.deepcopy(WHOLE)
    inner = whole
    for name in path[:-1]:
        inner = inner[name]
    if gone and isinstance(inner, dict):
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    if not isinstance(whole.get("body"), dict):
        with pytest.raises(BadInput):
            checks.check(whole, rows=shown)
        with pytest.raises(verifier.Wrong):
            verifier.Given(whole, shown)
        return
    verdict = checks.check(whole, rows=shown)
    theirs = [step for step, outcome, _ in verifier.verify(verifier.Given(whole, shown)) if outcome == "failed"]
    assert bool(verdict.failed) == bool(theirs)
    if path[0] == "body" and canonical_or_none(whole["body"]) != canonical(WHOLE["body"], what=""):
        assert "signature" in verdict.failed
        assert "signature" in theirs


ANYTHING = {
    "path": st.sampled_from(PLACES),
    "value": JSON,
    "shown": st.sampled_from([ROWS, None]),
    "gone": st.booleans(),
}


@given(**ANYTHING)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_transcript_holds_both_ways_say_alike_whether_it_stands(path, value, shown, gone):
    tried(path, value, shown, gone)


@pytest.mark.full
@pytest.mark.timeout(600)
@given(**ANYTHING)
@settings(max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_transcript_holds_both_ways_say_alike_two_thousand_times(path, value, shown, gone):
    tried(path, value, shown, gone)


def canonical_or_none(value):
    try:
        return canonical(value, what="")
    except BadInput:
        return None


# -- the file that strangers run


def run(*arguments, home: Path):
    command = [sys.executable, "-I", "-S", "verifier.py", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=home, capture_output=True, text=True, timeout=60, check=False, env={"LC_ALL": "C.UTF-8"}
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def shelf(tmp_path):
    """A folder with the verifier alone, a transcript and its frame."""
    (tmp_path / "verifier.py").write_bytes(Path(verifier.__file__).read_bytes())
    (tmp_path / "t.json").write_bytes(written(WHOLE))
    (tmp_path / "frame.csv").write_text("".join(lines_of(FRAME)))
    return tmp_path


def test_the_stand_alone_verifier_needs_the_standard_library_alone(shelf):
    tree = ast.parse((shelf / "verifier.py").read_text())
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
    code, told, _ = run("t.json", "--frame", "frame.csv", "--json", home=shelf)
    assert (code, json.loads(told)["ok"]) == (0, True)


def test_it_names_the_failing_step_and_ends_with_1(shelf):
    whole = copy.deepcopy(WHOLE)
    whole["body"]["contributions"]["site"] = flip(whole["body"]["contributions"]["site"])
    (shelf / "t.json").write_bytes(written(whole))
    code, told, _ = run("t.json", "--frame", "frame.csv", home=shelf)
    assert code == 1
    assert "étape en échec : commitments, seed, signature" in told
    code, told, _ = run("t.json", "--lang", "en", home=shelf)
    assert "failing step: commitments, seed, signature" in told
    assert "unchecked: frame, selection, replacements" in told


def test_a_file_that_it_cannot_read_ends_with_2(shelf):
    (shelf / "twice.json").write_text('{"body": {}, "body": {}}')
    (shelf / "list.json").write_text("[]")
    for wrong in ("none.json", "twice.json", "list.json", "frame.csv", "verifier.py"):
        code, told, error = run(wrong, home=shelf)
        assert (code, told) == (2, "")
        assert "cannot be read" in error
    code, _, _ = run("t.json", "--frame", "t.json", home=shelf)
    assert code == 2


def test_it_follows_the_chain(shelf):
    first = voided()
    (shelf / "first.json").write_bytes(written(first))
    (shelf / "t.json").write_bytes(written(transcript(SEEDS | {"draw_no": 2}, previous=first)))
    code, told, _ = run("t.json", "--frame", "frame.csv", "--prev", "first.json", "--json", home=shelf)
    assert code == 0
    assert {one["outcome"] for one in json.loads(told)["steps"]} == {"ok"}


def test_its_ed25519_is_that_of_rfc_8032():
    # RFC 8032 §7.1, tests 1 to 3
    for public, message, signature in (
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            (
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
                "d25bf5f0595bbe24655141438e7a100b"
            ),
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            (
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
                "387b2eaeb4302aeeb00d291612bb0c00"
            ),
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            (
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
                "4a7c15e9716ed28dc027beceea1ec40a"
            ),
        ),
    ):
        key, sig = bytes.fromhex(public), bytes.fromhex(signature)
        assert verifier.is_signed(key, sig, bytes.fromhex(message))
        assert not verifier.is_signed(key, sig, bytes.fromhex(message) + b"\x00")
        scalar = int.from_bytes(sig[32:], "little") + verifier.ORDER  # malleable: refused (§5.1.7)
        assert not verifier.is_signed(key, sig[:32] + scalar.to_bytes(32, "little"), bytes.fromhex(message))


@given(st.binary(max_size=80), st.binary(min_size=32, max_size=32))
@settings(max_examples=15, deadline=None)
def test_its_ed25519_takes_what_the_library_signs(message, secret):
    key = Ed25519PrivateKey.from_private_bytes(secret)
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)
    assert verifier.is_signed(public, signature, message)
    assert not verifier.is_signed(public, signature[:-1] + bytes([signature[-1] ^ 1]), message)


def test_both_know_the_same_steps_and_reasons():
    assert tuple(verifier.STEPS) == tuple(verifier.CHECKS) == checks.STEPS
    assert set(REASONS) == verifier.REASONS


@pytest.mark.corpus
def test_the_published_transcript_is_right_with_and_without_its_frame():
    known = json.loads(corpus("audit", "draw-transcript-signed.json").read_text())
    vector = next(
        one for one in json.loads(corpus("audit", "draw-vectors.json").read_text())["vectors"] if one["id"] == "TV4"
    )
    rows = [Unit(**row) for row in vector["frame"]]
    assert failed(known, rows=None) == []
    assert {step for step, outcome in by_both(known, rows=rows).items() if outcome != "ok"} == {"inclusion"}
