"""The verifiable draw ``drim-draw/1``: a sample that nobody steers or predicts alone, and that a stranger rechecks.

    canonical     the bytes of a JSON value that are hashed and signed
    table         FRAME.csv
    units         what can be drawn: tokens, order, leaves, root, inclusion proofs
    protocol      what was agreed before the frame: strata, sizes, modes, who signs replacements
    seed          commitments, beacon, seed
    selection     tickets, orders, replacements
    drawing       one draw: from a frame and what was revealed to the selected and the final cases
    transcript    the signed account of a draw, and the chain of voided ones
    checks        a transcript drawn again, step by step
    verifier      the same by other means: one file for strangers, which shares no code with the rest

Invariants:

* pure: bytes and values in, values out; no clock, no disk, no randomness;
* what a draw gives depends on the set of units, never on their order in the input;
* a refusal has one of the codes of ``faults``.
"""
