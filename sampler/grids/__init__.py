"""What peer auditors answer: grids as data, the rules of an answer, findings, and all of it as FHIR.

``grid`` items and their indicators · ``answers`` C, NC, NA, NE and what each needs · ``findings`` requirement-level
gaps, apart from answers · ``questionnaire`` as FHIR R4 · ``structure`` the check of that by ``fhir.resources``.
"""
