"""The root of every error Poterne raises on purpose.

```
Fault                     code, hint, retryable; the message is safe to log
├── BadInput              the sender must act: foreign bytes that break a rule (where, why, what to do)
├── Refused               the caller must act: not allowed, or not in this state
├── Unavailable           a peer or a resource must come back (retryable)
└── Broken                the operator must act: our own store, key or configuration is unusable
```

Invariants:

* a message names what failed, where and why, never a patient's value;
* ``hint`` tells a person what to do next;
* the tree is split by who must act, so a caller decides by type, not by text.
"""

from __future__ import annotations


class Fault(Exception):
    """What failed and who must act.

    Args:
        message: what, where, why; safe to log (no patient data).
        code: stable identifier of the fault, lower-case words joined by hyphens.
        hint: what a person should do next.
    """

    retryable: bool = False

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} [{self.code}]" + (f" → {self.hint}" if self.hint else "")


class BadInput(Fault):
    """Foreign input breaks a rule; the sender must send something else."""


class Refused(Fault):
    """The request is understood and not allowed, or not in this state."""


class Unavailable(Fault):
    """A peer or resource does not answer now; the same request may succeed later."""

    retryable = True


class Broken(Fault):
    """Our own store, key or configuration is unusable; an operator must act before work goes on."""
