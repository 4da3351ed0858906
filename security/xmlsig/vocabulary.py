"""The words of XML-DSig that we write and accept, and one way to canonical bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lxml import etree

from security.keys.signer import LEGACY_ALGORITHM
from security.parse.xml import parse_xml

NS_DS = "http://www.w3.org/2000/09/xmldsig#"
DS = f"{{{NS_DS}}}"
NS_EXC = "http://www.w3.org/2001/10/xml-exc-c14n#"
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
C14N_WITH_COMMENTS = C14N + "#WithComments"
EXC_C14N = NS_EXC
ENVELOPED = NS_DS + "enveloped-signature"
FILTER2 = "http://www.w3.org/2002/06/xmldsig-filter2"
TYPE_MANIFEST = NS_DS + "Manifest"

CANONICALISATIONS = frozenset({C14N, C14N_WITH_COMMENTS, EXC_C14N, EXC_C14N + "WithComments"})
DigestName = Literal["sha1", "sha256", "sha384", "sha512"]
DIGESTS: dict[str, DigestName] = {
    NS_DS + "sha1": "sha1",
    "http://www.w3.org/2001/04/xmlenc#sha256": "sha256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384": "sha384",
    "http://www.w3.org/2001/04/xmlenc#sha512": "sha512",
}
DIGEST_URIS = {name: uri for uri, name in DIGESTS.items()}
SIGNATURES = {
    NS_DS + "rsa-sha1": LEGACY_ALGORITHM,
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256": "sha256WithRSAEncryption",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256": "ecdsa-with-SHA256",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384": "ecdsa-with-SHA384",
}
SIGNATURE_URIS = {name: uri for uri, name in SIGNATURES.items()}


def lifted(element: etree._Element) -> etree._Element:
    """The element as the root of a document of its own, with every namespace that was in scope."""
    return parse_xml(etree.tostring(element, with_tail=False), what="signed element")


def canonical(root: etree._Element, method: str, prefixes: Sequence[str] = ()) -> bytes:
    """Canonical bytes of a lifted element. ``prefixes``: of InclusiveNamespaces, exclusive methods only."""
    exclusive = method.startswith(EXC_C14N)
    return etree.tostring(
        root,
        method="c14n",
        exclusive=exclusive,
        with_comments=method.endswith("WithComments"),
        inclusive_ns_prefixes=list(prefixes) if exclusive and prefixes else None,
    )
