"""The only entries for foreign bytes: one hardened door per format."""
