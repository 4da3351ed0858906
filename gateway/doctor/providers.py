"""Probe of the identity providers: the keys they publish can be had and used, over their link."""

from __future__ import annotations

from gateway.doctor.context import Context, Probe
from gateway.doctor.findings import Finding, failed, ok, say
from gateway.i18n import N_
from gateway.providers.channel import Channel
from security.errors import Unavailable


async def provider(context: Context, subject: str) -> Finding:
    """It publishes keys of the algorithms we believe, over mutual TLS."""
    settings = context.settings.identity_providers[subject]
    tls = (await context.links()).context(f"identity_providers.{subject}")
    assert tls is not None  # the section names a certificate, a key and authorities, all of them required
    try:
        ring = await Channel(settings, tls).keyring()
    except Unavailable as fault:
        return failed(
            say(N_("its keys cannot be had: nobody is let in through it")),
            say(N_("Look at jwks_url, ca_file and networks, and ask who runs it.")),
            f"{fault.code}: {fault.args[0]}",
        )
    able = {algorithm.value for key in ring.keys for algorithm in key.algorithms} & set(settings.algorithms)
    if not able:
        return failed(
            say(N_("none of its keys is of an algorithm in algorithms")),
            say(N_("Ask who runs it with which algorithm it signs.")),
        )
    return ok(N_("publishes keys for {algorithms}"), algorithms=", ".join(sorted(able)))


PROBES = (
    Probe(
        name="identity-provider",
        what=N_("identity provider {subject}"),
        run=provider,
        subjects=lambda settings: settings.identity_providers,
        limit_s=30.0,
    ),
)
