"""Identity providers: those whose tokens are believed, and those at whom people sign in.

* ``channel``: one provider's endpoints over mutual TLS; * ``keys``: its published keys, kept current; * ``vouching``:
what it says of a token now; * ``tokens``: a token and a certificate become a subject; * ``door``: that in front of
HTTP; * ``signin``: people who come back from it, whom the console's pages send there.

The rules are pure and stand in ``security.tokens``; here are sockets, caches and the clock.
"""
