"""The ground floor: who you are, what may pass, and that nothing is lost.

Identities, hardened parsers, sealed durable store, audit trail, generic outbox engine, keys. Imports no
sibling package.
"""
