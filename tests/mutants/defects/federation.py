"""Who is let in by an identity provider: as which account, at which moment, by which browser, and what is kept of it."""

from __future__ import annotations

from tests.mutants.defects.defect import access, integration, unit

_ENTRY = "security/accounts/entry.py"
_REGISTER = "security/accounts/register.py"
_SIGNIN = "security/tokens/signin.py"
_PARTY = "gateway/providers/signin.py"
_SETTINGS = "gateway/settings/providers.py"
_PAGES = "gateway/web/console/federation.py"

_SILENT = integration(
    "identity_provider",
    "test_t43_an_answer_without_iss_is_taken_from_a_provider_alone_that_does_not_say_it_sends_it",
)
_METADATA = integration(
    "identity_provider",
    "test_t43_metadata_are_asked_for_only_when_an_answer_without_iss_came_and_count_only_for_their_issuer",
)
_VOUCHED = integration(
    "identity_provider", "test_t44_nobody_signs_in_while_the_provider_does_not_vouch_for_the_token"
)
_MISBEHAVES = integration(
    "federation", "test_t43_t44_a_provider_that_misbehaves_signs_nobody_in_and_the_page_says_what_to_do"
)
_MAY_NOT = integration("federation", "test_an_account_that_may_not_sign_in_lets_nobody_in")
_PROVES = integration("federation", "test_a_person_let_in_by_a_provider_proves_there_to_be_there")
_WAITS = integration("federation", "test_t33_people_without_an_account_wait_by_address_while_passwords_go_on")
_COOKIES = integration("federation", "test_t32_the_cookies_of_a_sign_in_leave_neither_the_host_nor_our_own_pages")
_LINKED = integration("accounts", "test_an_identity_is_linked_to_one_account_and_linking_unlocks_nobody")
_CONSOLE = unit("provider_settings", "test_ff44_what_would_open_a_provider_too_far_is_refused_by_its_key")

DEFECTS = (
    access(
        "signin-silence-not-asked-about",
        _PARTY,
        'return self._settings.answer_iss == "always" or await self._channel.states_issuer()',
        'return self._settings.answer_iss == "always"',
        _SILENT,
    ),
    access(
        "signin-silence-allowed-though-demanded",
        _PARTY,
        'return self._settings.answer_iss == "always" or await self._channel.states_issuer()',
        "return await self._channel.states_issuer()",
        _SILENT,
    ),
    access(
        "signin-metadata-of-another",
        _SIGNIN,
        'if metadata.get("issuer") != issuer or not isinstance(stated, bool):',
        "if not isinstance(stated, bool):",
        _METADATA,
    ),
    access(
        "signin-metadata-of-no-word",
        _SIGNIN,
        'if metadata.get("issuer") != issuer or not isinstance(stated, bool):',
        'if metadata.get("issuer") != issuer:',
        _SILENT,
    ),
    access(
        "signin-token-not-asked-about",
        _PARTY,
        "        if self._vouching:\n",
        "        if not self._settings:\n",
        _VOUCHED,
    ),
    access(
        "signin-token-of-another",
        _SIGNIN,
        'if said.members.get("sub", who.subject) != who.subject or',
        "if",
        _VOUCHED,
    ),
    access(
        "signin-old-proof-counts",
        _SIGNIN,
        "if pending.since is not None and not _is_after(",
        "if pending.since is not None and client.skew_s < 0 and not _is_after(",
        integration("identity_provider", "test_a_proof_is_asked_for_anew_and_an_old_one_is_none"),
    ),
    access(
        "provider-of-any-issuer",
        _ENTRY,
        '    return f"{issuer}|{subject}"',
        '    return f"{issuer[:8]}|{subject}"',
        integration("federation", "test_the_same_subject_of_another_provider_is_another_person"),
    ),
    access(
        "provider-admits-a-locked-account",
        _ENTRY,
        "        admitted = found if found and found.status is Status.ACTIVE else None",
        "        admitted = found",
        _MAY_NOT,
    ),
    access(
        "provider-proves-for-another",
        _ENTRY,
        "good=found is not None and found.name == name)",
        "good=found is not None or bool(name))",
        _PROVES,
    ),
    access(
        "provider-tries-without-end",
        _ENTRY,
        "            self._count(tx, who, self._clock.now())\n            admitted = self._admit(",
        "            admitted = self._admit(",
        _WAITS,
    ),
    access(
        "provider-link-unlocks",
        _REGISTER,
        "            rows.bind_federated(tx, held.name, identity, now=now)\n"
        "            status = Status.ACTIVE if held.status is Status.INVITED else held.status\n",
        "            rows.bind_federated(tx, held.name, identity, now=now)\n            status = Status.ACTIVE\n",
        _LINKED,
    ),
    access(
        "provider-unlink-keeps-the-link",
        _REGISTER,
        'rows.bind_federated(tx, held.name, "", now=now)',
        "rows.bind_federated(tx, held.name, held.federated, now=now)",
        _LINKED + _MAY_NOT,
    ),
    access(
        "provider-last-officer-unlinked",
        _REGISTER,
        "            if not enters:\n                _keep_an_officer(tx, held)\n            rows.bind_federated",
        "            rows.bind_federated",
        integration("accounts", "test_the_last_officer_who_enters_by_a_provider_alone_is_not_unlinked"),
    ),
    access(
        "provider-sends-back-to-another-console",
        _SETTINGS,
        "or parts.query or parts.hostname not in known:",
        "or parts.query:",
        _CONSOLE,
    ),
    access(
        "provider-sends-back-to-anothers-address",
        _SETTINGS,
        'if parts.path != f"/console/login/{name}/back" or parts.query',
        "if parts.query",
        _CONSOLE,
    ),
    access(
        "provider-console-without-tls",
        _SETTINGS,
        '    if not table.get("certificate_file"):\n        yield (\n            f"{key}.authorization_url",',
        '    if table.get("certificate_file") == "":\n        yield (\n            f"{key}.authorization_url",',
        unit("provider_settings", "test_nobody_is_sent_away_from_a_console_without_tls"),
    ),
    access(
        "federation-way-back-with-cookies",
        _PAGES,
        '            samesite="Strict",\n',
        '            samesite="None",\n',
        _COOKIES,
    ),
    access(
        "federation-proof-is-anybodys",
        _PAGES,
        "            await self._entry.prove_by_provider(name, who.issuer, who.subject, self._entrance.place(request))\n",
        "            assert name\n            assert who\n",
        _PROVES,
    ),
    access(
        "federation-refusal-not-told",
        _PAGES,
        "        self._tell(\n",
        "        str(\n",
        _MISBEHAVES,
    ),
    access(
        "federation-outage-lets-in-the-trail-alone",
        _PAGES,
        "        if not isinstance(fault, Refused):\n",
        "        if not isinstance(fault, Refused) and not told:\n",
        _MISBEHAVES,
    ),
    access(
        "federation-let-in-by-redirect",
        _PAGES,
        "        party = self._party(request)\n        told = [",
        "        party = self._party(request)\n        if party:\n            return await self.enter(request)\n"
        "        told = [",
        ("tests/browser/test_federation.py::test_a_person_goes_to_the_provider_and_comes_back_signed_in",),
    ),
)
