"""Who signs in: proofs, tries, codes, what two persons agree on."""

from __future__ import annotations

from tests.mutants.defects.defect import access, integration, unit

_ENTRY = "security/accounts/entry.py"
_REGISTER = "security/accounts/register.py"
_ROWS = "security/accounts/rows.py"
_TOTP = "security/accounts/totp.py"
_CONSENTS = "security/accounts/consents.py"
_GLASS = "security/accounts/glass.py"
_CONTINUITY = "tests/acceptance/test_continuity_commands.py"

DEFECTS = (
    access(
        "password-alone-admits",
        _ENTRY,
        "good = matches and self._takes_code(tx, name, code, now)",
        "good = matches",
        integration("accounts", "test_name_password_and_code_admit_and_one_of_them_wrong_does_not"),
    ),
    access(
        "code-alone-admits",
        _ENTRY,
        "good = matches and self._takes_code(tx, name, code, now)",
        "good = self._takes_code(tx, name, code, now)",
        integration("accounts", "test_name_password_and_code_admit_and_one_of_them_wrong_does_not"),
    ),
    access(
        "replayed-code-fits",
        _TOTP,
        "next((step for step in fitting if step > last), None)",
        "next(iter(fitting), None)",
        unit("account_rules", "test_t32_a_code_is_taken_in_its_step_and_the_two_beside_it_and_never_twice"),
    ),
    access(
        "locked-account-admitted",
        _ENTRY,
        "        admitted = found if found and found.status is Status.ACTIVE else None",
        "        admitted = found",
        integration("accounts", "test_a_locked_account_admits_nobody_and_says_nothing_about_it"),
    ),
    access(
        "tries-counted-after-they-are-judged",
        _ENTRY,
        "        if wait_s:\n            raise TooManyTries(wait_s)",
        "        if wait_s > 4000:\n            raise TooManyTries(wait_s)",
        integration("accounts", "test_t33_tries_made_at_once_are_counted_before_they_are_judged"),
    ),
    access(
        "tries-not-counted-by-account",
        _ENTRY,
        'self._vault.blind(SEALED_UNDER, "try", f"account {_ascii(name)}"),',
        'self._vault.blind(SEALED_UNDER, "try", f"account {_ascii(name)} {place.counted_as}"),',
        integration("accounts", "test_t33_five_wrong_tries_at_an_account_make_everybody_wait_from_wherever"),
    ),
    access(
        "tries-not-counted-by-address",
        _ENTRY,
        'self._vault.blind(SEALED_UNDER, "try", f"address {place.counted_as}"),',
        'self._vault.blind(SEALED_UNDER, "try", f"address {place.counted_as} {_ascii(name)}"),',
        integration("accounts", "test_t33_five_wrong_tries_from_an_address_make_it_wait_whatever_the_name"),
    ),
    access(
        "unknown-name-answered-sooner",
        "security/accounts/entry.py",
        "        matches = await self._passwords.matches(password[:LENGTH_MAX], kept)",
        "        matches = bool(kept) and await self._passwords.matches(password[:LENGTH_MAX], kept)",
        integration("accounts", "test_t33_a_password_is_computed_for_a_name_that_does_not_exist_too"),
    ),
    access(
        "known-browser-of-another-account",
        _ENTRY,
        'blind(SEALED_UNDER, "browser", f"{made}\\n{name}")',
        'blind(SEALED_UNDER, "browser", f"{made}")',
        integration("accounts", "test_t33_nobodys_tries_lock_out_a_browser_that_was_let_in_as_that_account"),
    ),
    access(
        "one-time-code-good-for-ever",
        _ROWS,
        '"SELECT account FROM account_code WHERE digest = :digest AND used_at IS NULL AND expires_at > :now",',
        '"SELECT account FROM account_code WHERE digest = :digest AND used_at IS NULL AND :now > 0",',
        integration("accounts", "test_a_code_expires"),
    ),
    access(
        "one-time-code-used-twice",
        _ROWS,
        '"UPDATE account_code SET used_at = :now WHERE digest = :digest AND used_at IS NULL AND expires_at > :now",',
        '"UPDATE account_code SET used_at = :now WHERE digest = :digest AND expires_at > :now",',
        integration("accounts", "test_of_many_who_enrol_with_one_code_at_once_one_does"),
    ),
    access(
        "second-officer-by-bootstrap",
        _REGISTER,
        "            if officers := _officers(tx):",
        "            if len(officers := _officers(tx)) > 1:",
        integration(
            "accounts", "test_the_first_account_is_a_security_officer_by_a_code_that_is_good_once_and_for_a_day"
        ),
    ),
    access(
        "locked-account-opened-by-an-old-code",
        _REGISTER,
        "    return found is not None and found.status is Status.LOCKED",
        "    return found is None and bool(Status.LOCKED)",
        integration("accounts", "test_a_locked_account_is_not_opened_by_a_code_that_was_given_before"),
    ),
    access(
        "new-roles-leave-sessions-open",
        _ROWS,
        'profession = :profession, version = version + 1,"',
        'profession = :profession,"',
        integration("accounts", "test_t32_every_change_that_matters_raises_the_version_that_sessions_are_bound_to"),
    ),
    access(
        "revoked-certificate-stands-for-the-account",
        _ROWS,
        '"SELECT account FROM account_certificate WHERE fingerprint = :fingerprint AND revoked_at IS NULL",',
        '"SELECT account FROM account_certificate WHERE fingerprint = :fingerprint",',
        integration("accounts", "test_a_lost_certificate_admits_no_more_though_the_password_still_does"),
    ),
    access(
        "one-agrees-with-oneself",
        _CONSENTS,
        "            if held.asked_by == account:",
        "            if held.given_by == account:",
        integration("accounts", "test_t46_two_persons_agree_before_keys_leave_and_once"),
    ),
    access(
        "agreement-without-the-second-person",
        _CONSENTS,
        "            if not held.given_by:",
        "            if not held.asked_by:",
        integration("accounts", "test_t46_two_persons_agree_before_keys_leave_and_once"),
    ),
    access(
        "agreement-for-another-act",
        _CONSENTS,
        "            if (held.action, held.tenant) != (action, tenant):",
        "            if held.tenant != tenant:",
        integration("accounts", "test_t46_two_persons_agree_before_keys_leave_and_once"),
    ),
    access(
        "key-in-a-backup-by-one-person",
        "gateway/commands.py",
        "        if with_key:\n            await order",
        "        if with_key and consent:\n            await order",
        (f"{_CONTINUITY}::test_t46_the_key_leaves_in_a_backup_only_when_two_persons_agreed_and_then_once",),
    ),
    access(
        "mass-withdrawal-by-one-person",
        "gateway/wiring.py",
        '        if facts.get("withdraw_up_to") is not None:',
        '        if facts.get("withdraw_up_to") is not None and facts.get("consent"):',
        (f"{_CONTINUITY}::test_t46_more_withdrawals_than_a_run_may_ask_for_take_two_persons",),
    ),
    access(
        "broken-glass-for-a-day",
        _GLASS,
        "        if not timedelta() < lasts <= LONGEST:",
        "        if not timedelta() < lasts <= 6 * LONGEST:",
        integration(
            "accounts", "test_t47_the_glass_is_broken_for_a_reason_for_four_hours_at_most_and_alarms_at_once"
        ),
    ),
    access(
        "broken-glass-unalarmed",
        _GLASS,
        "            self._alarm(tenant, account)",
        "            pass",
        integration("accounts", "test_t47_when_nobody_can_be_told_the_glass_stays_whole"),
    ),
    access(
        "no-password-fits-every-account-without-one",
        "security/accounts/password.py",
        "return found and kept is not None",
        "return found or kept is None",
        unit("account_rules", "test_a_hash_is_argon2id_with_a_salt_of_its_own_and_fits_its_password_alone"),
    ),
)
