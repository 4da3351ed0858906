"""HL7 v2 intake: MLLP framing and server, acknowledgements, what an ORU and its CDA say."""
