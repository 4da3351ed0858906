"""The parts of the house that own tables in the gateway's database, in the order of their migrations."""

from __future__ import annotations

from security.accounts import ACCOUNTS
from security.store.port import GROUND, Component

INBOX = Component(name="inbox", package="gateway")
EXAMS = Component(name="exams", package="indexer")
IMAGING = Component(name="imaging", package="indexer.imaging")
RECEIVED = Component(name="received", package="gateway.dimse")
RECONCILIATION = Component(name="reconciliation", package="indexer.reconciliation")
COPIES = Component(name="copies", package="gateway.continuity")
WHITE_LIST = Component(name="white-list", package="gateway.whitelist")
FEEDS = Component(name="audit-feed", package="gateway.feeds")
PEER_AUDIT = Component(name="peer-audit", package="sampler.ledger")
COMPONENTS = (
    GROUND,
    EXAMS,
    INBOX,
    RECEIVED,
    RECONCILIATION,
    COPIES,
    IMAGING,
    ACCOUNTS,
    WHITE_LIST,
    FEEDS,
    PEER_AUDIT,
)
