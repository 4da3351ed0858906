"""Exams as auditors see them: keyed pseudonyms, PS3.15 Annex E, proof that nothing stayed (FF-50, FF-51, T51, T53).

What the others lean on is imported from the modules themselves.
"""
