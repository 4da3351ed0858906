"""The trail of who did what: records, the tree over them, its signed heads, and what proves that nothing was changed.

``record`` one row per state change or read, in its transaction · ``tree`` RFC 6962 hashes and proofs, pure ·
``heads`` signed tree heads and their keys · ``witness`` heads written down outside the database · ``verifying`` what
was done to the trail since · ``trail`` who saw what · ``refusals`` who was not let in, counted.
"""

from security.audit.record import AuditRecord, append, canonical, leaf, note, record_of_row

__all__ = ["AuditRecord", "append", "canonical", "leaf", "note", "record_of_row"]
