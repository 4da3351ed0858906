"""Planted defects: what guards identity, loss or access has one here that must turn its test red.

``defects`` is the list, ``python -m tests.mutants`` plants each in a copy of the checkout and runs its tests there.
"""
