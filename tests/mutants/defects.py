"""The planted defects: one small edit each, and the tests that must notice it.

``old`` stands exactly once in ``file``. ``tests`` are node ids without parameters, the fast ones of those that
notice. The list is ordered by what is guarded: identity, loss, access.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Guards = Literal["identity", "loss", "access"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """One edit that removes a guard. ``tests``: pytest node ids, at least one must turn red."""

    name: str
    guards: Guards
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_UNIT, _INTEGRATION, _CONTRACT = "tests/unit", "tests/integration", "tests/contract"
_GATE, _INTAKE, _LEDGER = "indexer/gate.py", "gateway/hl7/intake.py", "indexer/ledger.py"
_PUBLICATION, _ASSEMBLE, _METADATA = "indexer/publication.py", "indexer/assemble.py", "indexer/xds/metadata.py"
_ORU, _DIMSE, _ORTHANC, _DOOR = (
    "gateway/hl7/oru.py",
    "gateway/pacs/dimse.py",
    "gateway/pacs/orthanc.py",
    "gateway/pacs/door.py",
)
_SOURCE = "gateway/pacs/source.py"
_SQLITE, _PLACE, _SECRETS = "security/store/sqlite.py", "security/store/place.py", "security/secrets.py"
_ENGINE, _JOBS, _STATES = "security/outbox/engine.py", "security/outbox/jobs.py", "security/outbox/states.py"
_ANSWERS, _CLIENT, _SOAP = "indexer/xds/answers.py", "indexer/xds/client.py", "indexer/xds/soap.py"
_NODE, _ROWS, _VALIDATE = "indexer/registry/node.py", "indexer/registry/rows.py", "indexer/registry/validate.py"
_SEAL, _AUDIT, _TLS, _XML = "security/seal.py", "security/audit.py", "security/keys/tls.py", "security/parse/xml.py"
_TELEMETRY = "gateway/telemetry.py"


def _of(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{file}::{name}" for name in names)


def _unit(area: str, *names: str) -> tuple[str, ...]:
    return _of(f"{_UNIT}/test_{area}.py", *names)


def _integration(area: str, *names: str) -> tuple[str, ...]:
    return _of(f"{_INTEGRATION}/test_{area}.py", *names)


def _store(*names: str) -> tuple[str, ...]:
    return _of(f"{_CONTRACT}/test_store.py", *names)


def _identity(name: str, file: str, old: str, new: str, tests: tuple[str, ...]) -> Defect:
    return Defect(name=name, guards="identity", file=file, old=old, new=new, tests=tests)


def _loss(name: str, file: str, old: str, new: str, tests: tuple[str, ...]) -> Defect:
    return Defect(name=name, guards="loss", file=file, old=old, new=new, tests=tests)


def _access(name: str, file: str, old: str, new: str, tests: tuple[str, ...]) -> Defect:
    return Defect(name=name, guards="access", file=file, old=old, new=new, tests=tests)


_GATE_BEFORE_ACK = (
    _identity(
        "ins-status-ignored",
        _GATE,
        'if ins.status != "VALI":',
        "if not ins.status:",
        _unit("gate", "test_ff19_an_ins_that_is_not_qualified_holds"),
    ),
    _identity(
        "ins-key-ignored",
        _GATE,
        "if not check_key(ins.matricule):",
        "if not ins.matricule:",
        _unit("gate", "test_ff19_a_matricule_with_a_wrong_key_holds"),
    ),
    _identity(
        "ins-key-arithmetic-dropped",
        "security/ins.py",
        'return int(read["key"]) == 97 - number % 97',
        "return number > 0",
        _unit("ins", "test_a_wrong_matricule_does_not_pass", "test_any_single_wrong_digit_breaks_the_key"),
    ),
    _identity(
        "ins-digits-ignored",
        _GATE,
        "for part in digits_disagree(ins.matricule, traits.sex, traits.birth_date):",
        "for part in digits_disagree(ins.matricule, '', None):",
        _unit("gate", "test_ff19_a_matricule_that_contradicts_sex_and_birth_date_holds"),
    ),
    _identity(
        "unknown-ins-authority-accepted",
        _GATE,
        '        yield _hold("identity-ins-authority", "INS authority", (_HL7, ins.oid), ("rule", ""))',
        "        pass",
        _unit("gate", "test_ff19_an_unknown_authority_holds"),
    ),
    _identity(
        "test-authority-accepted",
        _GATE,
        "elif not INS_AUTHORITIES[ins.oid].production:",
        "elif not INS_AUTHORITIES[ins.oid].label:",
        _unit("gate", "test_a_matricule_of_a_test_authority_never_reaches_a_real_index_unless_the_tenant_says_so"),
    ),
    _identity(
        "hl7-against-cda-not-compared",
        _GATE,
        "elif _fold(left) != _fold(right):",
        "elif False:",
        _unit("gate", "test_ff19_hl7_against_cda_holds_with_both_values"),
    ),
    _identity(
        "names-compared-in-part",
        _GATE,
        "elif _fold(left) != _fold(right):",
        "elif _fold(left) not in _fold(right):",
        _unit("gate", "test_a_part_of_a_name_is_another_name"),
    ),
    _identity(
        "mandatory-field-not-required",
        _GATE,
        "if not _fold(left) or not _fold(right):",
        "if False:",
        _unit("gate", "test_ff19_a_mandatory_field_that_hl7_or_cda_leaves_out_holds"),
    ),
    _identity(
        "birthplaces-not-compared",
        _GATE,
        "if left.birthplace and right.birthplace and left.birthplace != right.birthplace:",
        "if left.birthplace and right.birthplace and not left.birthplace:",
        _unit("gate", "test_ff19_hl7_against_cda_holds_with_both_values"),
    ),
    _identity(
        "local-ids-of-one-register-not-compared",
        _GATE,
        "if left.isdisjoint(right):",
        "if not left and not right:",
        _unit("gate", "test_ff19_local_ids_of_one_register_that_differ_hold"),
    ),
    _identity(
        "held-traits-not-compared",
        _GATE,
        'if name != "ins" and left and right and _fold(left) != _fold(right):',
        'if name == "ins" and left and right and _fold(left) != _fold(right):',
        _unit("gate", "test_ff19_same_ins_as_a_held_report_with_other_traits_holds"),
    ),
    _identity(
        "shared-identifier-of-two-people-accepted",
        _GATE,
        "and ours and theirs and not _same_ins(ours, theirs):",
        "and ours and theirs and ours is theirs:",
        _unit("gate", "test_ff19_what_shares_an_identifier_must_share_the_ins"),
    ),
)

_GATE_AGAINST_PACS = (
    _identity(
        "ipp-of-the-pacs-not-compared",
        _GATE,
        "if not _is_one_of(patient.patient_id, patient.issuer, report.patient.local_ids):",
        "if not patient.patient_id:",
        _unit("gate", "test_ff19_report_against_pacs_holds_with_both_values"),
    ),
    _identity(
        "ipp-of-another-register-accepted",
        _GATE,
        "and (local.issuer == issuer or not _OID.fullmatch(local.issuer) or not _OID.fullmatch(issuer))",
        "and bool(local.value)",
        _unit("gate", "test_ff19_report_against_pacs_holds_with_both_values"),
    ),
    _identity(
        "accession-not-compared",
        _GATE,
        "if study.accession_number not in accessions or not study.accession_number:",
        "if not study.accession_number:",
        _unit("gate", "test_ff19_report_against_pacs_holds_with_both_values"),
    ),
    _identity(
        "name-of-the-pacs-not-compared",
        _GATE,
        "if not _name_fits(patient.name, traits):",
        "if False:",
        _unit("gate", "test_ff19_report_against_pacs_holds_with_both_values"),
    ),
    _identity(
        "family-name-of-the-pacs-compared-in-part",
        _GATE,
        "family_fits = not _fold(family) or _fold(family) in families",
        "family_fits = any(_fold(family) in known for known in families)",
        _unit("gate", "test_a_pacs_name_that_only_resembles_holds", "test_a_pacs_family_name_in_part_holds"),
    ),
    _identity(
        "given-name-of-the-pacs-compared-in-part",
        _GATE,
        'given_fits = not _fold(given) or not givens.isdisjoint({_fold(given), _fold(f"{given} {middle}")})',
        "given_fits = any(known.startswith(_fold(given)) for known in givens)",
        _unit("gate", "test_a_pacs_name_that_only_resembles_holds"),
    ),
    _identity(
        "birth-date-of-the-pacs-not-compared",
        _GATE,
        """ and patient.birth_date != f"{traits.birth_date:%Y%m%d}":""",
        """ and len(patient.birth_date) != 8:""",
        _unit("gate", "test_ff19_report_against_pacs_holds_with_both_values"),
    ),
    _identity(
        "sex-of-the-pacs-not-compared",
        _GATE,
        'if {traits.sex, patient.sex} == {"M", "F"}:',
        "if False:",
        _unit("gate", "test_ff19_report_against_pacs_holds_with_both_values"),
    ),
    _identity(
        "pacs-disagreement-ignored",
        _PUBLICATION,
        "contradicted = next((verdict for _, verdict in judged if verdict.holds), None)",
        "contradicted = next((verdict for _, verdict in judged if not judged), None)",
        _integration("publication", "test_ff19_a_disagreement_with_the_pacs_holds_the_exam_and_nobody_else"),
    ),
    _identity(
        "pacs-disagreement-leaves-its-report-a-witness",
        _PUBLICATION,
        "self._ledger.contest(tx, job.tenant, held.report_id, study=job.lane, reason=reason)",
        'self._ledger.contest(tx, job.tenant, held.report_id, study=job.lane, reason="")',
        _integration("publication", "test_ff19_a_report_the_pacs_contradicts_is_no_witness_against_others"),
    ),
)

_REPORTS = (
    _identity(
        "held-report-of-the-study-ignored",
        _PUBLICATION,
        "    if doubtful:\n",
        "    if doubtful and not known.reports:\n",
        _integration(
            "publication", "test_ff19_a_held_report_of_the_study_holds_the_next_one_that_tells_it_otherwise"
        ),
    ),
    _identity(
        "held-report-stored-as-valid",
        _INTAKE,
        'status = "held" if verdict.holds else "valid"',
        'status = "valid"',
        _integration(
            "publication", "test_ff19_the_same_matricule_with_other_traits_is_held_whatever_the_message_says"
        ),
    ),
    _identity(
        "held-report-accepted-at-its-second-sending",
        _INTAKE,
        '        if known.status == "held" and verdict.holds:\n            return verdict\n',
        '        if known.status == "held" and verdict.holds:\n            return gate.Verdict()\n',
        _integration("publication", "test_ff19_a_held_report_by_another_message_is_refused_again"),
    ),
    _identity(
        "report-under-another-identity-not-judged-again",
        _INTAKE,
        '        if known.status == "valid" and not verdict.holds:\n',
        '        if known.status == "valid":\n            return gate.Verdict()\n        if known.status == "":\n',
        _integration(
            "publication", "test_ff19_the_same_report_under_another_identity_is_judged_again_and_holds_the_exam"
        ),
    ),
    _identity(
        "doubtful-report-takes-away-the-one-it-replaces",
        _INTAKE,
        "if report.replaces and not verdict.holds:",
        "if report.replaces:",
        _integration("publication", "test_ff19_a_held_report_does_not_take_away_the_one_it_says_it_replaces"),
    ),
    _identity(
        "every-report-of-a-study-counts-as-valid",
        _PUBLICATION,
        '    valid = [one for one in known.reports if one.status == "valid"]\n    if not valid:',
        "    valid = list(known.reports)\n    if not valid:",
        _integration("publication", "test_a_report_not_meant_for_the_index_is_held_until_one_that_replaces_it_is"),
    ),
    _identity(
        "held-neighbour-of-the-same-study-forgotten",
        _LEDGER,
        'if held.status in {"valid", "held"} and held.report_id != itself and not corrected:',
        'if held.status == "valid" and held.report_id != itself and not corrected:',
        _integration("publication", "test_ff19_a_report_held_before_the_ack_is_a_witness_for_its_study"),
    ),
    _access(
        "overtaken-report-counts",
        _INTAKE,
        'if status == "valid" and self._ledger.is_replaced(tx, self._tenant, content):',
        "if not status:",
        _integration("publication", "test_a_report_overtaken_by_its_successor_changes_nothing"),
    ),
    _access(
        "entry-without-report-left-alone",
        _PUBLICATION,
        "if known.published or known.attempted:",
        "if known.reports is None:",
        _integration(
            "publication", "test_an_indexed_exam_whose_last_report_moves_to_another_study_is_shown_to_a_person"
        ),
    ),
    _identity(
        "reports-of-two-people-make-one-manifest",
        _ASSEMBLE,
        "if any((r.patient.ins and r.patient.ins.matricule) != envelope_ins.matricule for r in reports):",
        "if not reports:",
        _unit("assemble", "test_ff19_reports_about_two_people_make_no_manifest"),
    ),
    _identity(
        "orders-of-another-study-taken-along",
        _ASSEMBLE,
        "return tuple(order for order in report.orders if order.accession_number == study.accession_number)",
        "return report.orders",
        _unit("assemble", "test_a_report_of_two_studies_gives_each_study_its_own_order"),
    ),
    _identity(
        "unqualified-ins-written-into-the-metadata",
        _METADATA,
        'if ins is None or ins.status != "VALI":',
        "if ins is None:",
        _unit("metadata", "test_an_identity_that_is_not_qualified_is_never_published"),
    ),
    _identity(
        "best-of-several-ins-statuses-counts",
        _ORU,
        'status = next((status for status in statuses if status != "VALI"), "VALI" if statuses else "")',
        'status = "VALI" if "VALI" in statuses else next(iter(statuses), "")',
        _unit("oru", "test_of_several_ins_statuses_the_worst_counts"),
    ),
    _identity(
        "two-messages-mix-in-one-frame",
        "gateway/hl7/mllp.py",
        "if self._buffer.find(_START, self._searched, size) >= 0:",
        "if self._buffer.find(_START, self._searched, size) == 0:",
        _unit("mllp_framer", "test_ff11_a_frame_that_starts_inside_another_never_mixes_two_messages"),
    ),
    _identity(
        "undecodable-bytes-replaced",
        "security/parse/hl7.py",
        "text = raw.decode(used)",
        'text = raw.decode(used, "replace")',
        _unit("hl7_parse", "test_ff10_a_name_is_read_right_whatever_msh_18_says"),
    ),
    _identity(
        "delimiter-in-a-name-not-escaped",
        _METADATA,
        "return text.translate(_HL7_ESCAPES)",
        "return text",
        _unit("metadata", "test_delimiters_in_a_name_cannot_move_it_to_another_component"),
    ),
)

_PACS = (
    _identity(
        "answer-about-another-study-accepted",
        _DOOR,
        'if answered and answered.strip("\\0 ") != asked:',
        "if not asked:",
        _integration(
            "pacs_faults",
            "test_ff12_a_pacs_that_ignores_the_study_key_is_unknown",
            "test_ff12_a_pacs_that_ignores_the_key_does_not_make_an_absent_study_present",
        ),
    ),
    _identity(
        "damaged-name-accepted-as-identity",
        _DOOR,
        'if not exact or "\\ufffd" in value or not value.isprintable():',
        "if not value.isprintable():",
        _unit("pacs_door", "test_ff10_a_harmed_name_is_no_identity"),
    ),
    _identity(
        "first-of-two-patients-of-one-study-taken",
        _ORTHANC,
        "if len(found) > 1:",
        "if not found[0]:",
        _integration("pacs_faults", "test_one_study_uid_under_two_patients_is_ambiguous"),
    ),
    _loss(
        "orthanc-server-error-taken-for-absence",
        _SOURCE,
        "            return none.answer()",
        '            return __import__("indexer.study").study.Absent(evidence="") if none.reason.startswith("http-5") else none.answer()',
        _integration("pacs_faults", "test_ff54_a_web_server_that_answers_anything_else_is_unknown"),
    ),
    _loss(
        "orthanc-not-asked-whether-it-lives",
        _ORTHANC,
        "        version = orthanc.version()",
        '        version = "1.0"',
        _integration("pacs_faults", "test_ff54_a_web_server_that_answers_anything_else_is_unknown"),
    ),
    _loss(
        "dimse-failure-status-taken-for-the-end",
        _DIMSE,
        "                raise _broken_off(code, level)",
        "                if code is None:\n"
        "                    raise _broken_off(code, level)\n"
        "                return found",
        _integration("pacs_faults", "test_ff54_five_ways_to_fail_are_unknown_and_never_absent"),
    ),
    _loss(
        "dimse-abort-taken-for-absence",
        _SOURCE,
        "            return none.answer()",
        '            return __import__("indexer.study").study.Absent(evidence="") if none.reason == "aborted" else none.answer()',
        _integration("pacs_faults", "test_ff54_five_ways_to_fail_are_unknown_and_never_absent"),
    ),
    _loss(
        "silence-of-a-pacs-taken-for-absence",
        _SOURCE,
        "            return Unknown(reason=fault.code, detail=fault.args[0])",
        '            return __import__("indexer.study").study.Absent(evidence="")',
        _integration("pacs_faults", "test_ff54_five_ways_to_fail_are_unknown_and_never_absent"),
    ),
    _loss(
        "control-study-not-required",
        _DIMSE,
        'if [row["StudyInstanceUID"].value for row in known] != [control]:',
        "if known is None:",
        _integration("pacs_faults", "test_ff54_five_ways_to_fail_are_unknown_and_never_absent"),
    ),
    _loss(
        "one-absent-pacs-outweighs-a-silent-one",
        _PUBLICATION,
        "    if unknown:",
        "    if len(unknown) > len(answers):",
        _integration("publication", "test_ff54_a_pacs_that_gives_no_answer_decides_nothing"),
    ),
)

_STORE = (
    _loss(
        "synchronous-normal",
        _SQLITE,
        '"synchronous": 2,',
        '"synchronous": 1,',
        _integration("sqlite_faults", "test_works_that_wait_together_share_one_fsync"),
    ),
    _loss(
        "power-cut-with-synchronous-normal",
        _SQLITE,
        '"synchronous": 2,',
        '"synchronous": 1,',
        _integration("sqlite_faults", "test_f02_a_power_cut_at_any_operation_loses_nothing_that_was_acknowledged"),
    ),
    _loss(
        "commit-skipped",
        _SQLITE,
        '            crash_point("store-before-commit")\n            connection.execute("COMMIT")',
        '            crash_point("store-before-commit")\n            connection.execute("ROLLBACK")',
        _store("test_what_was_written_is_there_after_opening_again"),
    ),
    _loss(
        "result-given-out-before-the-commit",
        _SQLITE,
        """\
            crash_point("store-before-commit")
            connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - supervision edge: nobody may wait for a writer that died
            fault = _engine_fault(error)
            if isinstance(fault, Broken):
                self.fault = fault
            _roll_back(connection)
            _refuse(group, fault)
            return
        crash_point("store-after-commit")
        for job, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, _Done):
                job.future.set_result(outcome.result)
            else:
                job.future.set_exception(outcome.error)
""",
        """\
            for job, outcome in zip(group, outcomes, strict=True):
                if isinstance(outcome, _Done):
                    job.future.set_result(outcome.result)
                else:
                    job.future.set_exception(outcome.error)
            crash_point("store-before-commit")
            connection.execute("COMMIT")
        except BaseException as error:
            fault = _engine_fault(error)
            if isinstance(fault, Broken):
                self.fault = fault
            _roll_back(connection)
            return
        crash_point("store-after-commit")
""",
        _integration("sqlite_faults", "test_f03_a_failed_fsync_refuses_its_works_and_every_later_write"),
    ),
    _loss(
        "failed-fsync-forgotten",
        _SQLITE,
        "                self.fault = fault\n            _roll_back(connection)",
        "                pass\n            _roll_back(connection)",
        _integration("sqlite_faults", "test_f03_a_failed_fsync_refuses_its_works_and_every_later_write"),
    ),
    _loss(
        "failed-work-not-undone",
        _SQLITE,
        'self._connection.execute("ROLLBACK TO work")',
        "pass",
        _store("test_the_failure_of_one_work_leaves_its_neighbours_whole", "test_a_work_that_raises_leaves_no_trace"),
    ),
    _loss(
        "second-writer-let-in",
        _PLACE,
        "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        _store("test_f26_a_second_writer_is_refused_until_the_first_has_closed"),
    ),
    _loss(
        "network-file-system-accepted",
        _PLACE,
        "if kind in NETWORK:",
        "if not kind:",
        _integration("sqlite_opening", "test_ff26_a_database_on_a_network_file_system_is_refused"),
    ),
    _loss(
        "damaged-database-opened",
        _SQLITE,
        'if findings != ["ok"]:',
        "if not findings:",
        _integration("sqlite_faults", "test_f12_damage_that_no_statement_would_notice_is_met_when_opening"),
    ),
    _loss(
        "new-key-not-flushed",
        _SECRETS,
        "        os.fsync(fd)",
        "        pass",
        _unit("secrets", "test_a_private_file_and_its_name_are_on_disk_before_it_counts"),
    ),
    _loss(
        "name-of-a-new-key-not-flushed",
        _SECRETS,
        "        os.fsync(folder)",
        "        pass",
        _unit("secrets", "test_a_private_file_and_its_name_are_on_disk_before_it_counts"),
    ),
)

_INTAKE_OF_MESSAGES = (
    _loss(
        "acknowledged-before-the-commit",
        _INTAKE,
        "            answered = await self._store.write(lambda tx: self._take(tx, received, stated))",
        """\
            ack = build_ack(message, AckCode.ACCEPT, control_id="0", at=received.at, problems=())
            answered = _Answered(code="AA", reason="", ack=ack)
            __import__("asyncio").ensure_future(self._store.write(lambda tx: self._take(tx, received, stated)))""",
        _integration(
            "publication",
            "test_i01_what_is_acknowledged_can_be_read_back_by_another_connection",
            "test_i02_message_report_and_job_commit_together_or_not_at_all",
        ),
    ),
    _loss(
        "message-stored-apart-from-its-job",
        _INTAKE,
        "            answered = await self._store.write(lambda tx: self._take(tx, received, stated))",
        """\
            await self._store.write(lambda tx: self._answer(tx, received, AckCode.ACCEPT, ()))
            answered = await self._store.write(lambda tx: self._take(tx, received, stated))""",
        _integration("publication", "test_i02_message_report_and_job_commit_together_or_not_at_all"),
    ),
    _loss(
        "same-message-processed-twice",
        _INTAKE,
        'return _Answered(code=row["ack_code"], reason=row["reason"], ack=row["ack"]) if row else None',
        "return None",
        _integration("publication", "test_the_same_message_again_gets_the_first_answer_and_changes_nothing"),
    ),
    _identity(
        "control-id-of-another-message-accepted",
        _INTAKE,
        "if not is_repeat and self._control_id_in_use(tx, received):",
        "if not received.control_id:",
        _integration("publication", "test_a_control_id_used_for_another_message_is_refused"),
    ),
    _identity(
        "document-id-with-other-content-accepted",
        _INTAKE,
        "        if known and not is_repeat:\n",
        "        if known and not received.control_id:\n",
        _integration("publication", "test_a_document_id_with_other_content_is_refused_as_a_wrong_version"),
    ),
    _access(
        "withdrawal-taken-for-a-publication",
        _INTAKE,
        'if stated.order_control == "CA" or stated.result_status == "D":',
        "if not stated.order_control:",
        _integration("publication", "test_a_withdrawal_is_never_taken_for_a_publication"),
    ),
    _access(
        "destdmp-ignored",
        _PUBLICATION,
        "if not all(one.stated.report.visibility.for_index for one in valid):",
        "if not all(valid):",
        _integration("publication", "test_a_report_not_meant_for_the_index_is_held_until_one_that_replaces_it_is"),
    ),
    _access(
        "unreadable-visibility-flag-ignored",
        _ORU,
        'self._add(obx, 5, "unknown-value", f"Flag {code}: expected Y or N")',
        "pass",
        _unit("oru", "test_each_fault_of_the_envelope_is_named_with_its_place"),
    ),
    _access(
        "loosest-visibility-counts",
        _ASSEMBLE,
        "invisible_to_patient=any(v.invisible_to_patient for v in stated),",
        "invisible_to_patient=all(v.invisible_to_patient for v in stated),",
        _unit("assemble", "test_the_strictest_visibility_counts_whoever_states_it"),
    ),
    _access(
        "one-report-opens-what-another-masks",
        _ASSEMBLE,
        "masked_to_professionals=any(v.masked_to_professionals for v in stated),",
        "masked_to_professionals=all(v.masked_to_professionals for v in stated),",
        _unit("assemble", "test_the_strictest_visibility_counts_whoever_states_it"),
    ),
    _access(
        "least-confidentiality-counts",
        _ASSEMBLE,
        "return max(codes, key=_CONFIDENTIALITY.index)",
        "return min(codes, key=_CONFIDENTIALITY.index)",
        _unit("assemble", "test_the_strictest_confidentiality_counts"),
    ),
    _access(
        "visibility-left-out-of-the-metadata",
        _METADATA,
        "    if visibility.invisible_to_patient:",
        "    if False:",
        _unit("metadata", "test_visibility_flags_become_confidentiality_codes_beside_the_general_one"),
    ),
)

_OUTBOX = (
    _loss(
        "stale-lease-believed",
        _JOBS,
        'sql = "SELECT * FROM outbox_job WHERE job_id = :job_id AND lease_epoch = :epoch"',
        'sql = "SELECT * FROM outbox_job WHERE job_id = :job_id AND lease_epoch >= :epoch"',
        _integration("outbox_faults", "test_f08_the_same_answer_twice_counts_once"),
    ),
    _loss(
        "unknown-outcome-sent-again-unasked",
        _STATES,
        "(S.SENT, E.AMBIGUOUS): S.UNKNOWN,",
        "(S.SENT, E.AMBIGUOUS): S.RETRY_WAIT,",
        _integration("outbox", "test_i09_an_unknown_job_is_not_sent_before_a_query_says_absent"),
    ),
    _loss(
        "death-while-sending-taken-for-not-sent",
        _STATES,
        "(S.SENT, E.CRASHED): S.UNKNOWN,",
        "(S.SENT, E.CRASHED): S.READY,",
        _integration("outbox_faults", "test_f20_a_job_that_kills_its_worker_is_dead_after_three_and_the_others_flow"),
    ),
    _loss(
        "defect-while-sending-taken-for-not-sent",
        _ENGINE,
        "    State.SENT: Event.AMBIGUOUS,\n",
        "    State.SENT: Event.TRANSIENT,\n",
        _integration("outbox_faults", "test_a_defect_while_sending_is_an_unknown_outcome"),
    ),
    _loss(
        "effects-outside-the-transaction",
        _ENGINE,
        "return await self._persist(lambda tx: jobs.apply(tx, job, answer, now=now, not_before=due))",
        """\
bare = Answer(event=answer.event, reason=answer.reason, detail=answer.detail)
        state = await self._persist(lambda tx: jobs.apply(tx, job, bare, now=now, not_before=due))
        if state is not None and answer.effects is not None:
            await self._persist(answer.effects)
        return state""",
        _integration("outbox", "test_i07_published_and_what_it_implies_commit_together_or_not_at_all"),
    ),
    _loss(
        "lane-order-dropped",
        _JOBS,
        "AND ahead.lane = job.lane AND ahead.job_id < job.job_id",
        "AND ahead.lane = job.lane AND ahead.job_id < 0",
        _integration("outbox", "test_i04_versions_of_one_study_reach_the_index_in_order_one_at_a_time"),
    ),
    _loss(
        "sent-job-superseded",
        _STATES,
        "UNSENT = frozenset({S.RECEIVING, S.SETTLING, S.READY, S.RETRY_WAIT, S.BLOCKED})",
        "TABLE[S.UNKNOWN, E.REPLACED] = S.SUPERSEDED\n"
        "UNSENT = frozenset({S.RECEIVING, S.SETTLING, S.READY, S.RETRY_WAIT, S.BLOCKED, S.UNKNOWN})",
        _integration("outbox", "test_a_job_whose_bytes_may_have_left_is_never_superseded"),
    ),
    _loss(
        "dead-job-in-doubt-superseded",
        _JOBS,
        'or (row["state"] == State.DEAD and not row["in_doubt"])',
        'or row["state"] == State.DEAD',
        _integration("outbox_faults", "test_i09_a_revived_poison_job_is_asked_about_before_it_is_sent_again"),
    ),
    _loss(
        "revived-job-sent-again-unasked",
        _JOBS,
        'event = Event.REOPENED if row["in_doubt"] else Event.LIFTED',
        "event = Event.LIFTED",
        _integration("outbox_faults", "test_i09_a_revived_poison_job_is_asked_about_before_it_is_sent_again"),
    ),
    _loss(
        "lease-in-hand-swept",
        _JOBS,
        '        if row["job_id"] in held:',
        '        if row["job_id"] < 0:',
        _integration("outbox_faults", "test_f11_a_clock_that_jumps_expires_no_lease_and_freezes_no_work"),
    ),
    _loss(
        "open-breaker-burns-attempts",
        _ENGINE,
        "permits = {endpoint: breaker.permits(seconds) for endpoint, breaker in self.breakers.items()}",
        "permits = dict.fromkeys(self.breakers, max(limit, int(seconds > 0)))",
        _integration("outbox_faults", "test_f05_six_hours_without_an_index_burn_few_attempts_and_lose_nothing"),
    ),
    _loss(
        "outcome-forgotten-on-a-full-disk",
        _ENGINE,
        "                await asyncio.sleep(self._settings.idle_s)",
        "                raise",
        _integration("outbox_faults", "test_f04_a_full_disk_stops_the_work_and_nothing_is_forgotten"),
    ),
    _loss(
        "entry-not-shown-yet-taken-for-absent",
        _PUBLICATION,
        "return now < sent_at + self._policy.visibility",
        "return now < sent_at",
        _integration("publication", "test_f09_an_entry_not_shown_yet_is_not_sent_again"),
    ),
)

_VERSIONS = (
    _loss(
        "replacement-of-the-older-version-dropped",
        _METADATA,
        "if edition.replaces is not None:",
        "if False:",
        _unit("metadata", "test_a_later_version_replaces_the_approved_entry"),
    ),
    _loss(
        "unique-id-made-at-random",
        "indexer/manifest.py",
        'return Uid(f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps(parts)).int}")',
        'return Uid(f"2.25.{uuid.uuid4().int}")',
        _unit(
            "manifest",
            "test_ff17_sixteen_threads_build_sixteen_manifests",
            "test_ff17_derived_uids_are_valid_and_unique",
        ),
    ),
    _loss(
        "bytes-made-anew-at-each-attempt",
        _PUBLICATION,
        "answer = await self._index.provide_and_register(stored[1])",
        'again = replace(stored[1], metadata=stored[1].metadata + b"\\n" * job.attempts)\n'
        "        answer = await self._index.provide_and_register(again)",
        _integration("publication", "test_ff21_a_retry_sends_the_bytes_of_the_first_attempt"),
    ),
    _loss(
        "same-content-published-again",
        _PUBLICATION,
        "if digest == content:",
        "if not digest:",
        _integration("publication", "test_i06_the_same_content_by_another_report_makes_no_new_version"),
    ),
    _loss(
        "success-with-errors-inside-believed",
        _ANSWERS,
        "if status != xds.RESPONSE_SUCCESS or errors or not 200 <= reply.http_status < 300:",
        "if status != xds.RESPONSE_SUCCESS:",
        _unit("answers", "test_f10_each_hostile_answer_gets_its_class_and_none_is_accepted"),
    ),
    _loss(
        "answer-to-another-request-believed",
        _ANSWERS,
        "if envelope.relates_to != reply.message_id:",
        "if not envelope.message_id:",
        _unit("answers", "test_f10_each_hostile_answer_gets_its_class_and_none_is_accepted"),
    ),
    _loss(
        "failed-query-taken-for-absence",
        _ANSWERS,
        '        return EntryUnknown(\n            reason="+".join(errors) or "query-failed",',
        '        return EntryAbsent() or EntryUnknown(\n            reason="+".join(errors) or "query-failed",',
        _unit(
            "answers",
            "test_f10_no_hostile_answer_says_anything_about_an_entry",
            "test_anything_else_is_no_conclusion",
        ),
    ),
    _loss(
        "lost-connection-taken-for-not-sent",
        _CLIENT,
        "    if sent:\n",
        "    if sent and late:\n",
        _integration(
            "xds_client", "test_f07_a_reset_after_the_request_was_read_is_ambiguous_and_nothing_is_sent_again"
        ),
    ),
)

_REGISTRY = (
    _identity(
        "patient-key-left-out-of-a-query",
        _ROWS,
        '" WHERE tenant = :tenant AND patient_key = :patient_key AND kind = :kind"',
        '" WHERE tenant = :tenant AND kind = :kind"',
        _integration("registry", "test_two_patients_are_never_mixed"),
    ),
    _identity(
        "patient-key-left-out-of-a-statement",
        _ROWS,
        '" WHERE tenant = :tenant AND patient_key = :patient_key AND entry_uuid = :id AND status = :approved"',
        '" WHERE tenant = :tenant AND entry_uuid = :id AND status = :approved"',
        _unit(
            "registry_rows",
            "test_a_statement_touches_one_table_and_carries_the_patient_key_unless_it_asks_the_locator",
        ),
    ),
    _identity(
        "document-of-another-patient-replaced",
        _VALIDATE,
        "    if target.patient_key != patient_key:",
        "    if not target.patient_key:",
        _unit("registry_validate", "test_ff22_a_replacement_needs_an_approved_document_of_the_same_patient_and_type"),
    ),
    _identity(
        "several-patients-in-one-submission",
        _VALIDATE,
        "if len(patients) > 1:",
        "if not patients:",
        _unit("registry_validate", "test_a_submission_that_breaks_one_rule_is_told_which"),
    ),
    _loss(
        "hash-not-compared",
        _VALIDATE,
        "if stated_hash and stated_hash.lower() != sha1(content):",
        "if stated_hash and not content:",
        _unit("registry_validate", "test_documents_that_do_not_fit_are_named"),
    ),
    _loss(
        "size-not-compared",
        _VALIDATE,
        "if _SIZE.fullmatch(stated_size) and int(stated_size) != len(content):",
        "if _SIZE.fullmatch(stated_size) and not content:",
        _unit("registry_validate", "test_documents_that_do_not_fit_are_named"),
    ),
    _loss(
        "deprecated-document-replaced-again",
        _VALIDATE,
        "if association.type in _ABOUT_HELD and target.status != v.STATUS_APPROVED:",
        "if association.type in _ABOUT_HELD and not target.status:",
        _unit("registry_validate", "test_ff22_a_replacement_needs_an_approved_document_of_the_same_patient_and_type"),
    ),
    _loss(
        "replaced-document-stays-approved",
        _NODE,
        "if association.type in {v.RPLC, v.XFRM_RPLC}:",
        "if association.type == v.XFRM_RPLC:",
        _integration("registry", "test_ff22_a_replacement_deprecates_its_target_in_the_same_moment"),
    ),
    _loss(
        "unique-id-with-other-bytes-accepted",
        _VALIDATE,
        "    if entry.unique_id not in held.taken:\n        return",
        "    if entry.unique_id:\n        return",
        _unit("registry_validate", "test_ff21_a_unique_id_in_use_is_refused_by_what_differs"),
    ),
    _loss(
        "shortened-list-for-an-answer",
        "indexer/registry/lookup.py",
        "if sum(1 for _ in found) > self.most:",
        "if not self.most:",
        _integration("registry", "test_more_than_an_answer_may_hold_is_an_error_never_a_shortened_list"),
    ),
)

_AT_REST = (
    _access(
        "sealed-value-opens-anywhere",
        _SEAL,
        "return header + _prefixed(tenant) + context.encode()",
        "return header",
        _unit("seal", "test_a_value_moved_to_another_tenant_or_row_is_refused"),
    ),
    _access(
        "line-between-tenant-and-context-lost",
        _SEAL,
        "return header + _prefixed(tenant) + context.encode()",
        "return header + tenant.encode() + context.encode()",
        _unit("seal", "test_the_line_between_tenant_and_context_cannot_be_moved"),
    ),
    _access(
        "blind-index-without-key",
        _SEAL,
        "return hmac.digest(self._blinding[tenant], _prefixed(field) + value.encode(), hashlib.sha256)",
        "return hashlib.sha256(_prefixed(field) + value.encode()).digest()",
        _unit("seal", "test_a_blind_index_tells_tenants_fields_and_values_apart"),
    ),
    _access(
        "conflict-noted-in-clear",
        _LEDGER,
        'summary = "; ".join(conflict.summary() for conflict in conflicts)',
        'summary = "; ".join(f"{conflict.left} {conflict.right}" for conflict in conflicts)',
        _integration("publication", "test_t65_the_gateways_database_holds_no_patient_in_clear"),
    ),
    _access(
        "message-kept-in-clear",
        _INTAKE,
        'content=self._vault.seal(self._tenant, f"hl7_message.content/{key}", received.raw),',
        "content=received.raw,",
        _integration("publication", "test_t65_the_gateways_database_holds_no_patient_in_clear"),
    ),
    _access(
        "secret-file-open-to-others-accepted",
        _SECRETS,
        "if status.st_mode & 0o077 or status.st_uid not in {os.geteuid(), 0}:",
        "if status.st_uid not in {os.geteuid(), 0}:",
        _unit("secrets", "test_t60_a_file_that_others_may_access_is_refused"),
    ),
    _access(
        "database-open-to-others-accepted",
        _PLACE,
        "if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) & 0o077:",
        "if not stat.S_ISREG(status.st_mode):",
        _integration("sqlite_opening", "test_a_database_that_others_may_read_is_refused"),
    ),
)

_DOORS = (
    _access(
        "doctype-accepted",
        _XML,
        "if root.getroottree().docinfo.internalDTD is not None:",
        "if root is None:",
        _unit("xml_parse", "test_t20_a_doctype_hidden_in_another_encoding_is_refused"),
    ),
    _access(
        "entities-resolved",
        _XML,
        "resolve_entities=False, no_network=True,",
        "resolve_entities=True, no_network=True,",
        _unit("xml_parse", "test_t20_nobody_opens_what_an_external_entity_names"),
    ),
    _access(
        "xinclude-accepted",
        _XML,
        "if include is not None:",
        "if root is None and include is not None:",
        _unit("xml_parse", "test_t20_xinclude_is_refused_not_followed"),
    ),
    _access(
        "content-id-used-twice",
        "security/parse/mime.py",
        "if part.content_id in seen:",
        "if part.content_id is None:",
        _unit("mime", "test_t22_a_content_id_twice_is_refused"),
    ),
    _access(
        "attachment-included-twice",
        _SOAP,
        "if cid in used:",
        "if not cid:",
        _unit("soap", "test_t22_every_attachment_is_included_exactly_once"),
    ),
    _access(
        "answer-sent-elsewhere",
        _SOAP,
        'if text(header.find(_WSA + "Address")) != WSA_ANONYMOUS:',
        'if not text(header.find(_WSA + "Address")):',
        _unit("soap", "test_t26_an_answer_is_never_sent_elsewhere"),
    ),
    _access(
        "redirect-followed",
        _CLIENT,
        "allow_redirects=False,",
        "allow_redirects=True,",
        _integration("xds_client", "test_t26_a_redirect_is_not_followed"),
    ),
    _access(
        "listener-on-an-open-address",
        "gateway/settings/fields.py",
        "if not ipaddress.ip_address(host).is_loopback:",
        "if ipaddress.ip_address(host).is_multicast:",
        _unit("settings", "test_t63_a_listener_on_an_open_address_is_refused"),
    ),
    _access(
        "index-node-on-an-open-address",
        "indexer/registry/app.py",
        "    if not _is_loopback(host):",
        "    if not host:",
        _integration("registry", "test_the_node_listens_on_loopback_only"),
    ),
    _access(
        "index-reached-in-clear",
        _CLIENT,
        'if parts.scheme == "http" and _is_loopback(parts.hostname or ""):',
        'if parts.scheme == "http":',
        _integration("xds_client", "test_an_address_without_mutual_tls_is_refused_at_configuration"),
    ),
    _access(
        "client-certificate-not-required",
        _TLS,
        "context.verify_mode = ssl.CERT_REQUIRED",
        "context.verify_mode = ssl.CERT_OPTIONAL",
        _integration("tls", "test_a_client_without_a_certificate_is_refused"),
    ),
    _access(
        "name-in-the-subject-accepted",
        _TLS,
        "context.hostname_checks_common_name = False",
        "context.check_hostname = False",
        _integration("tls", "test_a_server_of_another_name_is_refused"),
    ),
)

_TRACES = (
    _access(
        "telling-log-fields-shown",
        _TELEMETRY,
        'return folded in SENSITIVE or folded.startswith("patient")',
        "return False",
        _unit("telemetry", "test_ff39_a_patient_value_under_any_telling_key_never_reaches_the_log"),
    ),
    _access(
        "exception-text-logged",
        _TELEMETRY,
        "        if isinstance(cause, Fault):\n",
        "        if cause is not None:\n",
        _unit("telemetry", "test_ff39_an_exception_shows_place_and_type_but_not_what_it_quotes"),
    ),
    _access(
        "finished-text-of-a-library-logged",
        _TELEMETRY,
        '"said": str(record.msg) if record.args else ""}',
        '"said": record.getMessage()}',
        _unit("telemetry", "test_ff39_a_librarys_finished_text_is_withheld_and_its_template_shown"),
    ),
    _access(
        "values-not-masked",
        "security/identity.py",
        'return f"{first}…({len(value)})"',
        "return value",
        _unit("identity", "test_t34_showing_an_identity_shows_no_patient"),
    ),
    _access(
        "conflicting-values-answered-to-the-sender",
        _INTAKE,
        'text=f"{conflict.code}: {conflict.summary()}"',
        'text=f"{conflict.code}: {conflict.left} {conflict.right}"',
        _integration("publication", "test_ff19_a_disagreement_before_the_ack_is_stored_held_and_answered_ae"),
    ),
    _access(
        "change-of-a-job-not-audited",
        _JOBS,
        "    audit.append(\n        tx,",
        "    (lambda *_: None)(\n        tx,",
        _integration("outbox", "test_i16_every_change_of_state_has_its_audit_row_with_the_right_leaf"),
    ),
    _access(
        "received-message-not-audited",
        _INTAKE,
        "        audit.append(\n            tx,",
        "        (lambda *_: None)(\n            tx,",
        _integration("publication", "test_i01_what_is_acknowledged_can_be_read_back_by_another_connection"),
    ),
    _access(
        "registration-not-audited",
        _NODE,
        "        audit.append(\n            tx,",
        "        (lambda *_: None)(\n            tx,",
        _integration("registry", "test_each_change_has_its_audit_row_in_the_same_transaction"),
    ),
    _access(
        "audit-leaf-over-nothing",
        _AUDIT,
        r'return hashlib.sha256(b"\x00" + canonical(record)).digest()',
        r'return hashlib.sha256(b"\x00").digest()',
        _unit("audit", "test_an_edited_row_is_found", "test_the_leaf_is_the_rfc_6962_hash_of_the_canonical_form"),
    ),
    _access(
        "audit-leaf-without-the-time",
        _AUDIT,
        'return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()',
        'return json.dumps(fields | {"at": 0}, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()',
        _unit("audit", "test_an_edited_row_is_found"),
    ),
)

_OVERTAKEN = (
    _identity(
        "overtaken-job-sent-all-the-same",
        _JOBS,
        '    if not _is_replaceable(row) or row["state"] == State.RECEIVING:\n        return False\n',
        "    return False\n",
        _integration("publication", "test_i10_a_lost_send_is_not_repeated_over_a_later_opposition_or_conflict"),
    ),
    _identity(
        "replaced-report-of-another-person-not-compared",
        _LEDGER,
        "        if predecessor:\n",
        "        if predecessor and not report.replaces:\n",
        _integration("publication", "test_ff19_nobody_replaces_the_report_of_another_person"),
    ),
    _identity(
        "anybody-may-announce-a-replacement",
        _LEDGER,
        ' AND replaces = :report_id AND ins_blind = :blind"',
        ' AND replaces = :report_id AND length(:blind) > 0"',
        _integration(
            "publication",
            "test_ff19_a_stranger_that_claims_to_replace_a_report_does_not_swallow_it_when_it_arrives",
        ),
    ),
    _identity(
        "other-studies-of-a-contradicted-report-go-out",
        _PUBLICATION,
        "                if other != job.lane:\n",
        "                if other == job.lane:\n",
        _integration(
            "publication", "test_ff19_what_the_pacs_says_against_one_study_holds_the_other_studies_of_the_report"
        ),
    ),
    _loss(
        "attempted-version-forgotten",
        _PUBLICATION,
        "            attempted=[(version, sent[version.job_id]) for version in prepared if version.job_id in sent],",
        "            attempted=[],",
        _integration("publication", "test_i06_a_version_that_may_have_landed_is_replaced_never_doubled"),
    ),
    _loss(
        "entry-missing-once-taken-for-gone",
        _PUBLICATION,
        "            if job.tries <= _MISSING_TRIES_MAX:\n",
        "            return _Predecessor(entry_uuid=None)\n            if job.tries <= _MISSING_TRIES_MAX:\n",
        _integration("publication", "test_i06_an_entry_missing_from_one_answer_makes_no_second_original"),
    ),
    _loss(
        "hanging-sources-take-every-slot",
        _ENGINE,
        "max(1, self._settings.slots // (2 * max(1, len(self._kinds))))",
        "self._settings.slots",
        _integration("outbox_faults", "test_i15_a_kind_whose_sources_hang_leaves_room_for_the_sends"),
    ),
)

DEFECTS: tuple[Defect, ...] = (
    *_GATE_BEFORE_ACK,
    *_GATE_AGAINST_PACS,
    *_REPORTS,
    *_PACS,
    *_STORE,
    *_INTAKE_OF_MESSAGES,
    *_OUTBOX,
    *_VERSIONS,
    *_REGISTRY,
    *_AT_REST,
    *_DOORS,
    *_TRACES,
    *_OVERTAKEN,
)
