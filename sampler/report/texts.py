"""Every text of the report, in plain English; its French stands with the words of the product."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[..., str]
"""``say(text, **values)``: the text in the reader's language."""

TITLE = "Peer audit report: {title}"
DRAFT = "Draft: the site has not answered and the commission has not decided."
ILLUSTRATIVE = (
    "This draw was declared illustrative: it shows cases and estimates nothing. There is no rate to print, and none"
    " is printed."
)
HOW_DRAWN = "How the cases were drawn"
INDICATORS = "Indicators"
STRATA = "By stratum"
COVERAGE = "How much of the grid was evaluated"
FINDINGS = "Non-conformities"
READERS = "Two readers of the same cases"
READ_TWICE = "{n} of {cases} cases were read by two; the protocol asks for {percent}."
METHODS = "How to read the figures"
NO_FINDING = "None was stated."
BLANKED = "blanked"
BLANKED_WHY = (
    "A line is blanked when it stands on fewer than 5 cases or 3 practitioners, or when it would give such a line"
    " away."
)
NOT_CALCULABLE = "not calculable"
CASES_OF = "{cases} of {population}"
CHART_INDICATORS = "Each indicator: estimate (point) and {confidence} interval (line), from 0 to 1"
CHART_ANSWERS = (
    "Answers to the grid: {conform} conformant, {nonconform} non-conformant, {na} not applicable, {ne} not evaluated"
)
CHART_STRATA = "{indicator} by stratum: estimate (point) and interval (line), from 0 to 1"
COVERAGE_LINE = (
    "{coverage} of the grid was evaluated: {evaluated} of {due} answers due. Non-conformities alone do not compare"
    " audits: read them with this figure."
)
COVERAGE_NA = "Answers that do not apply count as evaluated in this campaign."
COVERAGE_NOT_NA = "Answers that do not apply are left out of what was due."
FINDINGS_LINE = "{n} in {requirements} requirements of the grid. They are stated apart from the answers about cases."
REPLACED = "{replaced} of {drawn} drawn cases were replaced or withdrawn."
WORST = "{indicator}, if every such case had failed: {worst}"
SIMULATED = "Chances of cases were computed by 20,000 replays of the draw."
TRANSCRIPT = "Transcript of the draw (SHA-256)"
PROTOCOL = "Protocol (hash)"
FRAME_ROOT = "Frame (root)"
GRID = "Grid"
CAMPAIGN = "Campaign"
SITE = "Site"
BODY = "Body"
STATE = "State"
FRAME = "Frame"

COLUMN_INDICATOR = "Indicator"
COLUMN_ESTIMATE = "Estimate"
COLUMN_INTERVAL = "{confidence} interval"
COLUMN_ANSWERS = "Conformant of evaluated"
COLUMN_CASES = "Cases (n of N)"
COLUMN_METHOD = "Method"
COLUMN_STRATUM = "Stratum"
COLUMN_SIZE = "In the frame"
COLUMN_PLANNED = "To draw"
COLUMN_MODE = "Mode"
COLUMN_ANSWER = "Answer"
COLUMN_COUNT = "How many"
COLUMN_REQUIREMENT = "Requirement"
COLUMN_SEVERITY = "Severity"
COLUMN_STATE = "Decision"
COLUMN_TEXT = "What was found"
COLUMN_PAIRS = "Answers read twice"
COLUMN_AGREEMENT = "Agreement"

ANSWERS = {"C": "conformant", "NC": "non-conformant", "NA": "not applicable", "NE": "not evaluated"}
SEVERITIES = {"minor": "minor", "major": "major", "critical": "critical"}
FINDING_STATES = {
    "open": "before the commission",
    "maintained": "maintained",
    "requalified": "requalified",
    "withdrawn": "withdrawn",
}
STATES = {
    "DRAFT": "draft",
    "PROTOCOL_FROZEN": "protocol frozen",
    "FRAME_COMMITTED": "frame committed",
    "SEED_REVEALED": "seed revealed",
    "DRAWN": "drawn",
    "IN_REVIEW": "in review",
    "REPORT_DRAFT": "report in draft",
    "CONTRADICTORY": "the site answers",
    "COMMISSION": "before the commission",
    "DECIDED": "decided",
    "FOLLOW_UP": "followed up",
    "CLOSED": "closed",
    "DRAW_VOIDED": "draw voided",
    "SUSPENDED": "suspended",
    "CANCELLED": "cancelled",
}
FRAMES = {"performed exams": "performed exams", "requested exams": "requested exams"}
MODES = {
    "srs": "plain draw",
    "cap": "at most {cap} for each practitioner in a round",
    "two_stage": "practitioners first, then a case of each",
}
METHODS_TOLD = {
    "cluster": "cases as clusters, Student",
    "cluster-logit": "cases as clusters, Student, logit scale",
    "cluster-no-variance": "all cases alike: exact bound on their number",
    "census": "the whole frame was seen",
    "single-case": "one case in each stratum: no interval",
}
NOTES = {
    "weighted": "Cases had unequal chances to be drawn: each is weighted by its own.",
    "simulated-weights": SIMULATED,
    "lone-case-in-a-stratum": (
        "A stratum shows a single case: the largest possible variance stands in for the one it cannot show."
    ),
    "accepted-requests-only": (
        "Accepted requests only: the site keeps no usable register of refused requests, so that these were not drawn."
    ),
}
READING = (
    (
        "An estimate is of the whole frame, not of the drawn cases alone. The interval says between which values the"
        " true rate of the frame lies in 95 audits of 100 that are drawn like this one. Answers of one case resemble"
        " each other: the interval counts cases, not answers."
    ),
    (
        "An indicator divides conformant answers by evaluated ones; answers that do not apply or were not evaluated"
        " are in neither. What is below 1 is never written as 1."
    ),
    "Audits are not ranked by these figures.",
)


def every() -> list[str]:
    """Every text, for whoever checks that each has its French."""
    found: list[str] = []
    for name, value in globals().items():
        if name.isupper():
            texts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
            found += texts
    return found
