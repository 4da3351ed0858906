"""PACS adapters: each asks one peer what a study holds and answers in the frozen types of ``indexer.study``."""
