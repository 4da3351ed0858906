"""The rest of the gateway: settings, alerts, logs, the support bundle."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, unit

_FIELDS = "gateway/settings/fields.py"
_TELEMETRY = "gateway/telemetry.py"
_CHANNELS = "gateway/alerts/channels.py"
_BUNDLE = "gateway/bundle.py"

DEFECTS = (
    access(
        "listener-on-an-open-address",
        _FIELDS,
        "    if bound.is_unspecified or bound.is_multicast:",
        "    if bound.is_multicast:",
        unit("settings", "test_t63_a_listener_is_bound_to_one_address_never_to_all"),
    ),
    access(
        "console-leaves-the-machine-in-clear",
        "gateway/settings/models.py",
        'if is_open(table.get("listen")) and not table.get("certificate_file"):\n            yield (\n                "certificate_file",\n                "is absent though other machines reach the console"',
        'if not table.get("listen") and not table.get("certificate_file"):\n            yield (\n                "certificate_file",\n                "is absent though other machines reach the console"',
        unit("settings", "test_ff44_the_console_leaves_this_machine_only_with_tls"),
    ),
    identity(
        "trial-patient-of-a-real-authority-configured",
        _FIELDS,
        "if authority.production:",
        "if False:",
        unit("check", "test_ff47_a_mistake_in_the_file_is_named_by_file_key_and_reason"),
    ),
    access(
        "telling-log-fields-shown",
        _TELEMETRY,
        'return folded in SENSITIVE or folded.startswith("patient")',
        "return False",
        unit("telemetry", "test_ff39_a_patient_value_under_any_telling_key_never_reaches_the_log"),
    ),
    access(
        "exception-text-logged",
        _TELEMETRY,
        "        if isinstance(cause, Fault):\n",
        "        if cause is not None:\n",
        unit("telemetry", "test_ff39_an_exception_shows_place_and_type_but_not_what_it_quotes"),
    ),
    access(
        "finished-text-of-a-library-logged",
        _TELEMETRY,
        '"said": str(record.msg) if record.args else ""}',
        '"said": record.getMessage()}',
        unit("telemetry", "test_ff39_a_librarys_finished_text_is_withheld_and_its_template_shown"),
    ),
    access(
        "mail-relay-not-verified",
        _CHANNELS,
        "relay.starttls(context=context)",
        "relay.starttls()",
        integration("alerts", "test_a_relay_of_another_authority_is_never_given_the_mail"),
    ),
    access(
        "study-named-in-the-bundle",
        _BUNDLE,
        '"study": hashed(job["lane"])',
        '"study": job["lane"]',
        integration(
            "bundle",
            "test_no_patient_value_stands_in_the_bundle_nor_in_its_members",
            "test_two_bundles_hash_the_same_study_differently",
        ),
    ),
)
