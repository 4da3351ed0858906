"""Three-way reconciliation: what the PACS holds, what we know, what the index shows (reliability §6)."""
