"""HL7 v2 intake: MLLP framing and server, acknowledgements, what a message and its CDA say."""
