"""From one box to the next by an XDM archive: real stores, a real index node, HL7 as the RIS sends it."""

from __future__ import annotations

import hashlib
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.lab.ris import LabExam, LabOrder, build_adt_consent, build_mdm
from indexer import withdrawal
from security.errors import Broken, Refused
from security.outbox.states import State
from security.store.place import PostgresPlace
from tests.integration.test_messages import said
from tests.support.archives import bring_in, changed, export, put_together, taken_apart
from tests.support.reconciling import another_box, lab_exam, reconciler_of
from tests.support.world import TENANT, World, world

HOUR = 3600.0


@pytest.fixture
async def w(tmp_path: Path):
    async with world(tmp_path) as made:
        yield made


async def publish(w: World, exam: LabExam, *, instances: int = 3, **words: object) -> None:
    w.pacs.hold(exam, instances=instances)
    await w.report(exam, **words)
    await w.settle()
    assert (await w.last(exam.studies[0])).state is State.PUBLISHED


def correction(exam: LabExam) -> LabExam:
    """A report that replaces the exam's, and says of the exam what the index does not."""
    return replace(
        exam, document_id=f"{exam.document_id}.2", replaces=exam.document_id, region=("51185008", "thorax")
    )


async def take_back(w: World, exam: LabExam) -> str:
    return await w.raw(
        build_mdm(exam, control_id=f"T04-{exam.document_id[-6:]}", event="T04", order_control="CA", result_status="D")
    )


def in_metadata(old: bytes, new: bytes, *, file: str = "METADATA.XML"):
    """An edit of every file of that name; ``old`` must stand there."""

    def edit(name: str, data: bytes) -> tuple[str, bytes]:
        if not name.endswith(file):
            return name, data
        assert old in data
        return name, data.replace(old, new)

    return edit


async def everything(w: World) -> list[int]:
    tables = ("outbox_job", "evidence", "manifest", "entry", "report", "exam", "audit_record", "restored")
    return [await w.count(table) for table in tables]


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_a_box_that_imports_goes_on_where_the_other_one_stopped(
    w: World, tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue("postgres_place") if engine == "postgres" else None
    exams = [lab_exam(n) for n in range(1, 21)]
    for exam in exams:
        await publish(w, exam)
    archive = tmp_path / "all.zip"
    made = await export(w, archive)
    assert (made.exams, made.versions, made.left_out) == (20, 20, ())
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    reconciler_of(w)
    gone = exams[3]
    await withdraw(w, gone)  # after the export: only the index knows

    async with another_box(w, tmp_path / "b", place=place) as b:
        planned = await bring_in(b, archive, apply=False)
        assert (planned.counts, await b.count("exam")) == ({"new": 20}, 0)
        taken = await bring_in(b, archive)
        assert (taken.counts, taken.refused) == ({"imported": 20}, ())
        reconciler = reconciler_of(b)
        await b.settle()
        found = await reconciler.run(None)
        assert found.counts == {"in-step": 19, "withdrawn": 1}
        assert (found.changed, [await b.entries(exam) for exam in exams].count([])) == (0, 1)
        assert await b.entries(gone) == []

        corrected = correction(exams[0])
        assert "MSA|AA" in await b.report(corrected, order_control="RO")
        await b.settle()
        assert [status for _, status in await b.entries(exams[0])] == ["Deprecated", "Approved"]

        assert "MSA|AA" in await take_back(b, exams[1])
        await b.settle()
        assert await b.entries(exams[1]) == []

        b.pacs.hold(exams[2], instances=5)
        await reconciler.run(None)
        await b.settle()
        assert [status for _, status in await b.entries(exams[2])] == ["Deprecated", "Approved"]

        before = await everything(b)
        again = await bring_in(b, archive)
        assert (again.counts, await everything(b)) == ({"known": 20}, before)


async def withdraw(w: World, exam: LabExam) -> None:
    now, study = w.clock.now(), exam.studies[0]
    await w.store.write(
        lambda tx: withdrawal.request(
            tx, w.ledger, tenant=TENANT, study=study, actor="operator", reason="wrong exam", now=now
        )
    )
    await w.settle()


async def test_what_was_withdrawn_before_the_export_stays_withdrawn_though_its_report_comes_again(
    w: World, tmp_path: Path
) -> None:
    exam = lab_exam(1)
    await publish(w, exam)
    await withdraw(w, exam)
    await export(w, tmp_path / "a.zip")
    async with another_box(w, tmp_path / "b") as b:
        assert (await bring_in(b, tmp_path / "a.zip")).counts == {"withdrawn": 1}
        reconciler_of(b)
        await b.report(exam)
        await b.settle()
        assert await b.entries(exam) == []
        assert ((await b.last(exam.studies[0])).state, (await b.last(exam.studies[0])).reason) == (
            State.BLOCKED,
            "withdrawn-elsewhere",
        )


async def test_export_import_export_gives_the_same_documents_and_metadata(w: World, tmp_path: Path) -> None:
    for exam in [lab_exam(n) for n in range(1, 4)]:
        await publish(w, exam)
    w.pacs.hold(lab_exam(1), instances=4)
    await w.report(correction(lab_exam(1)), order_control="RO")
    await w.settle()
    await export(w, tmp_path / "a.zip")
    async with another_box(w, tmp_path / "b") as b:
        await bring_in(b, tmp_path / "a.zip")
        await export(b, tmp_path / "b.zip")
    first, second = taken_apart(tmp_path / "a.zip"), taken_apart(tmp_path / "b.zip")
    assert list(first) == list(second)
    assert {name for name in first if first[name] != second[name]} == set()
    assert sum(name.endswith(".DCM") for name in first) == 4


@pytest.mark.parametrize("hides", ["Y", "N"])
async def test_an_archive_hides_an_exam_from_whom_the_index_hides_it_now(tmp_path: Path, hides: str) -> None:
    """After a metadata update (ITI-57) the bytes once submitted say otherwise."""
    exam = replace(lab_exam(1), flags={**lab_exam(1).flags, "INVISIBLE_PATIENT": "N" if hides == "Y" else "Y"})
    flags = {**exam.flags, "INVISIBLE_PATIENT": hides, "MODIF_CONF_CODE": "Y"}
    revised = replace(exam, document_id=f"{exam.document_id}.2", replaces=exam.document_id, flags=flags)
    async with world(tmp_path, updates_metadata=True) as w:
        await publish(w, exam)
        assert "MSA|AA" in await w.report(revised, order_control="RO")
        await w.settle()
        assert await w.count("manifest") == 1
        sent = await w.store.read(lambda tx: w.ledger.submission_at(tx, TENANT, exam.studies[0], 1))
        assert sent is not None
        assert (b"INVISIBLE_PATIENT" in sent.metadata) is (hides == "N")
        await export(w, tmp_path / "a.zip")
        (stated,) = [data for name, data in taken_apart(tmp_path / "a.zip").items() if name.endswith("METADATA.XML")]
        assert (b"INVISIBLE_PATIENT" in stated) is (hides == "Y")
        async with another_box(w, tmp_path / "b") as b:
            assert (await bring_in(b, tmp_path / "a.zip")).refused == ()
            await export(b, tmp_path / "b.zip")
            assert taken_apart(tmp_path / "b.zip") == taken_apart(tmp_path / "a.zip")
            reconciler = reconciler_of(b)
            await b.settle()
            assert (await reconciler.run(None)).counts == {"in-step": 1}
            assert "MSA|AA" in await b.report(revised)
            await b.settle()
            assert await b.count("manifest") == 1, "the report itself sends nothing"
            assert await b.count("revision") == 0
            assert [status for _, status in await b.entries(exam)].count("Approved") == 1


async def one_exported(w: World, tmp_path: Path, exam: LabExam) -> Path:
    await publish(w, exam)
    await export(w, tmp_path / "a.zip")
    return tmp_path / "a.zip"


async def only_report(w: World) -> tuple[str, str, str]:
    rows = await w.store.read(lambda tx: tx.rows("SELECT status, reason, link FROM report"))
    assert len(rows) == 1
    return rows[0]["status"], rows[0]["reason"], rows[0]["link"]


async def test_the_report_itself_confirms_its_link_and_sends_nothing_for_what_is_the_same(
    w: World, tmp_path: Path
) -> None:
    exam = lab_exam(1)
    archive = await one_exported(w, tmp_path, exam)
    async with another_box(w, tmp_path / "b") as b:
        await bring_in(b, archive)
        reconciler_of(b)
        await b.settle()
        assert await only_report(b) == ("valid", "", "named")
        assert "MSA|AA" in await b.report(exam)
        await b.settle()
        assert await only_report(b) == ("valid", "", "")
        assert [status for _, status in await b.entries(exam)] == ["Approved"]


async def test_a_report_under_an_archived_number_about_another_person_holds_the_exam(
    w: World, tmp_path: Path
) -> None:
    exam = lab_exam(1)
    archive = await one_exported(w, tmp_path, exam)
    stranger = replace(exam, patient=lab_exam(2).patient)
    async with another_box(w, tmp_path / "b") as b:
        await bring_in(b, archive)
        reconciler_of(b)
        await b.settle()
        assert "MSA|AE" in await b.report(stranger)
        await b.settle()
        assert (await b.last(exam.studies[0])).state is State.BLOCKED
        assert await only_report(b) == ("held", "identity-ins", "named")
        assert [status for _, status in await b.entries(exam)] == ["Approved"]


@pytest.mark.parametrize(
    ("file", "what"), [("CR.TXT", "cr"), ("METADATA.XML", "metadata")], ids=["CR.TXT", "METADATA.XML"]
)
async def test_an_archive_that_names_two_patients_holds_the_exam(
    w: World, tmp_path: Path, file: str, what: str
) -> None:
    exam = lab_exam(1)
    ours, theirs = exam.patient.matricule, lab_exam(2).patient.matricule
    assert ours
    assert theirs
    archive = await one_exported(w, tmp_path, exam)
    bent = changed(archive, tmp_path / "bent.zip", in_metadata(ours.encode(), theirs.encode(), file=file))
    async with another_box(w, tmp_path / "b") as b:
        assert (await bring_in(b, bent)).counts == {"held": 1}
        reconciler_of(b)
        await b.settle()
        job = await b.last(exam.studies[0])
        assert (job.state, job.reason) == (State.BLOCKED, "identity-ins")
        assert "MSA|AE" in await take_back(b, exam)
        assert [status for _, status in await b.entries(exam)] == ["Approved"]


async def test_an_archive_that_names_another_name_holds_the_exam(w: World, tmp_path: Path) -> None:
    exam = lab_exam(1)
    archive = await one_exported(w, tmp_path, exam)
    bent = changed(archive, tmp_path / "bent.zip", in_metadata("|FANTÔME^".encode(), b"|SPECTRE^"))
    async with another_box(w, tmp_path / "b") as b:
        assert (await bring_in(b, bent)).counts == {"held": 1}
        assert (await b.last(exam.studies[0])).reason == "identity-birth-name"


async def test_a_report_of_another_patient_is_never_tied_to_an_exam_on_an_archives_word(
    w: World, tmp_path: Path
) -> None:
    exam, other = lab_exam(1), lab_exam(2)
    archive = await one_exported(w, tmp_path, exam)
    bent = changed(
        archive,
        tmp_path / "bent.zip",
        in_metadata(exam.document_id.encode(), other.document_id.encode(), file="CR.TXT"),
    )
    async with another_box(w, tmp_path / "b") as b:
        reconciler_of(b)
        await publish(b, other)
        assert (await bring_in(b, bent)).counts == {"held": 1}
        await b.settle()
        job = await b.last(exam.studies[0])
        assert (job.state, job.reason) == (State.BLOCKED, "archive-link")
        assert "MSA|AA" in await take_back(b, other)
        await b.settle()
        assert [status for _, status in await b.entries(exam)] == ["Approved"]
        assert await b.entries(other) == []


async def test_an_exam_whose_archive_names_no_report_stays_until_one_comes(w: World, tmp_path: Path) -> None:
    exam = replace(lab_exam(1), flags={"MASQUE_PS": "Y"})
    archive = await one_exported(w, tmp_path, exam)
    bare = changed(
        archive, tmp_path / "bare.zip", lambda name, data: None if name.endswith("CR.TXT") else (name, data)
    )
    async with another_box(w, tmp_path / "b") as b:
        found = await bring_in(b, bare)
        assert (found.counts, found.lacking["no-report-named"]) == ({"imported": 1}, 1)
        reconciler = reconciler_of(b)
        await b.settle()
        assert (await reconciler.run(None)).counts == {"in-step": 1}
        await b.report(replace(exam, flags={}))
        await b.settle()
        rows = await b.store.read(lambda tx: tx.rows("SELECT status, link FROM report ORDER BY report_no"))
        assert [(row["status"], row["link"]) for row in rows] == [("replaced", "unnamed"), ("valid", "")]
        masked = await b.store.read(lambda tx: b.ledger.reports_of(tx, TENANT, exam.studies[0]))
        assert masked[-1].stated.report.visibility.masked_to_professionals
        assert [status for _, status in await b.entries(exam)] == ["Approved"]


async def test_a_set_whose_document_was_changed_is_refused_and_its_neighbours_are_not(
    w: World, tmp_path: Path
) -> None:
    for exam in (lab_exam(1), lab_exam(2)):
        await publish(w, exam)
    await export(w, tmp_path / "a.zip")

    def edit(name: str, data: bytes) -> tuple[str, bytes]:
        return name, data.replace(b"IPP1", b"IPP7") if name.endswith("KOS_1_1.DCM") else data

    async with another_box(w, tmp_path / "b") as b:
        found = await bring_in(b, changed(tmp_path / "a.zip", tmp_path / "bent.zip", edit))
        assert [(one.place[-8:], one.code) for one in found.refused] == [("SS000001", "xdm-hash")]
        assert found.counts == {"imported": 1}
        assert await b.count("exam") == 1


async def test_an_import_that_was_cut_short_is_taken_up_again(
    w: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for exam in (lab_exam(1), lab_exam(2), lab_exam(3)):
        await publish(w, exam)
    await export(w, tmp_path / "a.zip")
    async with another_box(w, tmp_path / "b") as b:
        write, left = b.store.write, [1]

        async def cut(work):
            if not left[0]:
                raise OSError("the power went")
            left[0] -= 1
            return await write(work)

        monkeypatch.setattr(b.store, "write", cut)
        with pytest.raises(OSError, match="power"):
            await bring_in(b, tmp_path / "a.zip")
        monkeypatch.undo()
        assert (await bring_in(b, tmp_path / "a.zip")).counts == {"known": 1, "imported": 2}


async def test_an_exam_that_the_box_published_itself_is_left_alone(w: World, tmp_path: Path) -> None:
    exam = lab_exam(1)
    archive = await one_exported(w, tmp_path, exam)
    assert (await bring_in(w, archive)).counts == {"known": 1}
    async with another_box(w, tmp_path / "b") as b:
        reconciler_of(b)
        b.pacs.hold(exam, instances=4)
        await b.report(exam)
        await b.settle()
        found = await bring_in(b, archive)
        assert [one.code for one in found.refused] == ["xdm-known-otherwise"]


async def test_what_other_boxes_write_is_read(w: World, tmp_path: Path) -> None:
    exam = lab_exam(1)
    archive = await one_exported(w, tmp_path, exam)

    def edit(name: str, data: bytes) -> tuple[str, bytes] | None:
        name = name.lower()
        if name.endswith("metadata.xml"):
            data = data.replace(b"SS000001/KOS_1_1.DCM", b"ss000001\\kos_1_1.dcm")
            data = data.replace(b' status="urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"', b"")
            data = b"<s:Envelope xmlns:s='urn:s'><s:Body>" + data.partition(b"?>")[2] + b"</s:Body></s:Envelope>"
        return name.replace("/", "\\"), data

    files = dict(one for name, data in taken_apart(archive).items() if (one := edit(name, data)))
    async with another_box(w, tmp_path / "b") as b:
        taken = await bring_in(b, put_together(tmp_path / "other.zip", files))
        assert (taken.counts, taken.refused) == ({"imported": 1}, ())
        assert dict(taken.lacking) == {"no-signature": 1}
        reconciler_of(b)
        await b.settle()
        await take_back(b, exam)
        await b.settle()
        assert await b.entries(exam) == []


async def test_each_export_leaves_a_record_of_who_took_how_many_exams(w: World, tmp_path: Path) -> None:
    await publish(w, lab_exam(1))
    made = await export(w, tmp_path / "months")
    rows = await w.store.read(
        lambda tx: tx.rows("SELECT actor, object_id, detail FROM audit_record WHERE event = 'xdm.exported'")
    )
    assert [(row["actor"], row["detail"]) for row in rows] == [("operator:test", "1 exams, 1 versions")]
    assert rows[0]["object_id"] == made.archives[0].sha256
    assert [path.name for path in (tmp_path / "months").iterdir()] == ["KA202603.zip"]


async def test_an_export_takes_what_was_asked_for(w: World, tmp_path: Path) -> None:
    await publish(w, lab_exam(1))
    w.clock.advance(HOUR)
    since = w.clock.now()
    await publish(w, lab_exam(2))
    assert (await export(w, tmp_path / "since.zip", since=since)).exams == 1
    assert (await export(w, tmp_path / "one.zip", studies=(lab_exam(1).studies[0],))).exams == 1
    assert (await export(w, tmp_path / "none.zip", studies=("1.2.3",))).archives == ()
    assert not (tmp_path / "none.zip").exists()


async def test_the_archive_has_the_national_layout_and_other_tools_read_it(w: World, tmp_path: Path) -> None:
    exam = lab_exam(1)
    archive = await one_exported(w, tmp_path, exam)
    files = taken_apart(archive)
    assert list(files) == [
        "KA202603/IHE_XDM/SS000001/METADATA.XML",
        "KA202603/IHE_XDM/SS000001/KOS_1_1.DCM",
        "KA202603/IHE_XDM/SS000001/CR.TXT",
        "KA202603/INDEX.HTM",
        "KA202603/README.TXT",
    ]
    patient = exam.patient
    assert files["KA202603/IHE_XDM/SS000001/CR.TXT"].decode() == ";".join(
        [exam.document_id, "", str(patient.matricule), patient.ins_oid, patient.ipp, patient.ipp_issuer]
    )
    for name in ("KA202603/INDEX.HTM", "KA202603/README.TXT"):
        text = files[name].decode()
        assert text.index("Manifestes d’imagerie") < text.index("Imaging manifests")
        assert "FANTÔME" not in text.replace("Centre FANTÔME", "")
        assert str(patient.matricule) not in text


@pytest.mark.dcmtk
async def test_unzip_and_dcmdump_agree(w: World, tmp_path: Path) -> None:
    archive = await one_exported(w, tmp_path, lab_exam(1))
    tested = subprocess.run(["unzip", "-tq", str(archive)], capture_output=True, text=True, check=False)
    assert (tested.returncode, tested.stdout[:9]) == (0, "No errors")
    kos = tmp_path / "kos.dcm"
    kos.write_bytes(taken_apart(archive)["KA202603/IHE_XDM/SS000001/KOS_1_1.DCM"])
    dumped = subprocess.run(["dcmdump", "-q", "+L", str(kos)], capture_output=True, text=True, check=False)
    assert (dumped.returncode, dumped.stderr) == (0, "")
    assert "(0008,0016) UI =KeyObjectSelectionDocumentStorage" in dumped.stdout


async def test_a_hostile_archive_is_refused_by_name_and_the_others_are_taken(w: World, tmp_path: Path) -> None:
    archive = await one_exported(w, tmp_path, lab_exam(1))
    (tmp_path / "no.zip").write_bytes(b"MZ" + b"\0" * 100)
    (tmp_path / "cut.zip").write_bytes(archive.read_bytes()[:-40])
    put_together(tmp_path / "other.zip", {"a/b.txt": b"x"})
    put_together(tmp_path / "out.zip", {"../../IHE_XDM/SS000001/METADATA.XML": b"<x/>"})
    names = ("no.zip", "cut.zip", "other.zip", "out.zip", "a.zip")
    async with another_box(w, tmp_path / "b") as b:
        found = await bring_in(b, *(tmp_path / name for name in names))
        assert [(one.file, one.code) for one in found.refused] == [
            ("no.zip", "zip-form"),
            ("cut.zip", "zip-form"),
            ("other.zip", "xdm-empty"),
            ("out.zip", "zip-name"),
        ]
        assert found.counts == {"imported": 1}


async def test_an_archive_is_never_written_over_and_nothing_is_left_of_one_that_failed(
    w: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = await one_exported(w, tmp_path, lab_exam(1))
    before = archive.read_bytes()
    with pytest.raises(Refused, match="xdm-exists"):
        await export(w, archive)
    assert archive.read_bytes() == before

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.continuity.xdm._Writer.finish", full)
    with pytest.raises(Broken, match="xdm-write"):
        await export(w, tmp_path / "full.zip")
    assert not list(tmp_path.glob("full*"))


async def test_a_patient_who_opposes_in_the_importing_box_leaves_the_index(w: World, tmp_path: Path) -> None:
    exam = lab_exam(1)
    archive = await one_exported(w, tmp_path, exam)
    async with another_box(w, tmp_path / "b") as b:
        reconciler_of(b)
        sent = build_adt_consent(exam.patient, opposition="IO", at=said(b), sent_at=said(b), control_id="C1")
        assert "MSA|AA" in await b.raw(sent)
        assert (await bring_in(b, archive)).counts == {"held": 1}
        await b.settle()
        assert await b.entries(exam) == []


async def test_a_report_on_two_studies_speaks_of_both_after_the_import(w: World, tmp_path: Path) -> None:
    exam = lab_exam(1)
    second = replace(exam, studies=(f"{exam.studies[0]}.9",), orders=(LabOrder(accession_number="ACN9"),))
    both = replace(exam, studies=(*exam.studies, *second.studies), orders=(*exam.orders, *second.orders))
    w.pacs.hold(exam)
    w.pacs.hold(second)
    await w.report(both)
    await w.settle()
    await export(w, tmp_path / "a.zip")
    async with another_box(w, tmp_path / "b") as b:
        assert (await bring_in(b, tmp_path / "a.zip")).counts == {"imported": 2}
        reconciler = reconciler_of(b)
        await b.settle()
        assert (await reconciler.run(None)).counts == {"in-step": 2}
        assert "MSA|AA" in await take_back(b, both)
        await b.settle()
        assert await b.entries(exam) == []


async def test_t12_a_kos_that_is_also_a_programme_is_refused(w: World, tmp_path: Path) -> None:
    archive = await one_exported(w, tmp_path, lab_exam(1))
    files = taken_apart(archive)
    kos = next(name for name in files if name.endswith(".DCM"))
    metadata = next(name for name in files if name.endswith("METADATA.XML"))
    honest = files[kos]
    files[kos] = b"MZ" + honest[2:]
    before, after = (hashlib.sha1(one, usedforsecurity=False).hexdigest().encode() for one in (honest, files[kos]))
    files[metadata] = files[metadata].replace(before, after)
    async with another_box(w, tmp_path / "b") as b:
        found = await bring_in(b, put_together(tmp_path / "mz.zip", files))
        assert [one.code for one in found.refused] == ["xdm-preamble"]
        assert await b.count("exam") == 0


async def test_what_the_other_box_published_after_its_export_is_adopted_not_doubled(w: World, tmp_path: Path) -> None:
    archive = await one_exported(w, tmp_path, lab_exam(1))
    later = lab_exam(2)
    await publish(w, later)
    async with another_box(w, tmp_path / "b") as b:
        await bring_in(b, archive)
        reconciler_of(b)
        await b.settle()
        await b.report(replace(later, region=("51185008", "thorax")))
        await b.settle()
        assert sorted(status for _, status in await b.entries(later)) == ["Approved", "Deprecated"]


@pytest.mark.postgres
async def test_both_databases_export_and_import_alike(postgres_place: PostgresPlace, tmp_path: Path) -> None:
    async with world(tmp_path, place=postgres_place) as w:
        archive = await one_exported(w, tmp_path, lab_exam(1))
        assert (await export(w, tmp_path / "one.zip", studies=lab_exam(1).studies)).exams == 1
        async with another_box(w, tmp_path / "b") as b:
            assert (await bring_in(b, archive)).counts == {"imported": 1}
            await export(b, tmp_path / "b.zip")
        assert taken_apart(tmp_path / "b.zip") == taken_apart(archive)
        assert (await bring_in(w, archive)).counts == {"known": 1}
