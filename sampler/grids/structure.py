"""Whether a Questionnaire or a QuestionnaireResponse is built of FHIR R4: by ``fhir.resources``, whose door this is
for the peer audit (``indexer.fhir.structure`` is the one for manifests).

The library has no plain R4; its R4B defines both resources as R4 does. Required bindings it leaves unchecked.

Invariant: what is said of a fault is where it stands and of what kind it is, never what stands there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fhir.resources.R4B.questionnaire import Questionnaire
from fhir.resources.R4B.questionnaireresponse import QuestionnaireResponse
from pydantic import ValidationError

_CHECKS: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "Questionnaire": Questionnaire.model_validate,
    "QuestionnaireResponse": QuestionnaireResponse.model_validate,
}


def faults(resource: Mapping[str, Any]) -> list[str]:
    """Every place where the resource is not one of R4, as ``element: kind of fault``; none when it is."""
    check = _CHECKS.get(str(resource.get("resourceType")))
    if check is None:
        return ["resourceType: neither Questionnaire nor QuestionnaireResponse"]
    try:
        check(dict(resource))
    except ValidationError as cause:
        told = cause.errors(include_url=False, include_context=False, include_input=False)
        return [f"{'.'.join(map(str, one['loc']))}: {one['type']}" for one in told]
    return []
