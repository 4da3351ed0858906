"""The TLS links of a site: with which pair we show ourselves, whom we believe, and how both change while it runs.

* ``links``: which links a configuration has; * ``link``: one of them, alive; * ``fetch``: lists and answers from
configured addresses; * ``watch``: all of them kept current; * ``pairs``: new pairs tried, switched to, taken back;
* ``commands``: what ``poterne certs`` prints.
"""
