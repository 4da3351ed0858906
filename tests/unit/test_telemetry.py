"""The log keeps its form and its silence; the page of metrics says what the database says."""

from __future__ import annotations

import io
import json
import logging
import math
import sys
import threading
import warnings
from datetime import date, datetime, timedelta, timezone

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from gateway.settings import LogSettings
from gateway.telemetry import SENSITIVE, Metrics, Snapshot, configure_logging
from security.errors import BadInput
from security.identity import Ins, Traits
from security.outbox.port import JobClass
from security.outbox.states import State


@pytest.fixture
def log_lines():
    """Configure the log on a buffer; returns a reader of the lines written since. Puts everything back."""
    root, hooks = (
        logging.getLogger(),
        (sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning),
    )
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("gateway", "indexer", "sampler", "security")}

    def start(**settings):
        out = io.StringIO()
        configure_logging(LogSettings(**settings), stream=out)
        return lambda: out.getvalue().splitlines()

    yield start
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks


def test_an_event_is_one_json_object_with_stamp_level_and_event_first(log_lines):
    lines = log_lines(format="json")

    structlog.get_logger().info("door-open", door="hl7:fantome", port=2575)

    (line,) = lines()
    record = json.loads(line)
    assert list(record)[:3] == ["ts", "level", "event"]
    assert datetime.fromisoformat(record["ts"]).utcoffset() == timedelta(0)
    assert record | {"ts": ""} == {
        "ts": "",
        "level": "info",
        "event": "door-open",
        "door": "hl7:fantome",
        "port": 2575,
    }


def test_a_terminal_gets_text_and_a_file_gets_json(log_lines):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    log_lines()
    for stream, start in ((Terminal(), "20"), (io.StringIO(), '{"ts": ')):
        configure_logging(LogSettings(), stream=stream)
        structlog.get_logger().warning("stop-grace-passed", task="worker", note="two words")
        assert stream.getvalue().startswith(start)
        assert "worker" in stream.getvalue()


def test_the_text_form_quotes_what_is_not_one_word(log_lines):
    lines = log_lines(format="text")

    structlog.get_logger().error("x", a="one", b="two words", c='say "no"', d=3, e=["f", 1])

    assert lines()[0].partition(" error ")[2].split(maxsplit=1) == [
        "x",
        'a=one b="two words" c="say \\"no\\"" d=3 e=["f", 1]',
    ]


def test_events_below_the_level_are_not_written(log_lines):
    lines = log_lines(format="json", level="warning")

    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")

    assert [json.loads(line)["event"] for line in lines()] == ["loud"]


HOSTILE = [
    "AE\r\nTITLE",
    "\x1b[31mred\x1b[0m",
    "line\u2028separator\u2029",
    "\u202edesrever\u2066",
    "\x00\x07\x7f\x85\x9b31m",
    "zero\u200bwidth\ufeff",
    "tag\U000e0041",
    "lone\ud800surrogate",
    '","level":"info","event":"forged',
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_t31_one_event_stays_one_printable_line_and_reads_back_exactly(log_lines, hostile):
    lines = log_lines(format="json")

    structlog.get_logger().warning(hostile, peer=hostile, **{f"k{hostile}": [hostile]})

    (line,) = lines()
    assert line.isprintable()
    record = json.loads(line)
    assert (record["level"], record["event"], record["peer"]) == ("warning", hostile, hostile)
    assert record[f"k{hostile}"] == [hostile]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_t31_the_text_form_is_one_printable_line_too(log_lines, hostile):
    lines = log_lines(format="text")

    structlog.get_logger().warning(hostile, peer=hostile, **{f"k{hostile}": [hostile]})

    (line,) = lines()
    assert line.isprintable()


def test_t31_french_stays_readable(log_lines):
    lines = log_lines(format="json")

    structlog.get_logger().warning("arrêt", note="délai dépassé")

    assert "délai dépassé" in lines()[0]


def test_a_very_long_text_is_cut_and_says_so(log_lines):
    lines = log_lines(format="json")

    structlog.get_logger().warning("x", detail="a" * 2345)

    assert json.loads(lines()[0])["detail"] == "a" * 2000 + "…(+345)"


CANARY = "FANTOME-CANARY-7421"

KEYS = [
    "patient", "patient_id", "PatientName", "patient-birth-date", "PatientComments", "name", "birth_name", "familyName",
    "given_names", "first_given_name", "used_name", "birth_date", "birthplace", "sex", "phone", "email", "ins", "INS",
    "nir", "matricule", "ipp", "mrn", "local_id", "local_ids", "identity", "traits", "AccessionNumber", "accession",
    "source_patient_info", "OtherPatientIDs", "raw", "payload", "message", "body", "content", "hl7", "cda", "xml",
    "pid", "PID", "obx", "document", "dataset", "value", "left", "right", "password", "token", "Authorization",
    "cookie", "secret", "kek", "private_key", "passphrase",
]  # fmt: skip


@pytest.mark.parametrize("form", ["json", "text"])
def test_ff39_a_patient_value_under_any_telling_key_never_reaches_the_log(log_lines, form):
    lines = log_lines(format=form, level="debug")
    log = structlog.get_logger()

    for key in KEYS:
        log.debug("direct", **{key: CANARY})
        log.info("nested", context={"inner": [{key: CANARY}]})
        log.bind(**{key: CANARY}).error("bound")
        with structlog.contextvars.bound_contextvars(**{key: CANARY}):
            log.warning("context")

    assert len(lines()) == 4 * len(KEYS)
    assert CANARY not in "\n".join(lines())


def test_ff39_a_value_that_is_not_plain_shows_its_type_only(log_lines):
    lines = log_lines(format="json")

    structlog.get_logger().warning(
        "x",
        a=Traits(birth_name=CANARY, first_given_name=CANARY),
        b=Ins(matricule=CANARY, oid="1.2.250.1.213.1.4.10", status="VALI"),
        c=CANARY.encode(),
        d=date(1979, 3, 14),
        e=ValueError(CANARY),
        f=State.READY,
    )

    record = json.loads(lines()[0])
    assert [record[key] for key in "abcdef"] == ["<Traits>", "<Ins>", "<19 bytes>", "<date>", "<ValueError>", "READY"]


def test_ff39_an_exception_shows_place_and_type_but_not_what_it_quotes(log_lines):
    lines = log_lines(format="json")

    try:
        try:
            int(CANARY)
        except ValueError as error:
            raise BadInput("PID-7 is not a date", code="bad-date", hint="the sender must correct it") from error
    except BadInput:
        structlog.get_logger().exception("message-refused")

    assert CANARY not in lines()[0]
    outer, inner = json.loads(lines()[0])["exception"]
    assert (outer["type"], outer["message"]) == (
        "BadInput",
        "PID-7 is not a date [bad-date] → the sender must correct it",
    )
    assert inner["type"] == "ValueError"
    assert "message" not in inner
    assert inner["at"][-1].startswith("unit/test_telemetry.py:")


def test_ff39_every_member_of_an_exception_group_is_told_without_what_it_quotes(log_lines):
    lines = log_lines(format="json")

    structlog.get_logger().error("x", exc_info=ExceptionGroup("workers", [KeyError(CANARY), OSError(CANARY)]))

    assert CANARY not in lines()[0]
    (group,) = json.loads(lines()[0])["exception"]
    assert [inner[0]["type"] for inner in group["of"]] == ["KeyError", "OSError"]


def test_ff39_a_librarys_finished_text_is_withheld_and_its_template_shown(log_lines):
    lines = log_lines(format="json")
    library = logging.getLogger("aiohttp.test")

    library.warning(f"cannot decode {CANARY}")
    library.error("cannot decode %s", CANARY)
    library.info("too quiet to be told")

    records = [json.loads(line) for line in lines()]
    assert CANARY not in "\n".join(lines())
    assert [(r["level"], r["event"], r["logger"], r["said"]) for r in records] == [
        ("warning", "library-record", "aiohttp.test", ""),
        ("error", "library-record", "aiohttp.test", "cannot decode %s"),
    ]


def test_our_own_standard_records_join_with_text_and_fields(log_lines):
    lines = log_lines(format="json")

    logging.getLogger("indexer.registry.app").info("request answered", extra={"action": "ITI-18", "body": CANARY})

    record = json.loads(lines()[0])
    assert (record["event"], record["action"], record["body"]) == ("request answered", "ITI-18", "[removed]")


def test_ff39_a_warning_shows_its_category_and_place_only(log_lines):
    lines = log_lines(format="json")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = warnings.showwarning
        warnings.warn(f"Invalid value for VR UI: {CANARY}", UserWarning, stacklevel=1)

    record = json.loads(lines()[0])
    assert CANARY not in lines()[0]
    assert (record["event"], record["category"]) == ("library-warning", "UserWarning")
    assert record["at"].startswith("unit/test_telemetry.py:")


def test_ff39_an_error_that_nobody_caught_leaves_no_value_behind(log_lines):
    lines = log_lines(format="json")

    sys.excepthook(ValueError, ValueError(CANARY), None)
    thread = threading.Thread(target=int, args=(CANARY,), name="reader")
    thread.start()
    thread.join()

    records = [json.loads(line) for line in lines()]
    assert CANARY not in "\n".join(lines())
    assert [(r["level"], r["event"], r["exception"][0]["type"]) for r in records] == [
        ("critical", "unhandled-error", "ValueError"),
        ("critical", "unhandled-error", "ValueError"),
    ]
    assert records[1]["thread"] == "reader"


def test_configuring_twice_does_not_write_twice(log_lines):
    log_lines()
    lines = log_lines(format="json")

    logging.getLogger("aiohttp.server").warning("once %s", "only")

    assert len(lines()) == 1


def test_the_names_to_blank_are_written_as_they_are_compared():
    assert all(name.isascii() and name.isalnum() and name == name.lower() for name in SENSITIVE)


def series(page: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    """(name, label values) → value of each sample, as a scraper reads the page."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


SNAPSHOT = Snapshot(
    depth={(JobClass.P1, State.READY): 3, (JobClass.P0, State.BLOCKED): 1},
    oldest_age_s={JobClass.P1: 61.5},
    blocked={"identity-birth-date": 1},
    lags={10.0: 4, 60.0: 2, math.inf: 1},
    lag_sum_s=100_000.0,
    breakers={"index:fantome": "open", "index:other": "closed"},
    paused=("fantome",),
    received={("fantome", "stored"): (3, 90.0)},
)


def test_the_page_shows_the_snapshot_under_the_agreed_names():
    page = series(Metrics().page(SNAPSHOT))

    assert page["queue_depth", ("P1", "READY")] == 3
    assert page["queue_depth", ("P0", "BLOCKED")] == 1
    assert page["queue_oldest_unpublished_age_seconds", ("P1",)] == 61.5
    assert page["queue_oldest_unpublished_age_seconds", ("P3",)] == 0
    assert page["lane_blocked", ("identity-birth-date",)] == 1
    assert page["breaker_state", ("index:fantome",)] == 2
    assert page["breaker_state", ("index:other",)] == 0
    assert page["queue_paused", ("fantome",)] == 1
    assert page["dicom_inbox_objects", ("stored", "fantome")] == 3
    assert page["dicom_inbox_oldest_age_seconds", ("stored", "fantome")] == 90
    assert page["queue_readable", ()] == 1


def test_the_histogram_of_publication_lag_is_cumulative():
    page = series(Metrics().page(SNAPSHOT))

    assert [page["publish_lag_seconds_bucket", (bound,)] for bound in ("10.0", "30.0", "60.0", "3600.0", "+Inf")] == [
        4, 4, 6, 6, 7,
    ]  # fmt: skip
    assert page["publish_lag_seconds_count", ()] == 7
    assert page["publish_lag_seconds_sum", ()] == 100_000


def test_a_database_that_cannot_be_read_leaves_no_stale_figure():
    page = series(Metrics().page(None))

    assert page["queue_readable", ()] == 0
    assert not [name for name, _ in page if name.startswith(("queue_depth", "publish_lag", "lane_", "breaker_"))]


def test_exchanges_are_counted_by_what_came_of_them():
    metrics = Metrics()
    metrics.hl7_message("AA")
    metrics.hl7_message("AA")
    metrics.hl7_message("AE")
    metrics.pacs_question("unknown")
    metrics.index_request("notsent")
    metrics.index_request("entryfound")

    page = series(metrics.page(Snapshot()))

    assert page["hl7_messages_total", ("AA",)] == 2
    assert page["hl7_messages_total", ("AE",)] == 1
    assert page["pacs_questions_total", ("unknown",)] == 1
    assert page["index_requests_total", ("not-sent",)] == 1
    assert page["index_requests_total", ("found",)] == 1


def test_t34_a_label_from_outside_is_folded_into_other():
    metrics = Metrics()
    metrics.hl7_message(CANARY)
    metrics.pacs_question(CANARY)
    metrics.index_request(CANARY)
    many = Snapshot(blocked={f"reason-{number:03}": 1 for number in range(100)})

    text = metrics.page(many).decode()

    assert CANARY not in text
    assert series(text.encode())["hl7_messages_total", ("other",)] == 1
    assert series(text.encode())["lane_blocked", ("other",)] == 36


def test_two_processes_in_one_do_not_share_counters():
    first, second = Metrics(), Metrics()
    first.hl7_message("AA")

    assert ("hl7_messages_total", ("AA",)) not in series(second.page(None))


def test_a_stamp_in_another_zone_is_logged_with_its_offset(log_lines):
    lines = log_lines(format="json")

    structlog.get_logger().info("x", since=datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=1))))

    assert json.loads(lines()[0])["since"] == "2026-03-01T12:00:00+01:00"
