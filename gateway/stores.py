"""Where the settings say the state lies, as the store wants to hear it."""

from __future__ import annotations

from gateway.settings import StoreSettings
from security.secrets import read_secret
from security.store.opening import StorePlace
from security.store.place import PostgresPlace


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
        connect_timeout_s=server.connect_timeout_s,
    )
