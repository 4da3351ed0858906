"""What is shown of an exchange: the structure and the words of standards; a value that no list knows is masked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.exchanges.masking import MASKED, masked
from indexer.xds import vocabulary as xds

SOAP = "application/soap+xml; charset=UTF-8"
NAME = "ZZFANTOMEZZ"


def envelope(body: str, header: str = "") -> bytes:
    return (
        f'<s:Envelope xmlns:s="{xds.NS_SOAP12}" xmlns:wsa="{xds.NS_WSA}" xmlns:rs="{xds.NS_RS}" xmlns:rim="{xds.NS_RIM}">'
        f"<s:Header>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def response(attributes: str) -> bytes:
    return envelope(
        f'<rs:RegistryResponse status="{xds.RESPONSE_FAILURE}"><rs:RegistryErrorList>'
        f"<rs:RegistryError {attributes}/></rs:RegistryErrorList></rs:RegistryResponse>"
    )


def test_the_code_of_a_refusal_is_shown_and_its_words_are_not() -> None:
    shown = masked(
        SOAP, response(f'errorCode="XDSPatientIdDoesNotMatch" codeContext="{NAME} 1 61 04" location="{NAME}"')
    )
    assert "XDSPatientIdDoesNotMatch" in shown
    assert xds.RESPONSE_FAILURE in shown
    assert f'codeContext="{MASKED}"' in shown
    assert NAME not in shown


HIDING_PLACES = {
    "error code": response(f'errorCode="{NAME}"'),
    "unknown attribute": response(f'patient="{NAME}"'),
    "attribute name": response(f'{NAME}="1"'),
    "element name": envelope(f"<rs:{NAME}/>"),
    "namespace": envelope(f'<p:Patient xmlns:p="urn:{NAME}">{NAME}</p:Patient>'),
    "prefix": envelope(f'<{NAME}:RegistryResponse xmlns:{NAME}="{xds.NS_RS}"/>'),
    "declaration": envelope(f'<rs:RegistryResponse xmlns:{NAME}="{xds.NS_RS}"/>'),
    "text beside": envelope(f"<rs:RegistryResponse>{NAME}</rs:RegistryResponse>"),
    "tail": envelope(f'<rs:RegistryResponse status="{xds.RESPONSE_SUCCESS}"/>{NAME}'),
    "comment": envelope(f"<rs:RegistryResponse><!-- {NAME} --></rs:RegistryResponse>"),
    "instruction": envelope(f"<rs:RegistryResponse><?{NAME} {NAME}?></rs:RegistryResponse>"),
    "cdata": envelope(f"<rs:RegistryResponse><![CDATA[{NAME}]]></rs:RegistryResponse>"),
    "fault": envelope(
        f'<s:Fault><s:Code><s:Value>s:{NAME}</s:Value></s:Code><s:Reason><s:Text xml:lang="{NAME}">{NAME}</s:Text>'
        f"</s:Reason><s:Detail>{NAME}</s:Detail></s:Fault>"
    ),
    "addressing": envelope("<rs:RegistryResponse/>", f"<wsa:Action>{NAME}</wsa:Action><wsa:To>{NAME}</wsa:To>"),
    "slot name": envelope(
        f'<rim:Slot name="{NAME}"><rim:ValueList><rim:Value>{NAME}</rim:Value></rim:ValueList></rim:Slot>'
    ),
    "slot value": envelope(
        f'<rim:Slot name="creationTime"><rim:ValueList><rim:Value>{NAME}</rim:Value></rim:ValueList></rim:Slot>'
    ),
    "patient slot": envelope(
        f'<rim:Slot name="sourcePatientInfo"><rim:ValueList><rim:Value>PID-5|{NAME}^A</rim:Value></rim:ValueList></rim:Slot>'
    ),
    "patient id": envelope(
        f'<rim:ExternalIdentifier identificationScheme="{xds.ENTRY_PATIENT_ID}" value="{NAME}^^^&amp;1.2.3.4&amp;ISO"/>'
    ),
    "unique id": envelope(f'<rim:ExternalIdentifier identificationScheme="{xds.ENTRY_UNIQUE_ID}" value="{NAME}"/>'),
    "event code": envelope(
        f'<rim:Classification classificationScheme="{xds.ENTRY_EVENT_CODE_LIST}" nodeRepresentation="{NAME}"/>'
    ),
    "type code": envelope(
        f'<rim:Classification classificationScheme="{xds.ENTRY_TYPE_CODE}" nodeRepresentation="{NAME}"/>'
    ),
    "title": envelope(f'<rim:Name><rim:LocalizedString value="{NAME}"/></rim:Name>'),
    "id": envelope(f'<rim:ObjectRef id="{NAME}"/>'),
    "not xml": b"<s:Envelope " + NAME.encode(),
    "nothing like it": NAME.encode(),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_no_place_of_an_xml_answer_lets_a_value_through(place: str) -> None:
    data = HIDING_PLACES[place]
    assert NAME.encode() in data
    shown = masked(SOAP, data)
    assert NAME not in shown
    assert shown


@pytest.mark.parametrize(
    "kind", ["text/html", "text/plain", "application/octet-stream", f"x/{NAME}", "", "multipart/related; boundary=x"]
)
def test_a_body_of_another_type_is_masked_whole(kind: str) -> None:
    shown = masked(kind, f"<html>{NAME}</html>".encode())
    assert shown.startswith(MASKED)
    assert NAME not in shown


def test_a_cut_answer_is_masked_whole() -> None:
    assert masked(SOAP, response('errorCode="XDSRegistryBusy"'), is_cut=True).startswith(MASKED)


def test_a_fhir_answer_shows_its_codes_and_none_of_its_words() -> None:
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [
            {"severity": "error", "code": "processing", "diagnostics": NAME, NAME: NAME,
             "details": {"coding": [{"code": "XDSUnknownPatientId", "display": NAME}], "text": NAME}}
        ],
    }  # fmt: skip
    shown = masked("application/fhir+json", json.dumps(outcome).encode())
    assert NAME not in shown
    issue = json.loads(shown)["issue"][0]
    assert (issue["severity"], issue["code"], issue["diagnostics"]) == ("error", "processing", MASKED)
    assert issue["details"]["coding"][0]["code"] == "XDSUnknownPatientId"


def test_a_patient_of_a_fhir_answer_is_masked_down_to_numbers() -> None:
    patient = {"resourceType": "Patient", "identifier": [{"system": "urn:oid:1.2.3", "value": "urn:oid:1.2.3.4.5"}],
               "name": [{"family": NAME}], "birthDate": "1961-04-12", "multipleBirthInteger": 2, "active": True}  # fmt: skip
    entry = {"resourceType": "DocumentReference", "status": "current", "subject": {"identifier": {"value": "urn:oid:1.2.3.4"}},
             "contained": [patient], "masterIdentifier": {"value": "urn:oid:1.2.3.4"}}  # fmt: skip
    shown = masked("application/fhir+json", json.dumps(entry).encode())
    assert (NAME in shown, "1961" in shown, "birthDate" in shown, "1.2.3.4.5" in shown) == (False,) * 4
    assert json.loads(shown)["masterIdentifier"]["value"] == "urn:oid:1.2.3.4"
    assert json.loads(shown)["subject"]["identifier"]["value"] == MASKED


def test_a_search_form_shows_which_document_and_no_more() -> None:
    form = (
        b"identifier=urn%3Aietf%3Arfc%3A3986%7Curn%3Aoid%3A1.2.3.4&status=current&patient.identifier=" + NAME.encode()
    )
    shown = masked("application/x-www-form-urlencoded", form)
    assert shown == f"identifier=urn:ietf:rfc:3986|urn:oid:1.2.3.4\nstatus=current\n{MASKED}={MASKED}"


@settings(max_examples=80, deadline=None)
@given(
    st.recursive(
        st.just(NAME),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [NAME, "resourceType", "code", "status", "identifier", "value", "url", "display", "system"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_shape_of_json_lets_a_value_through(value: object) -> None:
    assert NAME not in masked("application/fhir+json", json.dumps(value).encode())


def test_a_patient_id_is_masked_also_when_it_looks_like_an_oid() -> None:
    for scheme in (xds.ENTRY_PATIENT_ID, xds.SET_PATIENT_ID, "urn:uuid:unheard-of"):
        data = envelope(f'<rim:ExternalIdentifier identificationScheme="{scheme}" value="1.2.250.1.61041263113042"/>')
        assert "61041263113042" not in masked(SOAP, data)


@pytest.mark.parametrize(
    "slot",
    [
        "sourcePatientId",
        "sourcePatientInfo",
        "legalAuthenticator",
        "authorPerson",
        "authorInstitution",
        "serviceStartTime",
        "$XDSDocumentEntryPatientId",
        "$XDSDocumentEntryReferenceIdList",
        xds.SLOT_REFERENCE_ID_LIST,
        "URI",
    ],
)
def test_every_slot_that_speaks_of_people_is_masked_whatever_it_holds(slot: str) -> None:
    for value in ("19610412", "1.2.250.1.9", "Original", "123", "20260101120000"):
        data = envelope(
            f'<rim:Slot name="{slot}"><rim:ValueList><rim:Value>{value}</rim:Value></rim:ValueList></rim:Slot>'
        )
        assert f">{MASKED}<" in masked(SOAP, data)


@pytest.mark.parametrize("arc", ["1610412631130", "161041263113042"])
def test_an_oid_that_may_hold_a_matricule_is_masked(arc: str) -> None:
    for value in (f"1.2.250.1.{arc}", f"1.2.250.{arc}.7"):
        data = envelope(
            f'<rim:ExternalIdentifier identificationScheme="{xds.ENTRY_UNIQUE_ID}" value="{value}"/>'
            f"<rim:Slot name=\"$XDSDocumentEntryUniqueId\"><rim:ValueList><rim:Value>('{value}')</rim:Value>"
            "</rim:ValueList></rim:Slot>"
        )
        assert arc not in masked(SOAP, data)


def test_the_version_behind_a_reference_is_a_number_or_masked() -> None:
    name = "DocumentReference/00000000-0000-4000-8000-000000000001/_history/"
    for version, shown in (("2", True), (NAME, False)):
        text = masked(
            "application/fhir+json", json.dumps({"resourceType": "Bundle", "location": name + version}).encode()
        )
        assert (version in text) == shown
