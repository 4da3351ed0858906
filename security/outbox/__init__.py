"""The generic outbox: intended effects on the outside, committed with their cause, carried out exactly once.

``states`` is the table, ``retry`` the pure waiting rules, ``jobs`` the rows, ``engine`` the worker. What a job
*means* belongs to the package that registers its kind (``port.JobKind``).
"""
