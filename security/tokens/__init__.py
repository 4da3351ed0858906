"""Tokens that others issue: what is read of them, and whether they are believed (T40–T44).

* ``issuer``: whom we believe, and for what;
* ``header``: the form and the header, before any key is touched;
* ``keys``: what an issuer publishes as its keys;
* ``signature``: the one door to the JOSE library;
* ``claims``: what a token says and until when;
* ``bearer``: an access token becomes a subject of the policy;
* ``introspection``: what the issuer says of a token now;
* ``signin``: an authorization code becomes an identity (OpenID Connect).

Invariants:

* nothing here opens a socket or reads a clock: keys, the moment and the peer's certificate are handed in;
* a token is never in a message; every refusal is ``Refused`` with a stable ``token-…`` or ``signin-…`` code;
* the issuer's configuration alone says which algorithms and keys count: no header names a key or an address.
"""
