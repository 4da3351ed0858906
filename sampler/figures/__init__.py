"""Figures of a peer audit: indicators, intervals, sizes, comparisons. Pure.

``indicator`` what is counted, ``display`` how it is written, ``rate`` what may be printed at all, ``interval`` one
proportion, ``strata`` allocation and strata, ``inclusion`` how probable a case was, ``estimate`` weighted and
clustered rates, ``frames`` who is missing, ``agreement`` two readers, ``planning`` sizes, ``comparison`` sites,
``blanking`` the k rule.

Invariants:

* counts stay integers and ratios of counts ``Fraction``: what is displayed was never rounded by binary arithmetic;
* floating point serves square roots, quantiles and integrals alone (``special``: beta, t and log-gamma);
* no clock, no disk, no hidden randomness: a simulation takes its seed from the caller.
"""
