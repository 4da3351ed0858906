"""One drawn exam made into a case: its images, report and request, pseudonymised at the site, confirmed by a person.

``work`` is what the site keeps while it prepares a case, ``preparation`` makes and checks it, ``dose`` reads the
figures of dose, ``package`` writes what may be read by an auditor.
"""
