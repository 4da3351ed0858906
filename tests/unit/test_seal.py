"""Sealed values and blind indexes, on a real store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap
from hypothesis import given, settings
from hypothesis import strategies as st

from security.clock import SystemClock
from security.errors import Broken, Refused
from security.seal import Vault
from security.store.port import GROUND
from security.store.sqlite import SqliteStore

KEK = bytes(range(32))
TENANTS = ("chu-nord", "clinique-sud")
CONTEXT = "report.content/1.2.3^4"


@contextlib.asynccontextmanager
async def _store(folder: Path, *, read_only: bool = False) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(folder / "store.sqlite", [GROUND], read_only=read_only)
    try:
        yield store
    finally:
        await store.close()


async def _load(folder: Path, kek: bytes = KEK, tenants: tuple[str, ...] = TENANTS) -> Vault:
    async with _store(folder) as store:
        return await Vault.load(store, kek, tenants, SystemClock())


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return asyncio.run(_load(tmp_path_factory.mktemp("vault")))


@settings(deadline=None)
@given(plaintext=st.binary(max_size=2000), context=st.text(max_size=60))
def test_what_was_sealed_opens_again(vault: Vault, plaintext: bytes, context: str) -> None:
    assert vault.open("chu-nord", context, vault.seal("chu-nord", context, plaintext)) == plaintext


@settings(deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_refused(vault: Vault, data: st.DataObject) -> None:
    sealed = bytearray(vault.seal("chu-nord", CONTEXT, "FANTÔME, Élodie".encode()))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Broken) as caught:
        vault.open("chu-nord", CONTEXT, bytes(sealed))
    assert caught.value.code == "seal-broken"


@settings(deadline=None)
@given(length=st.integers(0, 40))
def test_any_truncated_value_is_refused(vault: Vault, length: int) -> None:
    sealed = vault.seal("chu-nord", CONTEXT, b"ten bytes.")
    assert len(sealed) == 41
    with pytest.raises(Broken) as caught:
        vault.open("chu-nord", CONTEXT, sealed[:length])
    assert caught.value.code == "seal-broken"


@pytest.mark.parametrize(
    ("tenant", "context"),
    [
        ("clinique-sud", CONTEXT),
        ("chu-nord", "report.content/1.2.3^5"),
        ("chu-nord", ""),
        ("chu-nord", CONTEXT + " "),
    ],
)
def test_a_value_moved_to_another_tenant_or_row_is_refused(vault: Vault, tenant: str, context: str) -> None:
    sealed = vault.seal("chu-nord", CONTEXT, b"content")
    with pytest.raises(Broken) as caught:
        vault.open(tenant, context, sealed)
    assert caught.value.code == "seal-broken"


async def test_the_line_between_tenant_and_context_cannot_be_moved(tmp_path: Path) -> None:
    vault = await _load(tmp_path, tenants=("a", "ab"))
    vault._sealing["ab", 1] = vault._sealing["a", 1]  # as if both tenants had one key
    with pytest.raises(Broken):
        vault.open("ab", "c", vault.seal("a", "bc", b"content"))


def test_the_same_value_is_sealed_differently_each_time_and_never_in_clear(vault: Vault) -> None:
    first, second = (vault.seal("chu-nord", CONTEXT, b"TEST-DUPONT") for _ in range(2))
    assert first != second
    assert b"DUPONT" not in first
    assert (len(first), first[:3]) == (42, b"\x01\x00\x01")


async def test_the_sealed_form_is_aes_256_gcm_as_documented(tmp_path: Path) -> None:
    vault = await _load(tmp_path)
    sealed = vault.seal("chu-nord", "a/b", b"content")
    async with _store(tmp_path) as store:
        row = await store.read(
            lambda tx: tx.row("SELECT wrapped FROM data_key WHERE tenant = 'chu-nord' AND purpose = 'seal'")
        )
    assert row is not None
    key = aes_key_unwrap(KEK, row["wrapped"])
    assert len(key) == 32
    bound = b"\x01\x00\x01" + b"\x00\x00\x00\x08chu-nord" + b"a/b"
    assert AESGCM(key).decrypt(sealed[3:15], sealed[15:], bound) == b"content"


async def test_the_blind_index_is_hmac_sha_256_over_field_and_value(tmp_path: Path) -> None:
    vault = await _load(tmp_path)
    async with _store(tmp_path) as store:
        row = await store.read(
            lambda tx: tx.row("SELECT wrapped FROM data_key WHERE tenant = 'chu-nord' AND purpose = 'blind'")
        )
    assert row is not None
    expected = hmac.new(
        aes_key_unwrap(KEK, row["wrapped"]), b"\x00\x00\x00\x03ins" + b"279035121518989", hashlib.sha256
    )
    assert vault.blind("chu-nord", "ins", "279035121518989") == expected.digest()


def test_a_blind_index_tells_tenants_fields_and_values_apart(vault: Vault) -> None:
    asked = [
        ("chu-nord", "ins", "1"),
        ("clinique-sud", "ins", "1"),
        ("chu-nord", "ipp", "1"),
        ("chu-nord", "ins", "2"),
    ]
    asked += [("chu-nord", "in", "s1"), ("chu-nord", "ins1", "")]
    assert len({vault.blind(*each) for each in asked}) == 6
    assert vault.blind("chu-nord", "ins", "1") == vault.blind("chu-nord", "ins", "1")


def test_a_tenant_without_keys_is_named(vault: Vault) -> None:
    sealed = vault.seal("chu-nord", CONTEXT, b"content")
    with pytest.raises(Broken, match="no key for tenant 'ailleurs'"):
        vault.seal("ailleurs", CONTEXT, b"content")
    with pytest.raises(Broken, match="no key for tenant 'ailleurs'"):
        vault.blind("ailleurs", "ins", "1")
    with pytest.raises(Broken, match="no key for tenant 'ailleurs'"):
        vault.open("ailleurs", CONTEXT, sealed)


async def test_keys_survive_a_restart_and_a_tenant_more(tmp_path: Path) -> None:
    before = await _load(tmp_path)
    sealed, blind = before.seal("chu-nord", CONTEXT, b"content"), before.blind("chu-nord", "ins", "1")
    after = await _load(tmp_path, tenants=(*TENANTS, "ghr-est"))
    assert after.open("chu-nord", CONTEXT, sealed) == b"content"
    assert after.blind("chu-nord", "ins", "1") == blind
    assert after.open("ghr-est", CONTEXT, after.seal("ghr-est", CONTEXT, b"more")) == b"more"


async def test_a_newer_key_seals_and_an_older_one_still_opens(tmp_path: Path) -> None:
    before = await _load(tmp_path)
    sealed, blind = before.seal("chu-nord", CONTEXT, b"old"), before.blind("chu-nord", "ins", "1")
    async with _store(tmp_path) as store:
        for purpose in ("seal", "blind"):
            await store.write(
                lambda tx, p=purpose: tx.change(
                    "INSERT INTO data_key VALUES ('chu-nord', :p, 2, :wrapped, 0)",
                    p=p,
                    wrapped=aes_key_wrap(KEK, bytes(32)),
                )
            )
    after = await _load(tmp_path)
    assert after.open("chu-nord", CONTEXT, sealed) == b"old"
    newer = after.seal("chu-nord", CONTEXT, b"new")
    assert newer[:3] == b"\x01\x00\x02"
    assert after.open("chu-nord", CONTEXT, newer) == b"new"
    assert after.blind("chu-nord", "ins", "1") == blind


async def test_a_reader_of_a_complete_database_needs_no_write(tmp_path: Path) -> None:
    sealed = (await _load(tmp_path)).seal("chu-nord", CONTEXT, b"content")
    async with _store(tmp_path, read_only=True) as store:
        vault = await Vault.load(store, KEK, TENANTS, SystemClock())
        assert vault.open("chu-nord", CONTEXT, sealed) == b"content"
        with pytest.raises(Refused):
            await Vault.load(store, KEK, ("ghr-est",), SystemClock())


async def test_t65_another_key_encryption_key_opens_nothing_and_leaves_no_key_behind(tmp_path: Path) -> None:
    await _load(tmp_path)
    with pytest.raises(Broken) as caught:
        await _load(tmp_path, kek=bytes(32), tenants=(*TENANTS, "ghr-est"))
    assert caught.value.code == "seal-wrong-kek"
    async with _store(tmp_path) as store:
        rows = await store.read(lambda tx: tx.rows("SELECT tenant, purpose FROM data_key ORDER BY tenant, purpose"))
    assert [tuple(row.values()) for row in rows] == [
        ("chu-nord", "blind"),
        ("chu-nord", "seal"),
        ("clinique-sud", "blind"),
        ("clinique-sud", "seal"),
    ]


@pytest.mark.parametrize("kek", [b"", bytes(16), bytes(33)])
async def test_a_key_encryption_key_of_another_length_is_refused(tmp_path: Path, kek: bytes) -> None:
    with pytest.raises(Broken) as caught:
        await _load(tmp_path, kek=kek)
    assert caught.value.code == "seal-wrong-kek"


async def test_t65_the_files_of_the_database_hold_no_clear_value_and_no_key(tmp_path: Path) -> None:
    async with _store(tmp_path) as store:
        vault = await Vault.load(store, KEK, TENANTS, SystemClock())
        sealed = vault.seal("chu-nord", CONTEXT, b"FANTOME 279035121518989")
        await store.write(
            lambda tx: tx.change(
                "INSERT INTO data_key VALUES ('x', 'seal', 9, :sealed, 0)", sealed=sealed
            )  # any BLOB column will do
        )
        row = await store.read(lambda tx: tx.row("SELECT wrapped FROM data_key WHERE purpose = 'blind' LIMIT 1"))
        assert row is not None
        bytes_on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert sealed in bytes_on_disk
    for secret in (b"FANTOME", b"279035121518989", KEK, aes_key_unwrap(KEK, row["wrapped"])):
        assert secret not in bytes_on_disk


def test_a_vault_shows_no_key(vault: Vault) -> None:
    assert "bytes" not in repr(vault)
    assert repr(vault).startswith("<security.seal.Vault object at ")
