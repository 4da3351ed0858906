"""Whose token is believed: form, key, claims, binding, and what its issuer says of it now."""

from __future__ import annotations

from tests.mutants.defects.defect import access, integration, unit

_HEADER = "security/tokens/header.py"
_KEYS = "security/tokens/keys.py"
_SIGNATURE = "security/tokens/signature.py"
_CLAIMS = "security/tokens/claims.py"
_BEARER = "security/tokens/bearer.py"
_INTROSPECTION = "security/tokens/introspection.py"
_SIGNIN = "security/tokens/signin.py"
_PARTY = "gateway/providers/signin.py"
_VOUCHING = "gateway/providers/vouching.py"
_PUBLISHED = "gateway/providers/keys.py"
_CHANNEL = "gateway/providers/channel.py"
_SERVER = "gateway/providers/tokens.py"
_DOOR = "gateway/providers/door.py"

_T40 = unit("tokens", "test_t40_a_header_that_chooses_how_it_is_verified_is_refused")
_T41 = unit("tokens", "test_t41_each_claim_is_there_right_and_of_now")
_T42 = unit("tokens", "test_t42_a_confirmation_that_does_not_name_the_peer_is_refused")
_T44 = unit("tokens", "test_t44_a_yes_about_another_token_is_no_yes")
_KEPT = unit("tokens", "test_t44_an_answer_is_kept_at_most_a_minute_never_past_its_end_and_a_no_five_seconds")
_T46 = unit("tokens", "test_t46_roles_and_purposes_come_from_our_table_and_never_from_the_token_alone")
_T43 = integration("identity_provider", "test_t43_each_deviation_is_refused")
_ONCE = integration("identity_provider", "test_t43_what_comes_back_is_taken_once_in_time_by_the_browser_that_left")
_INJECTED = integration("identity_provider", "test_t43_a_code_of_another_login_is_worth_nothing_here")
_YES = integration(
    "identity_provider", "test_t44_a_yes_is_kept_a_minute_at_most_a_no_five_seconds_and_a_revoked_token_ends_with_it"
)
_WRONG = integration(
    "identity_provider", "test_t44_whatever_the_provider_answers_wrongly_is_no_yes_and_is_not_remembered"
)
_ROUTES = integration("identity_provider", "test_ff38_every_route_refuses_every_token_that_is_not_for_it")
_ROTATED = integration(
    "identity_provider", "test_t40_keys_that_were_rotated_are_found_and_invented_names_cause_no_flood"
)
_SILENT = integration("identity_provider", "test_t40_a_withdrawn_key_ends_within_minutes_and_silence_within_the_hour")
_WEAK_KEYS = unit("tokens", "test_t40_private_small_doubled_and_encryption_keys_do_not_count")

DEFECTS = (
    access(
        "token-header-may-bring-a-key",
        _HEADER,
        "    if members.keys() & _KEY_BRINGERS:\n",
        "    if members.keys() & _KEY_BRINGERS and not _MEMBERS:\n",
        _T40,
    ),
    access(
        "token-header-members-not-judged",
        _HEADER,
        "    if not members.keys() <= _MEMBERS:\n",
        "    if not members.keys():\n",
        _T40,
    ),
    access(
        "token-algorithm-of-any-issuer",
        _HEADER,
        "next((one for one in algorithms if one.value == stated), None)",
        "next((one for one in Algorithm if one.value == stated), None)",
        unit("tokens", "test_t40_an_algorithm_of_the_library_that_the_issuer_does_not_use_is_refused"),
    ),
    access(
        "token-key-name-is-any-text",
        _HEADER,
        '("kid" in members and not _KID.fullmatch(kid))',
        '("kid" in members and not kid)',
        _T40,
    ),
    access(
        "token-of-any-type",
        _HEADER,
        'kind.lower().removeprefix("application/") not in types',
        "not types",
        _T40,
    ),
    access(
        "token-size-not-judged",
        _HEADER,
        "if len(token) > TOKEN_BYTES_MAX:",
        "if len(token) > 100 * TOKEN_BYTES_MAX:",
        unit("tokens", "test_t41_a_token_above_8_kib_is_not_even_taken_apart"),
    ),
    access(
        "token-encoding-not-canonical",
        _HEADER,
        'return base64.urlsafe_b64encode(data).rstrip(b"=").decode() == part',
        "return bool(data)",
        unit("tokens", "test_t40_the_same_signature_written_in_another_way_is_another_token"),
    ),
    access(
        "token-key-serves-any-algorithm",
        _KEYS,
        '    if "alg" in jwk:\n',
        '    if "alg" in jwk and not able:\n',
        unit("tokens", "test_t40_a_key_marked_for_one_algorithm_serves_no_other_one"),
    ),
    access(
        "token-key-of-any-name",
        _KEYS,
        "(not header.kid or key.kid == header.kid)",
        "(not header.kid or bool(self.keys))",
        _T40,
    ),
    access("token-key-may-be-small", _KEYS, "_RSA_BITS_MIN: Final = 2048", "_RSA_BITS_MIN: Final = 512", _WEAK_KEYS),
    access(
        "token-private-key-published",
        _KEYS,
        "if any(isinstance(one, dict) and _PRIVATE & one.keys() for one in listed):",
        "if not _PRIVATE:",
        _WEAK_KEYS,
    ),
    access(
        "token-signature-not-verified",
        _SIGNATURE,
        "jws.deserialize_compact(token, public, algorithms=[header.algorithm.value]).payload",
        "jws.extract_compact(token.encode()).payload",
        unit("tokens", "test_t40_a_token_of_a_key_nobody_published_is_refused"),
    ),
    access(
        "token-claims-may-be-absent",
        _CLAIMS,
        'for name in ("iss", "aud", "exp", "iat", "sub"):',
        'for name in ("iss", "aud", "exp", "iat"):',
        _T41,
    ),
    access("token-of-any-issuer", _CLAIMS, 'if found["iss"] != expected.issuer:', 'if not found["iss"]:', _T41),
    access("token-for-anybody", _CLAIMS, "if expected.audience not in audiences:", "if not audiences:", _T41),
    access("token-never-expires", _CLAIMS, "if now >= expires_at + skew:", "if now >= expires_at + 86400:", _T41),
    access(
        "token-not-before-not-read",
        _CLAIMS,
        'if "nbf" in claims and now < _moment(claims, "nbf") - skew:',
        'if "nbf" in claims and now < _moment(claims, "nbf") - 86400:',
        _T41,
    ),
    access("token-from-the-future", _CLAIMS, "if now < issued_at - skew:", "if now < issued_at - 86400:", _T41),
    access(
        "token-life-not-bounded",
        _CLAIMS,
        "if expires_at - issued_at > expected.life_s_max:",
        "if expires_at < issued_at:",
        _T41,
    ),
    access(
        "token-skew-as-configured",
        _CLAIMS,
        "skew = min(expected.skew_s, SKEW_S_MAX)",
        "skew = expected.skew_s",
        unit("tokens", "test_ff42_five_minutes_of_skew_are_refused_and_said_and_one_is_not"),
    ),
    access(
        "token-of-another-certificate",
        _BEARER,
        "if not hmac.compare_digest(stated.encode(), thumbprint(certificate).encode()):",
        "if not stated:",
        unit("tokens", "test_t42_a_stolen_token_is_worth_nothing_with_another_certificate_or_without"),
    ),
    access(
        "token-without-certificate",
        _BEARER,
        "    if not certificate:\n",
        "    if not certificate and binding is Binding.CERTIFICATE:\n",
        unit("tokens", "test_t42_a_bearer_token_needs_a_peer_and_its_issuers_word_and_a_binding_it_has_still_counts"),
    ),
    access(
        "token-unbound",
        _BEARER,
        "if confirmation is None and binding is Binding.INTROSPECTION:",
        "if confirmation is None:",
        _T42,
    ),
    access(
        "token-binding-ignored-on-bearer",
        _BEARER,
        "if confirmation is None and binding is Binding.INTROSPECTION:",
        "if binding is Binding.INTROSPECTION:",
        unit("tokens", "test_t42_a_bearer_token_needs_a_peer_and_its_issuers_word_and_a_binding_it_has_still_counts"),
    ),
    access(
        "token-scope-not-read",
        _BEARER,
        'if not issuer.scopes <= set(text_claim(claims.all, "scope").split(" ")):',
        'if not issuer.scopes <= set(text_claim(claims.all, "scope").split(" ")) | issuer.scopes:',
        unit("tokens", "test_ff38_a_token_carries_its_scope_and_what_it_is_limited_to"),
    ),
    access(
        "token-gives-an-accounts-role",
        _BEARER,
        "if role is None or role not in GRANTABLE:",
        "if role is None:",
        unit("tokens", "test_t46_a_table_that_maps_to_an_accounts_role_gives_none"),
    ),
    access(
        "token-first-purpose-counts",
        _BEARER,
        "purpose = found.pop() if len(found) == 1 else None",
        "purpose = next((one for one in found if one), None)",
        _T46,
    ),
    access(
        "introspection-of-another-subject",
        _INTROSPECTION,
        '        and said.members.get("sub", bearer.claims.subject) == bearer.claims.subject\n',
        "",
        _T44,
    ),
    access(
        "introspection-no-is-yes",
        _INTROSPECTION,
        "    if not said.is_active:\n",
        "    if said.members is None:\n",
        _T44,
    ),
    access(
        "introspection-kept-as-configured",
        _INTROSPECTION,
        "keep_s=min(yes_s, YES_S_MAX, left_s)",
        "keep_s=min(yes_s, left_s)",
        _KEPT,
    ),
    access(
        "introspection-kept-past-its-end",
        _INTROSPECTION,
        "keep_s=min(yes_s, YES_S_MAX, left_s)",
        "keep_s=min(yes_s, YES_S_MAX)",
        _KEPT,
    ),
    access(
        "signin-nonce-not-compared",
        _SIGNIN,
        'if not same(text_claim(claims.all, "nonce"), pending.nonce):',
        'if not text_claim(claims.all, "nonce"):',
        _T43,
    ),
    access(
        "signin-iss-not-compared",
        _SIGNIN,
        'if said.get("iss", client.issuer) != client.issuer:',
        'if said.get("iss", client.issuer) == "":',
        _T43 + integration("identity_provider", "test_t43_a_wrong_iss_is_refused_whatever_the_metadata_say"),
    ),
    access(
        "signin-iss-may-be-absent",
        _PARTY,
        "if not signin.stated_issuer(query) and await self._must_state_issuer():",
        "if not signin.stated_issuer(query) and not self._settings:",
        _T43,
    ),
    access(
        "signin-party-not-compared",
        _SIGNIN,
        "(party and party != client.client_id)",
        "(party and not client.client_id)",
        _T43,
    ),
    access(
        "signin-level-not-demanded",
        _SIGNIN,
        'if client.acr and text_claim(claims.all, "acr") != client.acr:',
        'if client.acr and not text_claim(claims.all, "acr"):',
        _T43,
    ),
    access(
        "signin-access-token-exchanged",
        _SIGNIN,
        '"at_hash" in claims.all and claims.all["at_hash"] != _half_hash',
        '"at_hash" in claims.all and not _half_hash',
        _T43,
    ),
    access(
        "signin-userinfo-of-another", _SIGNIN, 'if told.get("sub") != who.subject:', 'if not told.get("sub"):', _T43
    ),
    access("signin-other-browser", _SIGNIN, "if not same(browser, pending.browser):", "if not browser:", _ONCE),
    access("signin-parameter-twice", _SIGNIN, "if len(found) != len(query):", "if len(found) > len(query):", _ONCE),
    access("signin-never-late", _SIGNIN, "now >= pending.until or not same", "pending.until < 0 or not same", _ONCE),
    access(
        "signin-verifier-of-no-login",
        _SIGNIN,
        '"code_challenge": challenge(pending.verifier),',
        '"code_challenge": challenge("v" * 43),',
        _INJECTED + integration("identity_provider", "test_t43_a_person_signs_in_and_is_who_the_provider_says"),
    ),
    access(
        "signin-state-used-twice",
        _PARTY,
        "self._pending.pop(signin.stated_state(query), None)",
        "self._pending.get(signin.stated_state(query))",
        _ONCE,
    ),
    access(
        "introspection-outage-is-yes",
        _CHANNEL,
        "    if answer.status != 200:\n",
        "    if answer.status not in {200, 503}:\n",
        integration(
            "identity_provider", "test_t44_while_the_provider_is_down_nobody_reads_and_afterwards_everybody_does"
        )
        + _WRONG,
    ),
    access(
        "introspection-not-asked",
        _SERVER,
        "        if found.vouching is not None:\n",
        "        if found.vouching is not None and not bearer.needs_introspection:\n",
        _YES,
    ),
    access(
        "introspection-kept-for-ever",
        _VOUCHING,
        "if said is not None and self._clock.monotonic() < until:",
        "if said is not None and until:",
        _YES,
    ),
    access(
        "introspection-kept-over-a-logout",
        _VOUCHING,
        "if said.keep_s > 0 and self._asked.get(key) is me:",
        "if said.keep_s > 0 and me is not None:",
        integration("identity_provider", "test_t44_an_answer_on_its_way_while_the_session_ends_is_not_kept"),
    ),
    access(
        "introspection-logout-forgets-nothing",
        _VOUCHING,
        "        self._held.pop(key, None)\n        self._asked.pop(key, None)\n",
        "        self._asked.pop(key, None)\n",
        integration("identity_provider", "test_t44_a_token_whose_session_ended_is_asked_about_again_at_once"),
    ),
    access(
        "keys-asked-for-at-every-name",
        _PUBLISHED,
        "        if began - self._tried_at < AGAIN_S:\n",
        "        if began < self._tried_at:\n",
        _ROTATED,
    ),
    access(
        "keys-never-old",
        _PUBLISHED,
        "if self._held is None or self._age_s() >= STALE_S:",
        "if self._held is None:",
        _SILENT,
    ),
    access(
        "keys-never-looked-at-again",
        _PUBLISHED,
        "if self._held is None or self._age_s() >= REFRESH_S:",
        "if self._held is None or self._age_s() >= STALE_S:",
        _SILENT,
    ),
    access(
        "token-door-without-policy",
        _DOOR,
        "        if isinstance(judged, Allow):\n",
        "        if isinstance(judged, Allow | Deny):\n",
        _ROUTES,
    ),
    access(
        "token-door-without-action",
        _DOOR,
        "            else Deny(reason=Reason.NO_RULE)\n",
        "            else Allow(role=None)\n",
        _ROUTES,
    ),
    access(
        "token-in-the-log",
        _DOOR,
        'token=mark(token) if token else "")',
        "token=token)",
        integration("identity_provider", "test_ff39_no_token_secret_or_claim_is_in_logs_or_answers"),
    ),
)
