"""``poterne doctor``: live probes of everything the gateway depends on (FF-47). Each line: verdict, what, cause,
remedy.

Invariants:

* nothing is changed anywhere: no row, no file, no study; only ``--send-test`` sends something, marked TEST;
* no probe waits longer than its time limit, and one that fails hides no other;
* a peer is asked only about an identifier that cannot exist and about the control study its settings name.
"""

from __future__ import annotations

from gateway.doctor.examination import Examination, examine, report
from gateway.doctor.findings import Finding, Verdict

__all__ = ["Examination", "Finding", "Verdict", "examine", "report"]
