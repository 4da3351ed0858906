"""Peer audit: frame, draw, pseudonymised case, grid, indicators. Not there yet: see docs/status.md."""
