"""The first report of a campaign: one HTML page with SVG charts. Pure.

``page`` the report · ``charts`` intervals as lines, answers as bars · ``texts`` what is said, in plain English.

Invariants:

* one file: no script, no font, no image from elsewhere; it prints on A4;
* every chart stands beside a table that says the same; nothing is told by colour alone;
* every rate has its interval, cases, frame and method beside it; an illustrative campaign shows none;
* whatever people wrote is escaped.
"""
