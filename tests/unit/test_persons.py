"""What the register's words come to: merges, their undo and corrections, whatever order and how often they come."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from indexer.persons import Kind, Statement, corrected, derive
from security.identity import Ins, LocalId, PatientIdentity, Traits

START = datetime(2026, 3, 1, tzinfo=UTC)
ISSUER = "1.2.250.1.999.4"
A, B, C = (LocalId(value=name, issuer=ISSUER) for name in "ABC")
INS = Ins(matricule="261046311304287", oid="1.2.250.1.213.1.4.8", status="VALI")


def patient(*local_ids: LocalId, ins: Ins | None = None, name: str = "FANTÔME") -> PatientIdentity:
    traits = Traits(birth_name=name, first_given_name="ODETTE", sex="F", birth_date=date(1961, 4, 12))
    return PatientIdentity(traits=traits, ins=ins, local_ids=local_ids)


def merge(prior: LocalId, into: LocalId, minute: int = 0) -> Statement:
    at = START + timedelta(minutes=minute)
    return Statement(kind=Kind.MERGED, at=at, received_at=at, patient=patient(into), prior=(prior,))


def unlink(one: LocalId, other: LocalId) -> Statement:
    return Statement(kind=Kind.UNLINKED, at=START, received_at=START, patient=patient(one), prior=(other,))


def survivor(local: LocalId, *stated: Statement) -> LocalId:
    found = derive((local,), stated)
    return found.local_ids[0] if found else local


def test_ff28_a_merge_leads_to_the_survivor_and_the_same_merge_again_changes_nothing() -> None:
    assert survivor(A, merge(A, B)) == B
    assert derive((A,), [merge(A, B), merge(A, B)]) == derive((A,), [merge(A, B)])


def test_ff28_a_merge_turned_round_turns_the_first_one_over() -> None:
    assert survivor(A, merge(A, B), merge(B, A)) == A
    assert survivor(B, merge(A, B), merge(B, A)) == A


def test_ff28_a_circle_of_merges_ends_at_the_survivor_of_the_last() -> None:
    circle = [merge(A, B), merge(B, C), merge(C, A)]
    assert [survivor(one, *circle) for one in (A, B, C)] == [A, A, A]


def test_ff28_an_undo_takes_apart_what_it_names_and_nothing_else() -> None:
    chain = [merge(A, B), merge(C, B), unlink(B, A)]
    assert survivor(A, *chain) == A
    assert survivor(C, *chain) == B


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.sampled_from([A, B, C])), max_size=12))
def test_ff28_whatever_is_merged_into_what_everybody_has_one_survivor(pairs: list[tuple[LocalId, LocalId]]) -> None:
    stated = [merge(prior, into, number) for number, (prior, into) in enumerate(pairs)]
    for one in (A, B, C):
        last = survivor(one, *stated)
        assert survivor(last, *stated) == last
    if stated:
        assert survivor(pairs[-1][0], *stated) == pairs[-1][1]


def _corrections(ins: Ins) -> list[Statement]:
    return [
        Statement(kind=Kind.CORRECTED, at=START, received_at=START, patient=patient(A, ins=ins, name="REVENANT")),
    ]


def test_only_who_has_the_same_qualified_ins_is_corrected() -> None:
    person = derive((A,), _corrections(INS))
    assert person is not None
    assert corrected(patient(A, ins=INS), person).traits.birth_name == "REVENANT"
    other = Ins(matricule="154036219301261", oid=INS.oid, status="VALI")
    assert corrected(patient(A, ins=other), person) == patient(A, ins=other)
    unsure = derive((A,), _corrections(Ins(matricule=INS.matricule, oid=INS.oid, status="PROV")))
    assert unsure is not None
    assert corrected(patient(A, ins=INS), unsure).traits.birth_name == "FANTÔME"


def test_what_came_after_the_register_spoke_is_not_corrected_by_it() -> None:
    person = derive((A,), _corrections(INS))
    assert person is not None
    before, after = START - timedelta(seconds=1), START + timedelta(seconds=1)
    assert corrected(patient(A, ins=INS), person, since=before).traits.birth_name == "REVENANT"
    assert corrected(patient(A, ins=INS), person, since=after).traits.birth_name == "FANTÔME"


def _in_domain(stated: PatientIdentity, ours: PatientIdentity) -> PatientIdentity:
    person = derive((A,), [Statement(kind=Kind.CORRECTED, at=START, received_at=START, patient=stated)])
    assert person is not None
    return corrected(ours, person, domain=ISSUER)


def test_in_a_domain_the_same_number_is_corrected_without_an_ins() -> None:
    assert _in_domain(patient(A, name="REVENANT"), patient(A)).traits.birth_name == "REVENANT"


def test_who_shares_neither_name_nor_birth_is_another_person_under_the_same_number() -> None:
    stranger = PatientIdentity(
        traits=Traits(birth_name="FANTÔME", first_given_name="PAUL", sex="M", birth_date=date(1961, 4, 12)),
        local_ids=(A,),
    )
    assert _in_domain(stranger, patient(A)).traits == patient(A).traits
    born_later = replace(patient(A).traits, birth_date=date(1962, 4, 12), birth_name="FANTOME")
    assert _in_domain(replace(patient(A), traits=born_later), patient(A)).traits.birth_date == date(1962, 4, 12)


def test_in_a_domain_two_ins_are_two_persons_whatever_the_number() -> None:
    other = Ins(matricule="154036219301261", oid=INS.oid, status="VALI")
    assert _in_domain(patient(A, ins=other, name="REVENANT"), patient(A, ins=INS)).traits == patient(A).traits


def test_in_a_domain_what_was_merged_names_nobody_and_is_remembered() -> None:
    person = derive((A,), [merge(A, B)])
    assert person is not None
    now = corrected(patient(A), person, domain=ISSUER)
    assert (now.local_ids, now.tied) == ((B,), (A,))


def test_a_merged_number_leads_to_the_survivor_s_number_of_the_same_register() -> None:
    here, there = (LocalId(value="7", issuer=ISSUER), LocalId(value="9", issuer="1.2.250.1.999.77"))
    stated = Statement(kind=Kind.MERGED, at=START, received_at=START, patient=patient(there, here), prior=(A,))
    person = derive((A,), [stated])
    assert person is not None
    assert person.survivor(A) == here


def test_a_bare_number_leads_nowhere() -> None:
    bare = LocalId(value="A", issuer="")
    stated = Statement(kind=Kind.MERGED, at=START, received_at=START, patient=patient(bare), prior=(B,))
    assert survivor(B, stated) == B
