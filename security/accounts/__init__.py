"""Who may sign in: accounts, their proofs (password and second factor, certificate, identity provider), and what two
persons must agree on.

There is no default account, no default password and no switch that turns any of this off (FF-44).
"""

from __future__ import annotations

from security.store.port import Component

ACCOUNTS = Component(name="accounts", package="security.accounts")
"""The tables of this room."""
SEALED_UNDER = "_accounts"
"""The name under which the room's secrets are sealed; no legal entity can have it."""
