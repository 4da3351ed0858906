"""Pseudonymous objects: nothing of the originals stays, and what refers still meets."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, loss, unit

_KEYS = "sampler/pseudonym/keys.py"
_PROFILE = "sampler/pseudonym/profile.py"
_WALKER = "sampler/pseudonym/walker.py"
_WORDS = "sampler/pseudonym/words.py"
_READING = "sampler/pseudonym/reading.py"
_IDENTIFIERS = "sampler/pseudonym/identifiers.py"
_RESIDUE = "sampler/pseudonym/residue.py"
_NEEDLES = "sampler/pseudonym/needles.py"
_OBJECTS = "sampler/pseudonym/objects.py"
_PIXELS = "sampler/pseudonym/pixels.py"
_MASKS = "sampler/pseudonym/masks.py"
_CODESTREAM = "sampler/pseudonym/codestream.py"

_CANARY = unit("pseudonym_objects", "test_ff50_of_markers_in_every_attribute_of_the_table_none_stays")
_EXAM = unit("pseudonym_objects", "test_t51_nothing_of_the_originals_is_in_any_object_of_an_exam")
_NEEDS = unit("pseudonym_objects", "test_what_the_auditor_needs_stays")
_REFERENCES = unit("pseudonym_objects", "test_references_between_images_report_note_presentation_and_plan_still_meet")
_WORD = unit("pseudonym_words", "test_only_known_words_numbers_and_moved_dates_stay")
_TEXT = unit("pseudonym_residue", "test_ff50_a_value_in_a_text_is_found_in_any_form")
_BYTES = unit("pseudonym_residue", "test_ff50_a_value_in_bytes_is_found_in_any_encoding")
_MASK = unit("pseudonym_pixels", "test_ff50_a_mask_blackens_its_rectangle_and_nothing_else")
_WRONG_MASK = unit(
    "pseudonym_pixels", "test_ff50_a_mask_of_another_image_size_or_outside_is_refused_and_nothing_comes_out"
)

DEFECTS = (
    access(
        "the-key-of-a-campaign-does-not-know-the-campaign",
        _KEYS,
        "_hkdf(master, campaign_id + purpose)",
        "_hkdf(master, purpose)",
        unit("pseudonym_keys", "test_t53_two_campaigns_share_no_value"),
    ),
    identity(
        "dates-move-by-days-instead-of-weeks",
        _KEYS,
        "timedelta(days=-7 * weeks)",
        "timedelta(days=-weeks)",
        unit("pseudonym_keys", "test_intervals_and_weekdays_stay"),
    ),
    access(
        "a-patients-identifier-does-not-know-who-assigned-it",
        _KEYS,
        'f"{subject.authority}\\0{subject.id}"',
        'f"{subject.id}"',
        unit("pseudonym_keys", "test_patient_identifier_and_name_have_the_form_of_the_campaign"),
    ),
    access(
        "ages-above-ninety-are-told",
        _KEYS,
        'return f"{AGE_TOP:03}Y" if years >= AGE_TOP else match[0]',
        "return match[0]",
        unit("pseudonym_keys", "test_ages_of_ninety_and_above_are_one"),
    ),
    access(
        "sequences-that-the-table-does-not-name-are-kept-as-they-are-typed",
        _WALKER,
        '"SQ": self._by_action[Action.NEST],',
        '"SQ": lambda held, _place: Element(held.tag, "SQ", items=tuple(tuple(Element(h.tag, h.vr or "UN", h.data) '
        "for h in item.held.values()) for item in held.items)),",
        _CANARY,
    ),
    access(
        "private-attributes-pass-without-a-review",
        _WALKER,
        "if (creator, group, element & 0xFF) not in self._rules.private:\n            return None",
        "if False:\n            return None",
        unit("pseudonym_objects", "test_private_numbers_of_the_reviewed_list_stay_and_nothing_else_private"),
    ),
    access(
        "binary-values-that-nobody-knows-pass",
        _WALKER,
        "undefined=held.undefined) if held.tag in _BULK else None",
        "undefined=held.undefined)",
        unit("pseudonym_objects", "test_a_binary_value_outside_the_list_does_not_pass"),
    ),
    access(
        "an-observers-name-stays-in-a-report",
        _WALKER,
        "if place.concept in _IDENTITY_CONCEPTS and held.tag in _VALUES:\n            return Action.DUMMY",
        "if False:\n            return Action.DUMMY",
        _NEEDS,
    ),
    access(
        "free-text-loses-only-what-is-known",
        _WORDS,
        "        return ELISION\n\n\ndef _split",
        "        return token\n\n\ndef _split",
        _WORD,
    ),
    access(
        "a-known-word-stays-though-it-is-the-patients-name",
        _WORDS,
        "plain = self.without_identifiers(",
        "plain = str(",
        _WORD,
    ),
    access(
        "telephone-numbers-stay",
        _WORDS,
        "if sum(map(len, numbers)) > DIGITS_MAX or",
        "if",
        _WORD,
    ),
    access(
        "letters-that-spell-a-name-stay",
        _WORDS,
        'clean = _SPELLED.sub(ELISION, "".join(self._pieces(plain)))',
        'clean = "".join(self._pieces(plain))',
        _WORD,
    ),
    access(
        "what-a-sequence-in-another-attributes-place-holds-is-kept",
        _READING,
        "        return Held(tag, None, items=tuple(level_of(item, charset) for item in data_set[tag].value or ()))",
        '        return Held(tag, "SQ", items=tuple(level_of(item, charset) for item in data_set[tag].value or ()))',
        unit("pseudonym_objects", "test_a_sequence_in_the_place_of_another_attribute_does_not_pass"),
    ),
    access(
        "bytes-behind-the-last-pixel-stay",
        _OBJECTS,
        "return data[: (bits + 15) // 16 * 2]",
        "return data[: bits * 16]",
        unit("pseudonym_objects", "test_bytes_behind_the_last_pixel_do_not_pass"),
    ),
    access(
        "a-text-called-a-number-passes-every-rule-for-texts",
        _READING,
        "    if stated in known or (stated in TEXT_VRS and known[0] in TEXT_VRS):\n        return stated\n    return None",
        "    return stated",
        unit(
            "pseudonym_objects",
            "test_a_value_whose_vr_contradicts_the_dictionary_does_not_slip_past_the_rules_for_texts",
        ),
    ),
    access(
        "an-observer-of-another-object-of-the-case-is-not-known",
        _OBJECTS,
        "self._originals = originals | Identifiers",
        "self._originals = Identifiers() | Identifiers",
        unit("pseudonym_objects", "test_values_that_only_another_object_of_the_case_states_do_not_stay_either"),
    ),
    identity(
        "an-object-of-another-patient-passes",
        _OBJECTS,
        "        self._same_patient(level, what)\n",
        "",
        unit("pseudonym_objects", "test_an_object_of_another_patient_is_refused_without_a_value"),
    ),
    access(
        "any-class-leaves-the-site",
        _OBJECTS,
        "kind = classes.KINDS.get(sop_class)",
        "kind = classes.KINDS.get(sop_class, classes.Kind.IMAGE)",
        unit("pseudonym_objects", "test_ff50_a_class_that_is_not_allowed_is_a_persons_work"),
    ),
    access(
        "an-image-at-risk-waits-for-nobody",
        _OBJECTS,
        "if risks and seen is None:",
        "if False:",
        unit("pseudonym_pixels", "test_an_image_at_risk_comes_out_only_when_a_person_saw_it"),
    ),
    access(
        "an-unstated-modality-is-no-risk",
        _PIXELS,
        'if burnt not in {"YES", "NO"} and',
        'if burnt == "YES" and',
        unit("pseudonym_pixels", "test_ff50_modalities_that_hold_text_wait_unless_the_image_says_it_has_none"),
    ),
    access(
        "a-head-whose-body-part-is-not-stated-is-given-as-a-file",
        _PIXELS,
        'return _coded(level, 0x00180015).replace(" ", "") not in _WITHOUT_FACE',
        'return _coded(level, 0x00180015) in {"HEAD", "BRAIN"}',
        unit("pseudonym_pixels", "test_volumes_that_may_show_a_face_are_rendered_only"),
    ),
    access(
        "a-mask-of-another-image-size-is-drawn-all-the-same",
        _MASKS,
        "if (mask.rows, mask.columns) != (shape.rows, shape.columns):",
        "if False:",
        _WRONG_MASK,
    ),
    access(
        "a-masks-columns-and-rows-are-exchanged",
        _MASKS,
        "for row in range(mask.y, mask.y + mask.height):",
        "for row in range(mask.y, mask.y + mask.width):",
        _MASK,
    ),
    loss(
        "a-mask-of-one-frame-blackens-all",
        _MASKS,
        "if mask.frame is None or mask.frame == frame + 1]",
        "if mask]",
        _MASK,
    ),
    access(
        "comments-stay-inside-compressed-frames",
        _CODESTREAM,
        "    if marker == _COM:\n        return True",
        "    if marker == _COM:\n        return False",
        unit("pseudonym_pixels", "test_ff50_comments_inside_jpeg_frames_are_taken_out_and_the_pixels_stay"),
    ),
    access(
        "the-result-is-not-searched",
        _OBJECTS,
        "        search.require_none(data, what=what)\n",
        "",
        unit("pseudonym_objects", "test_t51_an_object_in_which_a_value_stayed_is_blocked"),
    ),
    access(
        "texts-are-searched-with-their-accents",
        _IDENTIFIERS,
        'return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()',
        "return letters.casefold()",
        _TEXT,
    ),
    access(
        "bytes-are-searched-in-one-encoding",
        _RESIDUE,
        'for name in ("utf-8", "latin-1", "utf-16-le")}',
        'for name in ("utf-8",)}',
        _BYTES,
    ),
    access(
        "values-inside-sequences-are-not-searched",
        _RESIDUE,
        "for number, item in enumerate(held.items, start=1):",
        "for number, item in enumerate((), start=1):",
        unit("pseudonym_residue", "test_values_are_found_at_every_level_and_named_by_path"),
    ),
    access(
        "uids-made-of-a-uuid-are-not-searched-in-texts",
        _RESIDUE,
        '_UID = re.compile(r"[0-2](?:\\.\\d+){2,}")',
        '_UID = re.compile(r"[0-2](?:\\.\\d+){3,}")',
        _TEXT,
    ),
    access(
        "a-value-over-the-border-of-two-windows-is-not-found",
        _NEEDLES,
        "window = data[begin : begin + _AT_ONCE + self._longest]",
        "window = data[begin : begin + _AT_ONCE]",
        unit(
            "pseudonym_residue", "test_needles_are_found_over_the_borders_of_windows_in_every_case_and_nowhere_else"
        ),
    ),
    loss(
        "references-are-mapped-by-another-key-than-what-they-refer-to",
        _PROFILE,
        'return Action.NEST if row.vr == "SQ" else Action.UID',
        'return Action.NEST if row.vr == "SQ" else Action.REMOVE',
        _REFERENCES,
    ),
    access(
        "a-compound-action-is-always-removal",
        _PROFILE,
        'return Action.DUMMY if "D" in choices else Action.EMPTY\n    if known == "3"',
        'return Action.REMOVE\n    if known == "3"',
        unit("pseudonym_profile", "test_compound_actions_are_chosen_by_the_type_of_the_attribute"),
    ),
    access(
        "whatever-stands-for-a-patients-sex-stays",
        _WALKER,
        'return set(values) <= _CLOSED[held.tag] | {""}',
        "return True",
        unit("pseudonym_objects", "test_characteristics_of_the_patient_stay_when_they_are_what_the_standard_lists"),
    ),
)
