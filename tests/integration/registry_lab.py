"""An index node on a real socket and a real SQLite file, and a plain SOAP speaker to ask it."""

from __future__ import annotations

import io
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from lxml import etree

from indexer.registry.app import start
from indexer.registry.credentials import Credentials
from indexer.registry.node import REGISTRY, IndexNode
from indexer.xds import soap
from indexer.xds import vocabulary as v
from security.clock import SystemClock
from security.policy import Tell, untold
from security.seal import Vault
from security.store.opening import StorePlace, open_store
from security.store.port import GROUND, Store
from tests.fixtures.xds_submissions import XDSB, Draft, adhoc_query

REPOSITORY = "1.2.250.1.999.9"
KEK = bytes(range(32))
RS = f"{{{v.NS_RS}}}"
RIM = f"{{{v.NS_RIM}}}"
DSB = f"{{{XDSB}}}"


class TracingStore:
    """A store that notes every statement its works run."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.statements: list[str] = []

    async def write(self, work: Callable[[Any], Any]) -> Any:
        return await self._inner.write(lambda tx: work(_TracingTx(tx, self.statements)))

    async def read(self, work: Callable[[Any], Any]) -> Any:
        return await self._inner.read(lambda tx: work(_TracingTx(tx, self.statements)))

    async def close(self) -> None:
        await self._inner.close()


class _TracingTx:
    def __init__(self, tx: Any, statements: list[str]) -> None:
        self._tx, self._statements = tx, statements

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def run(sql: str, /, **parameters: Any) -> Any:
            self._statements.append(sql)
            return getattr(self._tx, name)(sql, **parameters)

        return run


class Peer:
    """Speaks SOAP to one address and gives back what came."""

    def __init__(self, session: aiohttp.ClientSession, port: int, store: TracingStore) -> None:
        self._session = session
        self.store = store
        self.base = f"http://127.0.0.1:{port}"

    async def post(
        self, body: bytes, content_type: str, path: str = "/xds", **headers: str
    ) -> tuple[int, str, bytes]:
        async with self._session.post(
            self.base + path, data=io.BytesIO(body), headers={"Content-Type": content_type, **headers}
        ) as response:
            return response.status, response.headers.get("Content-Type", ""), await response.read()

    async def ask(
        self, action: str, body: bytes, attachments: dict[str, bytes] | None = None, path: str = "/xds"
    ) -> soap.Envelope:
        message_id = f"urn:uuid:{uuid.uuid4()}"
        content_type, data = soap.encode_request(
            action=action,
            to=self.base + path,
            message_id=message_id,
            body=body,
            attachments=attachments or {},
            mtom=action in {v.ITI_41, v.ITI_43},
        )
        status, answered_type, answered = await self.post(data, content_type, path)
        assert status == 200, answered[:500]
        envelope = soap.decode(answered_type, answered)
        assert envelope.relates_to == message_id
        assert envelope.action == action + "Response"
        return envelope

    async def submit(self, draft: Draft) -> tuple[str, list[str]]:
        """ITI-41: (last word of the status, error codes)."""
        elements, attachments = soap.document_elements({draft.entry_id: draft.content})
        return outcome((await self.ask(v.ITI_41, provide(draft.request, elements), attachments)).body)

    async def query(self, query_id: str, parameters: dict[str, Any], returned: str = "LeafClass") -> etree._Element:
        request = etree.tostring(adhoc_query(query_id, parameters, returned))
        return (await self.ask(v.ITI_18, request, path="/xds/registry")).body

    async def entry(self, unique_id: str) -> tuple[str, str]:
        """(entryUUID, last word of its status) of the only entry with that uniqueId."""
        body = await self.query(v.GET_DOCUMENTS, {"$XDSDocumentEntryUniqueId": f"('{unique_id}')"})
        (entry,) = body.iter(RIM + "ExtrinsicObject")
        return entry.get("id"), entry.get("status").rpartition(":")[2]

    async def retrieve(self, *unique_ids: str, repository: str = REPOSITORY) -> tuple[str, list[str], list[bytes]]:
        """ITI-43: (last word of the status, error codes, documents)."""
        envelope = await self.ask(v.ITI_43, retrieve_set(*unique_ids, repository=repository))
        documents = [
            soap.octets(d, envelope.attachments)
            for d in envelope.body.iterfind(f"{DSB}DocumentResponse/{DSB}Document")
        ]
        return *outcome(envelope.body.find(RS + "RegistryResponse")), documents


def provide(request: etree._Element, elements: bytes) -> bytes:
    name = b"xdsb:ProvideAndRegisterDocumentSetRequest"
    opening = b"<" + name + b' xmlns:xdsb="' + XDSB.encode() + b'">'
    return opening + etree.tostring(request) + elements + b"</" + name + b">"


def retrieve_set(*unique_ids: str, repository: str = REPOSITORY) -> bytes:
    requests = "".join(
        f"<x:DocumentRequest><x:RepositoryUniqueId>{repository}</x:RepositoryUniqueId>"
        f"<x:DocumentUniqueId>{unique_id}</x:DocumentUniqueId></x:DocumentRequest>"
        for unique_id in unique_ids
    )
    return f'<x:RetrieveDocumentSetRequest xmlns:x="{XDSB}">{requests}</x:RetrieveDocumentSetRequest>'.encode()


def outcome(response: etree._Element) -> tuple[str, list[str]]:
    return response.get("status").rpartition(":")[2], [
        e.get("errorCode") for e in response.iter(RS + "RegistryError")
    ]


def ids(body: etree._Element, kind: str = "ExtrinsicObject") -> list[str]:
    return [e.get("id") for e in body.iter(RIM + kind)]


@asynccontextmanager
async def running(
    place: StorePlace, *, credentials: Credentials | None = None, tell: Tell = untold, **settings: Any
) -> AsyncIterator[Peer]:
    """A node on the database at ``place`` (a directory: on a file in it) and a peer to ask it; the same place again
    holds what it held."""
    database = place / "index.db" if isinstance(place, Path) else place
    store = TracingStore(await open_store(database, [GROUND, REGISTRY]))
    vault = await Vault.load(store, KEK, ["region"], SystemClock())
    store.statements.clear()
    node = IndexNode(store, vault, SystemClock(), tenant="region", repository_unique_id=REPOSITORY, **settings)
    server = await start(node, host="127.0.0.1", port=0, credentials=credentials, tell=tell)
    try:
        async with aiohttp.ClientSession() as session:
            yield Peer(session, server.port, store)
    finally:
        await server.close()
        await store.close()
