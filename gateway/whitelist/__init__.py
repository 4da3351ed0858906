"""The signed list of every box of the network (drim-m §10): read, verified, kept, refreshed, compared.

Invariants:

* a list counts when its signature holds, its signer is the pinned one, chains to the configured authorities, is valid
  now and known not to be revoked; anything else is refused by name and the last good list stays in use;
* a list is never followed by an older one;
* what is kept is the document as it came, signature included, in the store.
"""
