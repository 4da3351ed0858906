"""The index node's FHIR door: MHD on the same Store and the same entries as XDS.b."""
