"""Who is told of what: the state is looked at, what is wrong becomes an alert, each channel hears of it once.

Invariants:

* an alert holds counts, reasons and names of our own; no patient, no study, no accession number ever;
* what is wrong is read off the database and the machine at each look, never from memory: a restart neither tells
  twice nor forgets (``rows``);
* a channel that does not answer is tried again for ever, later and later; it disturbs neither the other channel
  nor the gateway (``watch``);
* what should be told is decided by pure functions (``conditions``).
"""
