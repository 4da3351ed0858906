"""Fuzzing of what foreign bytes meet first: a target that any bytes may be given to, and a corpus that is replayed."""
