"""Peer audit: frame, draw, pseudonymised case, grid, indicators. What is there: docs/status.md."""
