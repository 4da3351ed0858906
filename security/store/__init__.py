"""The durable store: one port, one engine so far (SQLite through apsw)."""
