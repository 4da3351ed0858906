"""Where the settings say the state lies, as the store wants to hear it."""

from __future__ import annotations

from pathlib import Path

from gateway.settings import Settings, StoreSettings
from security.secrets import read_secret
from security.store.opening import StorePlace
from security.store.place import PostgresPlace

_CONTROL = "poterne.control"


def store_place(settings: StoreSettings) -> StorePlace:
    """The place of a store, its password read.

    Raises:
        Broken: ``store-place`` another machine without TLS; as ``read_secret`` says.
    """
    server = settings.postgres
    if server is None:
        assert settings.path is not None  # one of the two is set
        return settings.path
    password = b"" if server.password_file is None else read_secret(server.password_file, what="database password")
    return PostgresPlace(
        host=server.host,
        port=server.port,
        database=server.database,
        user=server.user,
        password=password.decode().strip(),
        ca_file=server.ca_file,
        certificate_file=server.certificate_file,
        key_file=server.key_file,
        crl_file=server.crl_file,
        connect_timeout_s=server.connect_timeout_s,
    )


def control_place(settings: Settings) -> Path:
    """Where commands reach the running gateway: beside its database, or beside its key when that is elsewhere."""
    store = settings.gateway_store()
    return (store.path or store.kek_file).with_name(_CONTROL)
