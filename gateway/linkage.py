"""What ties the pseudonyms of a campaign to this site: the secret of its keys, and the frames that were built.

Each campaign has a secret of its own, drawn at random, sealed, and never exported; its keys are made from it by
HKDF-SHA256 (``sampler.pseudonym.keys``). So two campaigns share no value, and a campaign whose secret is destroyed
can be turned back by nobody, although the site's own keys stay.

Invariants:

* a frame's links are kept as the site's own names alone: without the secret they do not say which unit is which;
* who may turn a unit back is for the caller to ask (``security.policy``); every destruction is recorded with it.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sampler.frame.building import practitioner_id, unit_id
from sampler.pseudonym.keys import KEY_BYTES, CampaignKeys
from security.clock import to_ms
from security.errors import Refused
from security.seal import Vault
from security.store.port import ReadTx, Tx

_COMPRESSION = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """A frame turned back, for the site alone: unit → study or ``request/<number>``, pseudonym → practitioner."""

    units: Mapping[str, str] = field(repr=False)
    practitioners: Mapping[str, str] = field(repr=False)


def made_keys(tx: Tx, vault: Vault, tenant: str, campaign: str, *, now: datetime) -> CampaignKeys:
    """The keys of a campaign; its secret is drawn when it has none yet."""
    if _secret(tx, vault, tenant, campaign) is None:
        tx.change(
            "INSERT INTO campaign_secret (tenant, campaign, created_at, secret)"
            " VALUES (:tenant, :campaign, :now, :secret)",
            tenant=tenant,
            campaign=campaign,
            now=to_ms(now),
            secret=vault.seal(tenant, _place(campaign), secrets.token_bytes(KEY_BYTES)),
        )
    return keys_of(tx, vault, tenant, campaign)


def keys_of(tx: ReadTx, vault: Vault, tenant: str, campaign: str) -> CampaignKeys:
    """The keys of a campaign that has a frame. Raises Refused ``campaign-unknown``."""
    secret = _secret(tx, vault, tenant, campaign)
    if secret is None:
        raise Refused(
            f"no keys of campaign {campaign}", code="campaign-unknown", hint="build its frame, or it was destroyed"
        )
    return CampaignKeys.derive(secret, campaign)


def keep(
    tx: Tx,
    vault: Vault,
    tenant: str,
    campaign: str,
    *,
    root: str,
    source: str,
    account: Mapping[str, Any],
    names: Sequence[str],
    practitioners: Sequence[str],
    actor: str,
    now: datetime,
) -> None:
    """Keep a frame; the same frame again replaces its account."""
    links = zlib.compress(json.dumps([sorted(names), sorted(practitioners)]).encode(), _COMPRESSION)
    tx.change(
        "INSERT INTO campaign_frame (tenant, campaign, root, source, built_at, actor, account, links)"
        " VALUES (:tenant, :campaign, :root, :source, :now, :actor, :account, :links)"
        " ON CONFLICT (tenant, campaign, root) DO UPDATE SET built_at = excluded.built_at, actor = excluded.actor,"
        " account = excluded.account, links = excluded.links",
        tenant=tenant,
        campaign=campaign,
        root=root,
        source=source,
        now=to_ms(now),
        actor=actor,
        account=json.dumps(account, sort_keys=True),
        links=vault.seal(tenant, _place(campaign, root), links),
    )


def linked(tx: ReadTx, vault: Vault, tenant: str, campaign: str, root: str) -> Linked:
    """A frame turned back. Raises Refused ``campaign-unknown``, ``frame-unknown``."""
    key = keys_of(tx, vault, tenant, campaign).campaign
    row = tx.row(
        "SELECT links FROM campaign_frame WHERE tenant = :tenant AND campaign = :campaign AND root = :root",
        tenant=tenant,
        campaign=campaign,
        root=root,
    )
    if row is None:
        raise Refused(
            f"campaign {campaign} has no frame of this root", code="frame-unknown", hint="see the transcript's root"
        )
    names, practitioners = json.loads(zlib.decompress(vault.open(tenant, _place(campaign, root), row["links"])))
    return Linked(
        units={unit_id(key, name): name for name in names},
        practitioners={practitioner_id(key, one): one for one in practitioners},
    )


def destroy(tx: Tx, tenant: str, campaign: str) -> int:
    """Destroy what turns a campaign's pseudonyms back; the number of its frames."""
    frames = tx.change(
        "DELETE FROM campaign_frame WHERE tenant = :tenant AND campaign = :campaign",
        tenant=tenant,
        campaign=campaign,
    )
    tx.change(
        "DELETE FROM campaign_secret WHERE tenant = :tenant AND campaign = :campaign",
        tenant=tenant,
        campaign=campaign,
    )
    return frames


def _secret(tx: ReadTx, vault: Vault, tenant: str, campaign: str) -> bytes | None:
    row = tx.row(
        "SELECT secret FROM campaign_secret WHERE tenant = :tenant AND campaign = :campaign",
        tenant=tenant,
        campaign=campaign,
    )
    return None if row is None else vault.open(tenant, _place(campaign), row["secret"])


def _place(campaign: str, root: str = "") -> str:
    return f"campaign_frame.links/{campaign}/{root}" if root else f"campaign_secret.secret/{campaign}"
