"""What is sealed, parsed, audited and let in."""

from __future__ import annotations

from tests.mutants.defects.defect import access, identity, integration, loss, unit

_INS = "security/ins.py"
_HL7 = "security/parse/hl7.py"
_SECRETS = "security/secrets.py"
_SEAL = "security/seal.py"
_XML = "security/parse/xml.py"
_MIME = "security/parse/mime.py"
_TLS = "security/keys/tls.py"
_IDENTITY = "security/identity.py"
_AUDIT = "security/audit/record.py"

DEFECTS = (
    access(
        "words-of-a-defect-shown-before-the-log-is-there",
        "gateway/cli.py",
        "if sys.excepthook is except_hook:",
        "if sys.excepthook is None:",
        (
            "tests/acceptance/test_secrets_in_crashes.py::test_t60_a_process_that_dies_of_a_defect_writes_no_byte_of_a_secret",
        ),
    ),
    identity(
        "ins-key-arithmetic-dropped",
        _INS,
        'return int(read["key"]) == 97 - number % 97',
        "return number > 0",
        unit("ins", "test_a_wrong_matricule_does_not_pass", "test_any_single_wrong_digit_breaks_the_key"),
    ),
    identity(
        "undecodable-bytes-replaced",
        _HL7,
        "text = raw.decode(used)",
        'text = raw.decode(used, "replace")',
        unit("hl7_parse", "test_ff10_a_name_is_read_right_whatever_msh_18_says"),
    ),
    loss(
        "new-key-not-flushed",
        _SECRETS,
        "        os.fsync(fd)",
        "        pass",
        unit("secrets", "test_a_private_file_and_its_name_are_on_disk_before_it_counts"),
    ),
    loss(
        "name-of-a-new-key-not-flushed",
        _SECRETS,
        "        os.fsync(folder)",
        "        pass",
        unit("secrets", "test_a_private_file_and_its_name_are_on_disk_before_it_counts"),
    ),
    access(
        "secret-file-open-to-others-accepted",
        _SECRETS,
        "if status.st_mode & 0o077 or status.st_uid not in {os.geteuid(), 0}:",
        "if status.st_uid not in {os.geteuid(), 0}:",
        unit("secrets", "test_t60_a_file_that_others_may_access_is_refused"),
    ),
    access(
        "sealed-value-opens-anywhere",
        _SEAL,
        "return header + _prefixed(tenant) + context.encode()",
        "return header",
        unit("seal", "test_a_value_moved_to_another_tenant_or_row_is_refused"),
    ),
    access(
        "line-between-tenant-and-context-lost",
        _SEAL,
        "return header + _prefixed(tenant) + context.encode()",
        "return header + tenant.encode() + context.encode()",
        unit("seal", "test_the_line_between_tenant_and_context_cannot_be_moved"),
    ),
    access(
        "blind-index-without-key",
        _SEAL,
        "return hmac.digest(self._blinding[tenant], _prefixed(field) + value.encode(), hashlib.sha256)",
        "return hashlib.sha256(_prefixed(field) + value.encode()).digest()",
        unit("seal", "test_a_blind_index_tells_tenants_fields_and_values_apart"),
    ),
    access(
        "doctype-accepted",
        _XML,
        "if root.getroottree().docinfo.internalDTD is not None:",
        "if root is None:",
        unit("xml_parse", "test_t20_a_doctype_hidden_in_another_encoding_is_refused"),
    ),
    access(
        "entities-resolved",
        _XML,
        "resolve_entities=False, no_network=True,",
        "resolve_entities=True, no_network=True,",
        unit("xml_parse", "test_t20_nobody_opens_what_an_external_entity_names"),
    ),
    access(
        "xinclude-accepted",
        _XML,
        "if include is not None:",
        "if root is None and include is not None:",
        unit("xml_parse", "test_t20_xinclude_is_refused_not_followed"),
    ),
    access(
        "content-id-used-twice",
        _MIME,
        "if part.content_id in seen:",
        "if part.content_id is None:",
        unit("mime", "test_t22_a_content_id_twice_is_refused"),
    ),
    access(
        "client-certificate-not-required",
        _TLS,
        "context.verify_mode = ssl.CERT_REQUIRED",
        "context.verify_mode = ssl.CERT_OPTIONAL",
        integration("tls", "test_a_client_without_a_certificate_is_refused"),
    ),
    access(
        "name-in-the-subject-accepted",
        _TLS,
        "context.hostname_checks_common_name = False",
        "context.check_hostname = False",
        integration("tls", "test_a_server_of_another_name_is_refused"),
    ),
    access(
        "values-not-masked",
        _IDENTITY,
        'return f"{first}…({len(value)})"',
        "return value",
        unit("identity", "test_t34_showing_an_identity_shows_no_patient"),
    ),
    access(
        "audit-leaf-over-nothing",
        _AUDIT,
        'return hashlib.sha256(b"\\x00" + _canonical(row)).digest()',
        'return row["leaf"]',
        unit("audit", "test_an_edited_row_is_found"),
    ),
    access(
        "audit-leaf-without-the-time",
        _AUDIT,
        'said = {name: fields[name] for name in _ALWAYS} | {"at": fields["at"]}',
        'said = {name: fields[name] for name in _ALWAYS} | {"at": 0}',
        unit("audit", "test_an_edited_row_is_found"),
    ),
)
