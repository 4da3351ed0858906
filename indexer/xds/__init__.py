"""XDS.b: the words, the wire and the client of a national index (IHE ITI TF-2 3.18, 3.41, 3.43)."""
