"""Certificates: whom a link believes, how pairs are renewed, the white list."""

from __future__ import annotations

from tests.mutants.defects.defect import access, integration, loss, unit

_TRUST = "security/keys/revocation.py"
_TLS = "security/keys/tls.py"
_LINK = "gateway/certificates/link.py"
_LISTED = "security/xmlsig/listed.py"
_FETCH = "gateway/certificates/fetch.py"
_PAIRS = "gateway/certificates/pairs.py"
_LIST = "gateway/whitelist/verification.py"
_LISTS = "gateway/whitelist/watch.py"

DEFECTS = (
    access(
        "expired-certificate-of-a-link-believed",
        _TRUST,
        "if any(at > one.not_valid_after_utc for one in chain):",
        "if any(at > one.not_valid_after_utc for one in ()):",
        unit("revocation", "test_f14_dates_are_looked_at_each_time"),
    ),
    access(
        "revoked-certificate-believed",
        _TRUST,
        "and held.crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None",
        "and False",
        unit("revocation", "test_revoked_is_refused_under_either_rule_and_however_old_the_list_is"),
    ),
    access(
        "certificate-of-any-authority-believed",
        _TRUST,
        "return tuple(chain) if chain[-1] in authorities and is_issuer(chain[-1], chain[-1]) else ()",
        "return tuple(chain)",
        unit("revocation", "test_t06_a_certificate_of_another_authority_is_not"),
    ),
    access(
        "leaf-issues-certificates",
        _TRUST,
        "if _is_authority(one) and is_issuer(one, chain[-1])",
        "if is_issuer(one, chain[-1])",
        unit("revocation", "test_a_leaf_in_the_bundle_certifies_nobody"),
    ),
    access(
        "unknown-revocation-always-allowed",
        _TRUST,
        'return "revocation-unknown" if self._unknown == "deny" else GOOD',
        "return GOOD",
        unit("revocation", "test_what_nothing_fresh_speaks_of_follows_the_rule_of_the_link"),
    ),
    access(
        "older-revocation-list-taken-back",
        _TRUST,
        "(one.this_update, one.number) >= (held.this_update, held.number)",
        "True",
        unit("revocation", "test_an_older_list_never_takes_the_place_of_a_newer_one"),
    ),
    access(
        "list-of-another-authority-taken",
        _TRUST,
        "if one.subject == crl.issuer and _signed_by(crl, one)",
        "if one.subject == crl.issuer",
        unit("revocation", "test_a_list_that_another_authority_signed_is_refused"),
    ),
    access(
        "ocsp-answer-of-anybody-taken",
        _TRUST,
        "    _require_responder(answer, issuer, at)\n",
        "    pass\n",
        unit("revocation", "test_an_answer_signed_by_anybody_else_is_refused"),
    ),
    access(
        "ocsp-answer-replayed",
        _TRUST,
        "if shown != nonce and (shown is not None or needs_nonce):",
        "if False:",
        unit("revocation", "test_an_answer_that_is_not_to_our_question_now_is_refused"),
    ),
    access(
        "judge-not-asked-at-a-handshake",
        _TLS,
        'why = judge.refuses(certificate or b"") if judge else ""',
        'why = ""',
        integration("links", "test_a_revoked_server_is_refused_by_our_call_also_on_a_connection_that_is_kept"),
    ),
    access(
        "hostname-unchecked",
        _TLS,
        "    context.hostname_checks_common_name = False\n",
        "    context.hostname_checks_common_name = context.check_hostname = False\n",
        integration("links", "test_a_host_that_is_not_in_the_certificate_is_refused_by_our_call"),
    ),
    access(
        "kept-connection-not-judged-again",
        "gateway/certificates/http.py",
        "        if not why:\n",
        "        if True:\n",
        integration(
            "links", "test_ff41_a_revoked_client_is_refused_at_its_next_request_on_a_connection_that_is_kept"
        ),
    ),
    access(
        "association-not-judged-again",
        "gateway/dimse/listener.py",
        "why = self._judge.refuses(association.certificate)",
        'why = ""',
        integration("links", "test_a_revoked_dicom_peer_is_ended_amid_its_association"),
    ),
    loss(
        "renewed-pair-not-taken-into-use",
        _LINK,
        "        if found != self._stamps or self.fault",
        "        if self.fault",
        integration("links", "test_ff40_a_new_pair_that_cannot_be_used_leaves_the_old_one_and_says_why"),
    ),
    loss(
        "pair-switched-untried",
        _PAIRS,
        "if not is_tried and not unrehearsed:",
        "if False:",
        integration("certs", "test_ff40_a_pair_is_asked_for_taken_tried_switched_to_and_taken_back"),
    ),
    loss(
        "expired-certificate-imported",
        _PAIRS,
        "if now > own.not_valid_after_utc:",
        "if False:",
        integration("certs", "test_ff40_a_certificate_that_cannot_serve_is_refused_with_its_reason"),
    ),
    access(
        "list-fetched-from-an-inner-address",
        _FETCH,
        "if not is_allowed(address, self._networks):",
        "if False:",
        integration("certs", "test_t26_a_name_is_resolved_once_and_every_address_of_it_is_judged"),
    ),
    access(
        "unsigned-list-accepted",
        _LISTED,
        "if len(found) != 1 or found[0].getparent() is not root:",
        "if not found or found[0].getparent() is not root:",
        unit("white_list", "test_t21_wrapped_moved_and_doubled_signatures_are_refused"),
    ),
    access(
        "list-of-any-signer-accepted",
        _LIST,
        "return _not_the_signer(certificate, signer) or",
        "return",
        unit("white_list", "test_another_name_of_the_same_authority_is_refused"),
    ),
    access(
        "list-with-a-revoked-signer-accepted",
        _LIST,
        "or trust.refuses(certificate.public_bytes(Encoding.DER))",
        'or ""',
        unit("white_list", "test_a_revoked_signer_is_refused"),
    ),
    access(
        "certificate-of-the-console-not-renewed",
        "gateway/certificates/watch.py",
        "(*self.by_key.values(), *((self.page,) if self.page else ()))",
        "self.by_key.values()",
        integration(
            "console_certificate", "test_ff40_a_running_console_shows_its_new_certificate_and_cuts_no_connection"
        ),
    ),
    access(
        "pair-of-the-console-taken-unjudged",
        "gateway/certificates/page.py",
        "PemSigner(self._certificate, self._private, self._clock).der",
        "self._certificate.read_bytes()",
        integration(
            "console_certificate", "test_what_cannot_be_served_changes_nothing_and_is_told_until_it_is_mended"
        ),
    ),
    loss(
        "wrong-clock-ends-the-process",
        _LINK,
        "            self.fault = fault.code\n            if self.fault",
        '            self.fault = fault.code\n            if fault.code.startswith("certificate"):\n'
        "                raise\n            if self.fault",
        integration("links", "test_t64_a_clock_that_is_wrong_while_a_list_changes_ends_nothing_and_mends_itself"),
    ),
    loss(
        "what-could-not-be-served-never-tried-again",
        _LINK,
        " or self.fault or self.trust",
        " or self.trust",
        integration("links", "test_a_pair_that_is_not_valid_yet_is_served_once_it_is"),
    ),
    access(
        "any-filter-of-a-list-accepted",
        _LISTED,
        "if not any(expression == form.format(ds=prefix) for form in _WHOLE_BUT_ITSELF for prefix in prefixes):",
        "if False:",
        unit("white_list", "test_t21_any_other_filter_is_refused"),
    ),
    loss(
        "older-list-puts-boxes-back",
        _LISTS,
        "if previous and (found.content.generated_at, found.signed_at) <= (",
        "if previous is None and (found.content.generated_at, found.signed_at) <= (",
        integration("certs", "test_the_last_good_list_stays_whatever_comes_after_it"),
    ),
    loss(
        "last-good-list-lost",
        "gateway/whitelist/rows.py",
        "DELETE FROM white_list WHERE white_list_id NOT IN",
        "DELETE FROM white_list WHERE white_list_id IN",
        integration("certs", "test_the_last_good_list_stays_whatever_comes_after_it"),
    ),
    access(
        "revoked-pacs-or-relay-not-judged",
        "security/keys/tls.py",
        """    context = _JudgedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.judge = judge""",
        """    context = _JudgedContext(ssl.PROTOCOL_TLS_CLIENT)""",
        integration("visited", "test_a_revoked_pacs_behind_http_is_not_believed"),
    ),
    access(
        "context-that-judges-not-used-towards-a-pacs",
        "gateway/pacs/http.py",
        'kwargs["ssl_context"] = self._tls',
        "pass",
        integration("visited", "test_a_revoked_pacs_behind_http_is_not_believed"),
    ),
    access(
        "context-that-judges-not-used-towards-a-relay",
        "gateway/alerts/channels.py",
        "context = self._secure or _tls(settings.ca_file)",
        "context = _tls(settings.ca_file)",
        integration("visited", "test_a_revoked_mail_relay_gets_no_alert"),
    ),
    access(
        "list-not-given-to-libpq",
        "security/store/postgres.py",
        'parameters |= {"sslcrl": place.crl_file}',
        "parameters |= {}",
        integration("postgres_opening", "test_the_servers_certificate_and_name_are_verified"),
    ),
)
