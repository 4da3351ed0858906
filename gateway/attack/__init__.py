"""``poterne selftest attack``: known attacks sent to this site's own doors, and what each of them got."""
