"""How long a signed submission set takes, and its verification, for studies of 1 to 10,000 instances."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from indexer import kos
from indexer.manifest import imprint
from indexer.study import Instance, Series
from indexer.xds.metadata import submission
from indexer.xds.setsignature import read_signature
from indexer.xds.vihf import Errand, read_security_header, security_header
from security.identity import Uid
from security.keys.signer import PemSigner
from security.parse.xml import parse_xml
from security.xmlsig.verifying import Trust
from tests.benchmarks.figures import Figure, publish, quantile
from tests.support.signing import NOW, Hand
from tests.unit.test_metadata import CONTEXT, EDITION, MANIFEST, PUBLISHER
from tests.unit.test_vihf import CLAIMS

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

SIZES = (1, 100, 1_300, 10_000)
RUNS = 25


def _kos(instances: int) -> bytes:
    listed = tuple(
        Instance(sop_class=Uid("1.2.840.10008.5.1.4.1.1.2"), sop_instance=Uid(f"1.2.250.1.999.11.{n}"), number=n)
        for n in range(1, instances + 1)
    )
    series = (Series(uid=Uid("1.2.250.1.999.11"), modality="CT", number=1, instances=listed),)
    made = imprint(EDITION, zone=CONTEXT.service_start.tzinfo, manufacturer="Poterne")
    return kos.encode(replace(MANIFEST, series=series), made)


def _p50_ms(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return quantile(times, 0.5)


@pytest.mark.parametrize("kind", ["ours", "p256"])
def test_bench_signed_submission_sets(signing_keys, kind) -> None:
    pair = signing_keys[kind]
    signer = PemSigner(pair.certificate, pair.key, Hand())
    trust = Trust(certificates=(signer.certificate,))
    name = {"ours": "RSA 2048", "p256": "P-256"}[kind]
    figures = []
    for size in SIZES:
        document = _kos(size)
        sent = submission(MANIFEST, CONTEXT, EDITION, document, PUBLISHER, sign=signer)
        signature = list(sent.documents.values())[1]
        plain = _p50_ms(lambda d=document: submission(MANIFEST, CONTEXT, EDITION, d, PUBLISHER))
        signed = _p50_ms(lambda d=document: submission(MANIFEST, CONTEXT, EDITION, d, PUBLISHER, sign=signer))
        verified = _p50_ms(
            lambda s=signature, d=document: read_signature(s, trust=trust, at=NOW).covers("2.25.1001", d)
        )
        about = f"{size} instances, {name}"
        figures += [
            Figure(what=f"metadata without signature, {about}", value=plain, unit="ms p50"),
            Figure(what=f"metadata and signature document, {about}", value=signed, unit="ms p50"),
            Figure(what=f"signature document verified, {about}", value=verified, unit="ms p50"),
        ]
    publish(f"signed submission set, {name}", figures, conditions=f"{RUNS} runs each, the documents in memory")


def test_bench_assertions(signer, trust) -> None:
    errand = Errand(patient_id="285067599804896^^^&1.2.250.1.213.1.4.10&ISO^NH")
    header = security_header(CLAIMS, errand, assertion_id="_a", now=NOW, signer=signer)
    made = _p50_ms(lambda: security_header(CLAIMS, errand, assertion_id="_a", now=NOW, signer=signer))
    read = _p50_ms(
        lambda: read_security_header(parse_xml(header, what="header"), trust=trust, now=NOW + timedelta(seconds=1))
    )
    publish(
        "assertion",
        [
            Figure(what="assertion made, RSA 2048", value=made, unit="ms p50"),
            Figure(what="assertion verified, RSA 2048", value=read, unit="ms p50"),
        ],
        conditions=f"{RUNS} runs each",
    )
