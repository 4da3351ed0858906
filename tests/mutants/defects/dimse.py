"""The DICOM door: what is answered, what is kept, who may call."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_STORAGE = "gateway/dimse/storage.py"
_INBOX = "gateway/dimse/inbox.py"
_PEERS = "gateway/dimse/peers.py"
_PDU = "gateway/dimse/pdu.py"
_LISTENER = "gateway/dimse/listener.py"
_VERDICT = "gateway/dimse/verdict.py"
_SPOOL = "security/spool.py"
_WALK = "security/parse/dataset.py"

DEFECTS = (
    loss(
        "object-answered-before-its-row",
        _STORAGE,
        "news = await kept.done",
        "news = inbox.News.NEW",
        integration(
            "dimse_storage",
            "test_ff01_without_its_row_an_object_is_not_answered_0000_and_is_found_again_at_the_next_start",
        ),
    ),
    loss(
        "object-not-synced",
        _SPOOL,
        "os.fdatasync(self._descriptor)",
        "pass",
        integration("dimse_storage", "test_f03_a_failed_fsync_is_never_answered_0000_and_ends_the_taking"),
    ),
    loss(
        "folder-of-objects-not-synced",
        _SPOOL,
        "_sync_folder(self._folder / folder)",
        "pass",
        integration("dimse_storage", "test_f03_a_failed_fsync_of_the_folder_fails_the_whole_group"),
    ),
    loss(
        "spool-trusted-after-a-failed-fsync",
        _SPOOL,
        "self._is_broken = self._is_broken or is_final",
        "self._is_broken = False",
        integration("dimse_storage", "test_f03_a_failed_fsync_is_never_answered_0000_and_ends_the_taking"),
    ),
    loss(
        "objects-taken-on-a-full-disk",
        _SPOOL,
        "status.f_bavail * status.f_frsize > self._free_bytes_min",
        "status.f_bavail * status.f_frsize > 0",
        integration("dimse_storage", "test_ff01_no_room_is_answered_a700_before_anything_is_written"),
    ),
    loss(
        "complete-objects-forgotten-at-a-start",
        _STORAGE,
        "for name in sorted(present - known)])",
        "for name in sorted(present - present)])",
        integration(
            "dimse_storage",
            "test_ff01_without_its_row_an_object_is_not_answered_0000_and_is_found_again_at_the_next_start",
        ),
    ),
    loss(
        "other-bytes-of-an-instance-overwrite-the-first",
        _INBOX,
        ".{arrival.digest.hex()}",
        ".{'0' * 64}",
        integration("dimse_storage", "test_ff09_twenty_at_once_are_one_and_other_bytes_or_another_series_are_others"),
    ),
    loss(
        "other-bytes-of-an-instance-taken-for-the-same",
        _INBOX,
        '" WHERE tenant = :tenant AND object_key = :key AND digest = :digest",',
        '" WHERE tenant = :tenant AND object_key = :key",',
        integration("dimse_storage", "test_ff09_twenty_at_once_are_one_and_other_bytes_or_another_series_are_others"),
    ),
    loss(
        "wrong-objects-refused-instead-of-kept",
        _VERDICT,
        "    if is_strict:\n",
        "    if reason:\n",
        integration("dimse_storage", "test_ff08_a_wrong_object_is_kept_with_its_reason_and_disturbs_no_neighbour"),
    ),
    loss(
        "object-cut-inside-a-value-called-whole",
        _WALK,
        "if self._rest or self._skip or len(self._open) > 1:",
        "if self._rest or len(self._open) > 1:",
        unit("dataset_walk", "test_t11_an_object_that_ends_inside_an_element_is_truncated"),
    ),
    identity(
        "object-stored-under-the-name-of-another",
        _VERDICT,
        "if (said.sop, said.sop_class) != (sop_instance, sop_class):",
        "if not (said.sop, said.sop_class):",
        integration("dimse_storage", "test_ff08_a_wrong_object_is_kept_with_its_reason_and_disturbs_no_neighbour"),
    ),
    identity(
        "identifier-of-a-referenced-object-taken-for-its-own",
        _WALK,
        "if tag in _WANTED and len(self._open) == 1 and tag not in self._found",
        "if tag in _WANTED",
        unit("dataset_walk", "test_identifiers_inside_a_sequence_are_not_the_objects_own"),
    ),
    access(
        "any-certificate-for-any-title",
        _PEERS,
        "(bool(origin.fingerprint) and origin.fingerprint == peer.fingerprint)",
        "bool(origin.fingerprint)",
        integration("dimse_tls", "test_t06_certificate_title_and_network_must_be_those_of_one_peer"),
    ),
    access(
        "a-title-is-enough-from-any-network",
        _PEERS,
        "if not any(address in network for network in peer.networks):",
        "if not address:",
        integration("dimse_tls", "test_t06_without_tls_the_network_counts_and_the_title_called"),
    ),
    access(
        "called-by-any-title",
        _PEERS,
        "if proposal.called_aet != self._called_aet and not is_notes:",
        "if not proposal.called_aet:",
        integration("dimse_tls", "test_t06_without_tls_the_network_counts_and_the_title_called"),
    ),
    access(
        "exchanged-tls-context-not-used",
        "security/keys/tls.py",
        "        self._current = current\n",
        "        assert current\n",
        integration("dimse_tls", "test_a_renewed_context_serves_the_new_certificate_and_trusts_by_the_new_list"),
    ),
    access(
        "images-moved-to-any-destination",
        "gateway/dimse/exchange.py",
        "if request.command.move_destination not in request.peer.destinations:",
        "if not request.command.move_destination:",
        integration("dimse_services", "test_t15_a_move_goes_to_a_destination_of_the_peer_alone"),
    ),
    access(
        "pdu-of-any-length",
        _PDU,
        "if not HEADER_BYTES <= length <= self._data_bytes_max:",
        "if length < HEADER_BYTES:",
        unit("dimse_core", "test_t01_a_length_beyond_the_cap_is_refused_before_a_byte_of_the_body"),
    ),
    access(
        "association-request-of-any-length",
        _PDU,
        "fits = _FIXED_LENGTH <= length <= ASSOCIATE_BYTES_MAX",
        "fits = _FIXED_LENGTH <= length",
        unit("dimse_core", "test_t01_a_length_beyond_the_cap_is_refused_before_a_byte_of_the_body"),
    ),
    access(
        "every-byte-moves-the-deadline",
        "gateway/dimse/association.py",
        "if reader.mark != self._mark:",
        "if reader.mark:",
        integration("dimse_attacks", "test_t02_a_byte_a_moment_does_not_move_the_deadline"),
    ),
    access(
        "one-address-takes-every-slot",
        _LISTENER,
        "or self._per_address[address] >= self.limits.connections_per_address_max",
        "or self._per_address[address] < 0",
        integration("dimse_attacks", "test_t03_what_is_over_the_cap_of_its_address_is_closed_without_a_word"),
    ),
    access(
        "one-peer-takes-every-association",
        _LISTENER,
        "if self._per_peer[judged.name] < judged.associations_max:",
        "if self._per_peer[judged.name] >= 0:",
        integration("dimse_attacks", "test_a_peer_beyond_its_own_cap_is_rejected_for_now"),
    ),
    access(
        "violations-never-ban",
        _LISTENER,
        "return len(offences) >= self._limits.hostile_max and",
        "return len(offences) > self._limits.hostile_max and",
        integration("dimse_attacks", "test_three_violations_ban_an_address_for_a_while_and_nobody_else"),
    ),
    access(
        "operations-without-end-at-once",
        "gateway/dimse/protocol.py",
        '        if self._in_hand is not None:\n            raise Violation("a second',
        '        if self._in_hand == command.field:\n            raise Violation("a second',
        unit("dimse_core", "test_ff06_a_second_operation_before_the_answer_aborts"),
    ),
    access(
        "deflated-bomb-inflated-whole",
        _WALK,
        "if self._inflated > min(INFLATED_MAX, max(",
        "if self._inflated > max(INFLATED_MAX, max(",
        unit("dataset_walk", "test_t08_a_deflated_object_that_inflates_without_bound_is_refused_before_it_is_held"),
    ),
    access(
        "sequences-nested-without-bound",
        _WALK,
        "if len(self._open) > 2 * DEPTH_MAX:",
        "if len(self._open) > 2000 * DEPTH_MAX:",
        unit("dataset_walk", "test_t10_sequences_nested_deeper_than_64_are_refused_and_64_are_not"),
    ),
    access(
        "quota-of-a-peer-not-asked",
        _STORAGE,
        "if quota.is_used_up(now) or not self._room()",
        "if not self._room()",
        integration("dimse_storage", "test_t16_a_peer_beyond_its_quota_gets_a700_and_others_do_not"),
    ),
    access(
        "objects-readable-by-others",
        _SPOOL,
        "os.open(path, flags, 0o600)",
        "os.open(path, flags, 0o644)",
        integration("dimse_storage", "test_t65_no_byte_of_an_object_lies_on_the_disk_in_clear"),
    ),
)
