"""People and commands: the console, the control socket."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration

_CONTROL = "gateway/control.py"
_SESSION = "gateway/web/session.py"
_GUARD = "gateway/web/guard.py"
_SHELL = "gateway/web/shell.py"
_PAGES = "gateway/web/console/pages.py"
_OPERATIONS = "gateway/operations.py"

DEFECTS = (
    access(
        "control-socket-open-to-other-users",
        _CONTROL,
        "if uid not in {0, os.geteuid()}:",
        "if uid is None:",
        integration("control", "test_t46_another_user_is_refused_even_when_the_file_lets_him_in"),
    ),
    access(
        "form-of-another-site-accepted",
        _SESSION,
        'if site is not None and site != "same-origin":',
        'if site == "cross-site":',
        integration("console", "test_t32_a_form_of_another_site_changes_nothing"),
    ),
    access(
        "session-id-kept-in-clear",
        _SESSION,
        'return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()',
        'return token.encode("utf-8", "surrogatepass")',
        integration("console", "test_the_store_of_sessions_holds_no_session_id"),
    ),
    access(
        "session-kept-open-for-ever",
        _SESSION,
        " or now - held.opened_at >= self._absolute_s:",
        ":",
        integration("console", "test_clicks_keep_a_session_open_but_not_beyond_twelve_hours"),
    ),
    access(
        "login-leads-elsewhere",
        _SESSION,
        "return text if re.fullmatch(local, text, re.ASCII) else",
        "return text if text and local else",
        integration("console", "test_login_leads_nowhere_but_into_the_console"),
    ),
    access(
        "page-without-a-session",
        _GUARD,
        "if isinstance(judged, Deny):",
        "if isinstance(judged, Deny) and session is not None:",
        integration("console", "test_t46_without_a_session_nothing_is_shown_and_nothing_done"),
    ),
    access(
        "form-without-its-token-accepted",
        _GUARD,
        " and not is_open and not await _has_token(request, session):",
        " and is_open and not await _has_token(request, session):",
        integration("console", "test_t32_a_form_without_the_token_of_its_session_changes_nothing"),
    ),
    access(
        "host-of-a-request-not-ours",
        _GUARD,
        "if not names_our_host(request, hosts):",
        "if not hosts:",
        integration("console", "test_t32_a_name_that_is_not_ours_is_answered_with_nothing"),
    ),
    access(
        "refresh-taken-for-a-click",
        _GUARD,
        'clicked="HX-Request" not in request.headers',
        "clicked=True",
        integration("console", "test_a_session_closes_when_nobody_clicks_though_the_page_refreshes_itself"),
    ),
    access(
        "role-of-a-session-not-asked",
        _GUARD,
        "    if isinstance(judged, Deny):\n        if",
        "    if isinstance(judged, Deny) and judged.reason is not Reason.ROLE:\n        if",
        integration("guard", "test_t46_a_session_reaches_what_its_roles_allow_and_nothing_else"),
    ),
    access(
        "route-without-a-line-open-to-all",
        _GUARD,
        "if action is None or (changes and",
        "action = action or Action.PAGE_OPEN\n    if (changes and",
        integration("guard", "test_t46_a_route_without_a_line_in_the_table_answers_nobody"),
    ),
    access(
        "values-written-as-markup",
        _SHELL,
        "autoescape=True,",
        "autoescape=False,",
        integration("console", "test_t29_values_from_outside_are_text"),
    ),
    identity(
        "released-without-comparing",
        _PAGES,
        'if form.get("compared") != "yes":',
        'if form.get("compared") == "no":',
        integration("console", "test_ff19_a_release_needs_a_reason_and_the_word_that_both_were_compared"),
    ),
    access(
        "look-at-identities-not-audited",
        _OPERATIONS,
        "self._audit(tx, tenant, event, actor, study, detail=shown.reason)",
        "pass",
        integration("console", "test_ff19_a_held_exam_goes_from_the_list_to_the_index_through_the_console"),
    ),
    access(
        "socket-of-a-living-gateway-taken",
        _CONTROL,
        "if is_running(place):",
        "if not place:",
        integration("control", "test_a_socket_that_a_living_gateway_answers_on_is_not_taken_away"),
    ),
    access(
        "each-loopback-address-tries-keys-anew",
        _SESSION,
        'return "loopback" if ipaddress.ip_address(address).is_loopback else address',
        "return address",
        integration("console_attacks", "test_t33_tries_from_other_loopback_addresses_count_together"),
    ),
    access(
        "made-up-cookie-taken-for-a-known-browser",
        "security/accounts/entry.py",
        "if made.isascii() and mark and hmac.compare_digest(self._browser_mark(made, name), _ascii(mark)):",
        "if made.isascii() and mark:",
        integration("console_attacks", "test_t33_a_cookie_somebody_made_up_is_no_browser_we_know"),
    ),
    access(
        "session-goes-on-though-its-account-changed",
        _GUARD,
        "if account is None or account.version != session.version:",
        "if account is None:",
        integration("console", "test_t32_a_session_is_over_with_the_next_request_once_its_account_has_changed"),
    ),
    access(
        "session-id-stays-after-a-proof",
        _SESSION,
        "        return self._put(held)\n\n    def close",
        "        self._open[_digest(token)] = held\n        return token\n\n    def close",
        integration(
            "console",
            "test_what_is_sensitive_asks_for_a_proof_that_is_minutes_old_and_the_session_gets_a_new_id",
        ),
    ),
    access(
        "proof-good-for-ever",
        _SESSION,
        "is_fresh=now - held.proved_at < FRESH_S",
        "is_fresh=now >= held.proved_at",
        integration(
            "console",
            "test_what_is_sensitive_asks_for_a_proof_that_is_minutes_old_and_the_session_gets_a_new_id",
        ),
    ),
    access(
        "emergency-opens-without-broken-glass",
        _GUARD,
        "judged.reason is Reason.ROLE and await emergency(subject.name, about.tenant):",
        "judged.reason is Reason.ROLE:",
        integration("console", "test_t47_an_operator_who_breaks_the_glass_sees_identities_and_cannot_release_them"),
    ),
    access(
        "list-shows-every-legal-entity",
        _PAGES,
        "            wanted = replace(wanted, tenant=request[SESSION].tenant)",
        '            wanted = replace(wanted, tenant="")',
        integration("console", "test_t28_an_account_of_one_legal_entity_sees_no_other_not_even_that_it_exists"),
    ),
)
