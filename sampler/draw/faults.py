"""Why a draw is refused. The first six codes are those of ``drim-draw/1``; the others name what it leaves open.

Invariants: a message names the row, the stratum or the role; no cell of a frame is quoted (one may hold a name).
"""

from __future__ import annotations

from security.errors import BadInput

TOKEN = "E_TOKEN"  # noqa: S105 - a code, no secret
EMPTY_FRAME = "E_EMPTY_FRAME"
DUPLICATE_UNIT = "E_DUPLICATE_UNIT"
N_GT_STRATUM = "E_N_GT_STRATUM"
COMMIT_MISMATCH = "E_COMMIT_MISMATCH"
BEACON = "E_BEACON"
CANONICAL = "E_CANONICAL"
PROTOCOL = "E_PROTOCOL"
CONTRIBUTION = "E_CONTRIBUTION"
REPLACEMENT = "E_REPLACEMENT"
REASON = "E_REASON"
NO_RESERVE = "E_NO_RESERVE"
SIGNATURE = "E_SIGNATURE"
CHAIN = "E_CHAIN"
VOID = "E_VOID"
TIMES = "E_TIMES"

_HINTS = {
    TOKEN: "a token is 1 to 64 of A-Z a-z 0-9 . _ -",
    EMPTY_FRAME: "give a frame that holds at least one unit",
    DUPLICATE_UNIT: "a unit stands once in a frame; remove the other row before the frame is committed",
    N_GT_STRATUM: "draw fewer units, or merge the stratum, and freeze the protocol anew before anything is committed",
    COMMIT_MISMATCH: "the draw is void: make it anew with the next draw_no",
    BEACON: "take round, signature and randomness of one round from two sources of the beacon",
    CANONICAL: "use strings, integers, booleans, null, arrays and objects with ASCII names; no fractions",
    PROTOCOL: "correct the protocol before it is frozen",
    CONTRIBUTION: "the auditor and the site, and at will the commission, each give 32 bytes as 64 hexadecimal digits",
    REPLACEMENT: "leave out what is computed, or correct it",
    REASON: "only the closed list of reasons lets a case be replaced",
    NO_RESERVE: "no unit of the stratum is left: the case stays without replacement",
    SIGNATURE: "two of the protocol's signers sign the replacement",
    CHAIN: "give the transcript of the draw before, and the next draw_no",
    VOID: "name the party and a reason of the list",
    TIMES: "give committed_at and revealed_at as UTC moments, such as 2025-03-03T08:00:00Z, in this order",
}


def refused(code: str, what: str) -> BadInput:
    """The refusal of ``what``, with what to do about it."""
    return BadInput(what, code=code, hint=_HINTS[code])
