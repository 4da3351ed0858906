"""The MHD door to an index: FHIR R4 for what XDS.b says in ebRIM (IHE ITI MHD 4.2)."""
