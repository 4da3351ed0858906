"""A manifest as FHIR R4: the vocabulary, the document Bundle of IHE MADO, its reader and its check."""
