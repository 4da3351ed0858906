import json

import pytest

from security.errors import BadInput
from security.parse.json import member, parse_json


def refused(data: bytes) -> str:
    with pytest.raises(BadInput) as raised:
        parse_json(data, what="answer")
    return raised.value.code


def test_a_plain_document_comes_back_as_it_is():
    assert parse_json('{"a": [1, 2.5, "é", null, true]}'.encode(), what="answer") == {"a": [1, 2.5, "é", None, True]}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"[" * 100_000, "json-too-deep"),
        (b"[" * 65 + b"]" * 65, "json-too-deep"),
        (b'{"alg": "ES256", "alg": "none"}', "json-duplicate-member"),
        (b"1e999999", "json-bad-number"),
        (b"[NaN]", "json-bad-number"),
        (b"[-Infinity]", "json-bad-number"),
        (b"18446744073709551616", "json-bad-number"),
        (b"1" * 10_000, "json-bad-number"),
        (b'"\\ud800"', "json-not-utf8"),
        (b'{"\\udfff": 1}', "json-not-utf8"),
        (b'"\xe9"', "json-not-utf8"),
        (b"\xef\xbb\xbf{}", "json-syntax"),
        (b"", "json-syntax"),
        (b"{} {}", "json-syntax"),
    ],
)
def test_t23_hostile_json_is_refused_with_its_code(data: bytes, code: str):
    assert refused(data) == code


def test_t23_more_bytes_than_the_limit_are_not_parsed():
    with pytest.raises(BadInput) as raised:
        parse_json(b"[1, 2, 3]", what="answer", limit=8)
    assert raised.value.code == "json-too-large"


@pytest.mark.parametrize("value", [b"{},", b"[],", b"0,", b'"",'])
def test_t23_a_million_small_values_are_not_decoded(value: bytes):
    data = b"[" + value * 1_000_000 + b"oops"
    assert refused(data) == "json-too-many-values"


def test_t23_values_are_counted_to_one_million_and_no_further():
    assert len(parse_json(b"[" + b"0," * 999_998 + b"0]", what="answer")) == 999_999
    assert refused(b"[" + b"0," * 999_999 + b"0]") == "json-too-many-values"


@pytest.mark.parametrize("count", [1_300, 20_000])
def test_what_orthanc_says_of_a_large_study_is_read(count: int):
    instance = {  # what Orthanc 1.10.1 states, and every main tag an instance may have beside
        "FileSize": 131_072,
        "FileUuid": "b307cb4f-0eb2-47cb-99b7-604ddd657af8",
        "ID": "115faea6-670befae-51439c6b-14434324-e4307211",
        "IndexInSeries": 4,
        "MainDicomTags": {
            "AcquisitionNumber": "1",
            "ImageComments": "",
            "ImageIndex": "1",
            "ImageOrientationPatient": "1\\0\\0\\0\\1\\0",
            "ImagePositionPatient": "-250\\-250\\-10.5",
            "InstanceCreationDate": "20260112",
            "InstanceCreationTime": "093015",
            "InstanceNumber": "4",
            "NumberOfFrames": "1",
            "SOPInstanceUID": "2.25.262286360351240599380626171144234525020",
            "TemporalPositionIdentifier": "1",
        },
        "Metadata": {
            "HttpUsername": "lab",
            "IndexInSeries": "4",
            "MainDicomTagsSignature": "0008,0012;0008,0013;0008,0018;0020,0012;0020,0013;0020,0032;0020,0037",
            "Origin": "RestApi",
            "PixelDataOffset": "924",
            "ReceptionDate": "20260112T093020",
            "RemoteAET": "",
            "RemoteIP": "127.0.0.1",
            "SopClassUid": "1.2.840.10008.5.1.4.1.1.2",
            "TransferSyntax": "1.2.840.10008.1.2.1",
        },
        "ParentSeries": "8866ffbf-fc47dcc8-f71e66cb-87e43f43-26f3712b",
        "Type": "Instance",
    }
    data = json.dumps([instance] * count, indent=3).encode()

    assert len(parse_json(data, what="answer", limit=64 * 1024 * 1024)) == count


def test_t23_sixty_four_levels_and_the_ends_of_64_bits_are_allowed():
    assert parse_json(b"[" * 64 + b"]" * 64, what="answer")
    assert parse_json(b"[18446744073709551615, -9223372036854775808]", what="answer") == [
        18446744073709551615,
        -9223372036854775808,
    ]


def test_a_refusal_never_quotes_content():
    with pytest.raises(BadInput) as raised:
        parse_json(b'{"name": "FANTOME" oops}', what="answer")
    assert "FANTOME" not in str(raised.value)


@pytest.mark.parametrize(("record", "key"), [({"n": True}, "n"), ({"n": "1"}, "n"), ({}, "n"), ([], "n")])
def test_a_member_of_another_type_is_refused(record: object, key: str):
    with pytest.raises(BadInput):
        member(record, key, int, what="answer")
