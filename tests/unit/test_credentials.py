"""Who an index node lets in: assertions of pinned signers, once, about the patient of the request."""

from __future__ import annotations

from datetime import timedelta

import pytest
from lxml import etree

from indexer.registry.credentials import Credentials
from indexer.xds import soap
from indexer.xds import vocabulary as v
from indexer.xds.vihf import Errand, security_header
from security.errors import BadInput, Unavailable
from tests.fixtures.xds_submissions import JULES, ONDINE, Draft, adhoc_query
from tests.support.signing import NOW, Hand
from tests.unit.test_vihf import CLAIMS


def envelope(signer, patient: str, body: bytes, *, name: str = "_a", clock: Hand | None = None) -> soap.Envelope:
    header = security_header(
        CLAIMS, Errand(patient_id=patient), assertion_id=name, now=(clock or Hand()).now(), signer=signer
    )
    content_type, data = soap.encode_request(
        action="urn:any", to="urn:x", message_id="urn:uuid:1", body=body, mtom=False, security=header
    )
    return soap.decode(content_type, data, understands_security=True)


def search(patient: str) -> bytes:
    status = f"('{v.STATUS_APPROVED}')"
    return etree.tostring(
        adhoc_query(
            v.FIND_DOCUMENTS, {"$XDSDocumentEntryPatientId": f"'{patient}'", "$XDSDocumentEntryStatus": status}
        )
    )


SUBMISSION = etree.tostring(Draft().request)
BY_ID = etree.tostring(adhoc_query(v.GET_DOCUMENTS, {"$XDSDocumentEntryUniqueId": "('2.25.1')"}))


@pytest.mark.parametrize(
    ("patient", "body", "is_let_in"),
    [
        (ONDINE, SUBMISSION, True),
        (ONDINE.removesuffix("^NH"), SUBMISSION, True),
        (JULES, SUBMISSION, False),
        ("", SUBMISSION, False),
        (ONDINE, search(ONDINE), True),
        (JULES, search(ONDINE), False),
        ("", search(ONDINE), False),
        ("", BY_ID, True),
        (ONDINE, BY_ID, True),
    ],
)
def test_t28_an_assertion_counts_for_its_patient_alone(signer, trust, patient, body, is_let_in):
    credentials, arrived = Credentials(trust, Hand()), envelope(signer, patient, body)
    if is_let_in:
        credentials.check(arrived)
        return
    with pytest.raises(BadInput) as caught:
        credentials.check(arrived)
    assert caught.value.code == "vihf-other-patient"
    assert not any(one.split("^")[0] in str(caught.value) for one in (ONDINE, JULES))


def test_an_assertion_is_used_once_whatever_it_was_used_for(signer, trust):
    credentials = Credentials(trust, Hand())
    credentials.check(envelope(signer, ONDINE, SUBMISSION))
    with pytest.raises(BadInput) as caught:
        credentials.check(envelope(signer, ONDINE, BY_ID))
    assert caught.value.code == "vihf-replayed"


def test_t33_what_is_remembered_is_bounded_and_what_is_over_makes_room(signer, trust):
    clock = Hand()
    credentials = Credentials(trust, clock, remembered_max=3)
    for number in range(3):
        credentials.check(envelope(signer, ONDINE, BY_ID, name=f"_{number}"))
    with pytest.raises(Unavailable):
        credentials.check(envelope(signer, ONDINE, BY_ID, name="_3"))
    clock.moment = NOW + timedelta(minutes=7)
    credentials.check(envelope(signer, ONDINE, BY_ID, name="_4", clock=clock))


def test_two_security_headers_are_refused():
    content_type, data = soap.encode_request(
        action="urn:any", to="urn:x", message_id="urn:uuid:1", body=BY_ID, mtom=False,
        security=2 * f'<w:Security xmlns:w="{v.NS_WSSE}"/>'.encode(),
    )  # fmt: skip
    with pytest.raises(BadInput) as caught:
        soap.decode(content_type, data, understands_security=True)
    assert caught.value.code == "soap-envelope"


def test_a_security_header_that_must_be_understood_is_refused_by_who_does_not(signer):
    must = f'<w:Security xmlns:w="{v.NS_WSSE}" xmlns:s="{v.NS_SOAP12}" s:mustUnderstand="1"/>'.encode()
    content_type, data = soap.encode_request(
        action="urn:any", to="urn:x", message_id="urn:uuid:1", body=BY_ID, mtom=False, security=must
    )
    assert soap.decode(content_type, data, understands_security=True).security is not None
    with pytest.raises(BadInput) as caught:
        soap.decode(content_type, data)
    assert caught.value.code == "soap-must-understand"
