"""Texts without what could name anybody (PS3.15 E.3.3 to E.3.5)."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampler.pseudonym.identifiers import Identifiers, fold
from sampler.pseudonym.words import Cleaner, vocabulary

KNOWN = Identifiers.stated(
    names=["LE GOFF-BERTIN^Maëlle", "PETIT^Rose"], ids=["IPP-778812", "Clinique des Trois Moulins"]
)


def cleaner(known: Identifiers = KNOWN, **options) -> Cleaner:
    return Cleaner(known, lambda day: day - timedelta(days=14), **options)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Scanner thorax sans injection", "Scanner thorax sans injection"),
        ("IRM CÉRÉBRALE T1 FLAIR 3mm", "IRM CÉRÉBRALE T1 FLAIR 3mm"),
        ("Thorax face, Mme Le Goff Bertin Maelle", "Thorax face, [...] Le [...]"),
        ("nodule MAËLLE 8 mm", "nodule [...] 8 mm"),
        ("petit nodule", "[...] nodule"),  # a known word, and the physician's name
        ("vu par le Dr Kerviel", "vu par le Dr [...]"),  # a name that no attribute states
        ("nodulegoffbertin", "nodule[...]"),
        ("dossier IPP-778812 thorax", "[...] thorax"),
        ("examen clinique des trois moulins thorax", "examen [...] thorax"),
        ("rappeler au 06 12 34 56 78 SVP", "[...] au [...]"),
        ("NIR 2 31 01 35 238 045 12", "[...]"),
        ("voir https://a.example/p?id=1 et a.b@c.fr", "[...] et [...]"),
        ("controle du 05/03/2026", "controle du 19/02/2026"),
        ("controle du 2026-03-05 thorax", "controle du 2026-02-19 thorax"),
        ("controle du 20260305 thorax", "controle du 20260219 thorax"),
        ("controle du 5 mars 2026 thorax", "controle du 19/02/2026 thorax"),
        ("controle du 1er août 2026 thorax", "controle du 18/07/2026 thorax"),
        ("fracture en 2019", "fracture en [...]"),
        ("née le 02/01/31", "[...] le [...]"),
        ("512 512 matrix", "512 512 [...]"),
        ("1.25 mm, 120 kV", "1.25 mm, 120 kV"),
        ("S.A.L.A.M thorax", "[...]thorax"),
        ("s\u200ba\u200bl\u200ba\u200bm thorax", "[...]thorax"),
        ("123456", ""),
        ("Kerviel", ""),
        ("...", ""),
        ("", ""),
    ],
)
def test_only_known_words_numbers_and_moved_dates_stay(text, clean):
    expected = "" if clean == "[...]" else clean
    assert cleaner().clean(text) == expected


def test_the_site_adds_its_own_words():
    assert cleaner(own_words=frozenset({"Kerviel"})).clean("appareil Kerviel thorax") == "[...] Kerviel thorax"


@pytest.mark.parametrize("text", ["ACME Scanner 7", "B30f", "*tfl3d1_16ns", "Philips; 5.1.7"])
def test_technical_text_stays_as_it_is(text):
    assert cleaner().without_identifiers(text) == text


@pytest.mark.parametrize("text", ["protocol BERTIN v2", "maelle_head", "x-ipp-778812-y", "LEGOFFBERTIN"])
def test_technical_text_loses_the_originals_values(text):
    clean = cleaner().without_identifiers(text)
    assert "[...]" in clean
    assert not KNOWN.found_in(clean)


def test_names_are_compared_without_case_accents_ligatures_and_order():
    known = Identifiers.stated(names=["LEBŒUF^Zoé^^Mme", "Yamada^Tarou=山田^太郎"])
    assert known.names == {"leboeuf", "zoe", "mme", "yamada", "tarou", "山田", "太郎"}
    for text in ("Zoë LeBoeuf", "ZOE,LEBŒUF", "M. 山田 様", "lebœuf zoé"):
        assert known.found_in(text)


def test_the_vocabulary_has_no_common_first_or_family_name():
    names = "martin bernard thomas robert richard durand dubois moreau laurent simon michel garcia david bertrand marie jean pierre"
    assert not set(names.split()) & vocabulary()


@settings(max_examples=60)
@given(st.text(max_size=60))
def test_whatever_the_text_only_known_words_are_left(text):
    once = cleaner().clean(text)
    words = [word for word in fold(once.replace("[...]", " ")).split() if word.isalpha()]
    assert set(words) <= vocabulary()


@settings(max_examples=30)
@given(st.dates(min_value=date(1901, 1, 1), max_value=date(2098, 12, 31)))
def test_a_date_in_a_text_moves_with_the_others(day):
    moved = day - timedelta(days=14)
    assert cleaner().clean(f"examen du {day:%d/%m/%Y}") in {f"examen du {moved:%d/%m/%Y}", "examen du [...]"}
    assert f"{day:%d/%m/%Y}" not in cleaner().clean(f"examen du {day:%d/%m/%Y}")
