"""Rotating and destroying keys, and what a process refuses to start without."""

from __future__ import annotations

from tests.mutants.defects.defect import access, integration, loss, unit

_ROTATION = "security/rotation.py"
_SEAL = "security/seal.py"
_STARTUP = "security/startup.py"
_SEALING = "gateway/sealing.py"

DEFECTS = (
    loss(
        "old-key-not-kept-before-the-new-one",
        _ROTATION,
        '            create_private(previous, current.hex().encode() + b"\\n")',
        '            create_private(previous, secrets.token_bytes(32).hex().encode() + b"\\n")',
        integration("keys", "test_the_old_key_is_kept_read_only_and_goes_only_when_nothing_needs_it"),
    ),
    loss(
        "keys-of-the-trail-not-wrapped-again",
        _ROTATION,
        'WRAPPED_IN = ("data_key", "audit_key")',
        'WRAPPED_IN = ("data_key",)',
        integration("keys", "test_after_a_rotation_the_new_key_opens_everything_and_the_old_one_nothing"),
    ),
    loss(
        "old-key-removed-while-needed",
        _ROTATION,
        "        if stands.previous or read_previous_kek(file) == read_kek(file):",
        "        if False:",
        integration("keys", "test_the_old_key_is_kept_read_only_and_goes_only_when_nothing_needs_it"),
    ),
    loss(
        "interrupted-rotation-makes-a-third-key",
        _ROTATION,
        "        if kept is not None and kept != current:",
        "        if False:",
        integration("keys", "test_the_old_key_is_kept_read_only_and_goes_only_when_nothing_needs_it"),
    ),
    loss(
        "keys-in-use-destroyed",
        _SEALING,
        "        if tenant in self._in_use:",
        "        if False:",
        integration("keys", "test_the_keys_of_a_configured_tenant_are_not_destroyed"),
    ),
    access(
        "destroyed-keys-stay-in-memory",
        _SEAL,
        "        self._newest.pop(tenant)",
        "        pass",
        integration("keys", "test_a_tenant_whose_keys_are_destroyed_opens_nowhere_and_the_others_do"),
    ),
    access(
        "destroyed-keys-stay-in-the-file",
        _SEAL,
        '"UPDATE data_key SET wrapped = :zeros WHERE tenant = :tenant", zeros=bytes(40), tenant=tenant)',
        '"UPDATE data_key SET wrapped = wrapped WHERE tenant = :tenant", tenant=tenant)',
        integration("keys", "test_a_tenant_whose_keys_are_destroyed_opens_nowhere_and_the_others_do"),
    ),
    access(
        "library-below-its-floor-accepted",
        _STARTUP,
        "        if _numbers(found) < _numbers(floor):",
        "        if found < floor:",
        unit(
            "startup",
            "test_t61_one_library_below_its_floor_stops_the_start",
            "test_a_library_at_or_above_its_floor_is_taken",
        ),
    ),
    access(
        "a-flood-is-served",
        "security/flood.py",
        "    if bucket.tokens < 1:",
        "    if bucket.tokens < -1e9:",
        unit("flood", "test_a_burst_is_served_then_each_half_second_one"),
    ),
    access(
        "attacks-go-anywhere",
        "gateway/attack/running.py",
        "    if door.host in configured:",
        "    if door.host:",
        integration("attack", "test_nothing_but_this_machine_and_its_configured_listeners_is_attacked"),
    ),
    access(
        "default-key-accepted",
        "security/secrets.py",
        "len(set(key)) >= KEK_DISTINCT_MIN:",
        "len(set(key)) >= 0:",
        unit("secrets", "test_ff44_a_key_that_nobody_drew_at_random_is_refused"),
    ),
)
