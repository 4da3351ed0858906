"""The one door for foreign XML (T20).

Invariants:

* no entity is expanded, no DTD is loaded, nothing is fetched or opened, XInclude is not followed;
* a document with a DOCTYPE, an XInclude element, more than ``limit`` bytes or more than 256 levels is refused;
* a refusal names the rule and the line, never the content: libxml2's own messages quote the document, so only
  the name of its error type is passed on.

Comments and processing instructions stay in the tree (a signature may cover them); reading them as text is the
caller's mistake to avoid.
"""

from __future__ import annotations

from lxml import etree

from security.errors import BadInput

SIZE_MAX = 10 * 1024 * 1024
DEPTH_MAX = 256  # libxml2's own limit without XML_PARSE_HUGE; a test holds it there
_XINCLUDE = "{http://www.w3.org/2001/XInclude}*"
_HINT = "the sender must produce a plain, well-formed XML document"


def parse_xml(data: bytes, *, what: str, limit: int = SIZE_MAX) -> etree._Element:
    """The root element of ``data``.

    ``what``: the document's name in messages (``CDA``, ``RegistryResponse``); ``limit``: largest size, bytes.

    Raises:
        BadInput: ``xml-too-large``, ``xml-empty``, ``xml-doctype``, ``xml-xinclude``, ``xml-limit`` (depth,
            amplification, length of one value), ``xml-malformed``.
    """
    if len(data) > limit:
        raise BadInput(f"{what}: {len(data)} bytes of XML, at most {limit}", code="xml-too-large", hint=_HINT)
    if not data.strip():
        raise BadInput(f"{what}: no XML at all", code="xml-empty", hint=_HINT)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError:
        raise _refusal(data, what, parser) from None  # its message quotes the document
    if root.getroottree().docinfo.internalDTD is not None:
        raise BadInput(f"{what}: a DOCTYPE before line {root.sourceline}", code="xml-doctype", hint=_HINT)
    include = next(root.iter(_XINCLUDE), None)
    if include is not None:
        raise BadInput(f"{what}: an XInclude element at line {include.sourceline}", code="xml-xinclude", hint=_HINT)
    return root


def _refusal(data: bytes, what: str, parser: etree.XMLParser) -> BadInput:
    """Why libxml2 gave up, from its first error, as a rule and a line."""
    first = next(iter(parser.error_log), None)
    rule, line = (first.type_name, first.line) if first is not None else ("unknown", 0)
    if b"<!DOCTYPE" in data:
        code = "xml-doctype"  # whatever broke first, the document was not to have one
    elif rule == "ERR_RESOURCE_LIMIT":
        code = "xml-limit"
    else:
        code = "xml-malformed"
    return BadInput(f"{what}: XML refused at line {line}: {rule}", code=code, hint=_HINT)
