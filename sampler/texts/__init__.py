"""Reports and requests of a case, pseudonymised at the site: narrative text, CDA R2 documents, HL7 orders.

``narrative`` finds in a text what could name somebody; ``cda`` writes a report anew; ``request`` keeps of an order
what an auditor needs. What comes out is a proposal: a person at the site reads it before a case is ready.
"""
