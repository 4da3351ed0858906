"""The process beside the PACS: doors, adapters, wiring, commands. Imports everything, imported by nobody."""
