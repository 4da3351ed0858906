"""Private keys and certificates: signing, TLS contexts, and the authority of the lab."""
