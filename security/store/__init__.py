"""The durable store: one port, one engine so far (SQLite through apsw).

``port`` is the contract, ``schema`` the numbered migrations, ``place`` what a database's directory must offer,
``sqlite`` the engine.
"""
