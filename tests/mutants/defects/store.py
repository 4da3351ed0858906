"""The two durable stores."""

from __future__ import annotations

from tests.mutants.defects.defect import access, contract, integration, loss

_SQLITE = "security/store/sqlite.py"
_PLACE = "security/store/place.py"
_POSTGRES = "security/store/postgres.py"

DEFECTS = (
    loss(
        "synchronous-normal",
        _SQLITE,
        '"synchronous": 2,',
        '"synchronous": 1,',
        integration("sqlite_faults", "test_works_that_wait_together_share_one_fsync"),
    ),
    loss(
        "power-cut-with-synchronous-normal",
        _SQLITE,
        '"synchronous": 2,',
        '"synchronous": 1,',
        integration("sqlite_faults", "test_f02_a_power_cut_at_any_operation_loses_nothing_that_was_acknowledged"),
    ),
    loss(
        "commit-skipped",
        _SQLITE,
        '            crash_point("store-before-commit")\n            connection.execute("COMMIT")',
        '            crash_point("store-before-commit")\n            connection.execute("ROLLBACK")',
        contract("store", "test_what_was_written_is_there_after_opening_again"),
    ),
    loss(
        "result-given-out-before-the-commit",
        _SQLITE,
        (
            '            crash_point("store-before-commit")\n'
            '            connection.execute("COMMIT")\n'
            "        except BaseException as error:  # noqa: BLE001 - supervision edge: nobody may wait for a "
            "writer that died\n"
            "            fault = _engine_fault(error)\n"
            "            if isinstance(fault, Broken):\n"
            "                self.fault = fault\n"
            "            _roll_back(connection)\n"
            "            _refuse(group, fault)\n"
            "            return\n"
            '        crash_point("store-after-commit")\n'
            "        for job, outcome in zip(group, outcomes, strict=True):\n"
            "            if isinstance(outcome, _Done):\n"
            "                job.future.set_result(outcome.result)\n"
            "            else:\n"
            "                job.future.set_exception(outcome.error)\n"
        ),
        (
            "            for job, outcome in zip(group, outcomes, strict=True):\n"
            "                if isinstance(outcome, _Done):\n"
            "                    job.future.set_result(outcome.result)\n"
            "                else:\n"
            "                    job.future.set_exception(outcome.error)\n"
            '            crash_point("store-before-commit")\n'
            '            connection.execute("COMMIT")\n'
            "        except BaseException as error:\n"
            "            fault = _engine_fault(error)\n"
            "            if isinstance(fault, Broken):\n"
            "                self.fault = fault\n"
            "            _roll_back(connection)\n"
            "            return\n"
            '        crash_point("store-after-commit")\n'
        ),
        integration("sqlite_faults", "test_f03_a_failed_fsync_refuses_its_works_and_every_later_write"),
    ),
    loss(
        "failed-fsync-forgotten",
        _SQLITE,
        "                self.fault = fault\n            _roll_back(connection)",
        "                pass\n            _roll_back(connection)",
        integration("sqlite_faults", "test_f03_a_failed_fsync_refuses_its_works_and_every_later_write"),
    ),
    loss(
        "failed-work-not-undone",
        _SQLITE,
        'self._connection.execute("ROLLBACK TO work")',
        "pass",
        contract(
            "store",
            "test_the_failure_of_one_work_leaves_its_neighbours_whole",
            "test_a_work_that_raises_leaves_no_trace",
        ),
    ),
    loss(
        "damaged-database-opened",
        _SQLITE,
        'if findings != ["ok"]:',
        "if not findings:",
        integration("sqlite_faults", "test_f12_damage_that_no_statement_would_notice_is_met_when_opening"),
    ),
    loss(
        "second-writer-let-in",
        _PLACE,
        "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        contract("store", "test_f26_a_second_writer_is_refused_until_the_first_has_closed"),
    ),
    loss(
        "network-file-system-accepted",
        _PLACE,
        "if kind in NETWORK:",
        "if not kind:",
        integration("sqlite_opening", "test_ff26_a_database_on_a_network_file_system_is_refused"),
    ),
    access(
        "database-open-to-others-accepted",
        _PLACE,
        "if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) & 0o077:",
        "if not stat.S_ISREG(status.st_mode):",
        integration("sqlite_opening", "test_a_database_that_others_may_read_is_refused"),
    ),
    loss(
        "second-writer-let-in-by-the-server",
        _POSTGRES,
        'if got is not None and got["got"]:',
        "if got is not None:",
        contract("store", "test_f26_a_second_writer_is_refused_until_the_first_has_closed"),
    ),
    loss(
        "replaced-writer-commits",
        _POSTGRES,
        "if has_changes and not is_counted:",
        "if has_changes and is_counted is None:",
        integration(
            "postgres_faults", "test_f26_even_with_its_session_alive_a_writer_that_was_replaced_commits_nothing"
        ),
    ),
    loss(
        "commit-that-never-arrived-taken-for-done",
        _POSTGRES,
        "if not self._outcome():",
        "if self._outcome() is None:",
        integration("postgres_faults", "test_a_commit_that_never_arrived_is_found_undone_and_refused"),
    ),
    loss(
        "writer-that-came-and-went-unnoticed",
        _POSTGRES,
        'if row is None or row["incarnation"] != self.incarnation:',
        "if row is None:",
        integration(
            "postgres_faults",
            "test_f16_a_commit_without_answer_is_not_taken_for_done_because_another_writer_committed",
        ),
    ),
    loss(
        "server-without-acknowledged-commits-accepted",
        _POSTGRES,
        'if row["commits"] < self.commits:',
        'if row["commits"] < 0:',
        integration("postgres_faults", "test_f16_a_server_that_lacks_acknowledged_commits_is_refused"),
    ),
    loss(
        "swallowed-fault-of-the-server-taken-for-done",
        _POSTGRES,
        "if tx.engine_fault is not None:  # also",
        "if False:  # also",
        integration("postgres_faults", "test_a_row_that_someone_else_holds_makes_the_store_busy_and_not_broken"),
    ),
    loss(
        "commit-not-flushed-by-the-server",
        _POSTGRES,
        "\"SELECT set_config('synchronous_commit', 'on', false)\"",
        "\"SELECT 'on'\"",
        integration("postgres_opening", "test_f02_a_commit_waits_for_the_disk_whatever_the_servers_default"),
    ),
    loss(
        "server-that-may-lose-commits-accepted",
        _POSTGRES,
        "        if facts[name] not in values:\n",
        "        if not facts[name]:\n",
        integration("postgres_opening", "test_f02_a_server_that_could_lose_what_it_acknowledged_is_refused"),
    ),
    loss(
        "commit-on-one-machine-alone-acknowledged",
        _POSTGRES,
        "    if warnings:\n",
        "    if warnings is None:\n",
        integration("postgres_faults", "test_a_commit_whose_wait_for_the_standby_was_cancelled_is_not_acknowledged"),
    ),
)
