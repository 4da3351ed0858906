"""A report that is a PDF, as pictures of its pages with what names somebody covered.

``document`` reads letters and their places and draws the pages, in a process of its own; ``proposal`` says what to
cover; ``redaction`` covers it and proves that nothing known is left. A person looks at every page before it leaves:
text drawn as lines, handwriting and scans are read by nobody else.
"""
