"""The report as one HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

from sampler.campaign.results import IndicatorResult, Results
from sampler.figures import display
from sampler.figures.interval import CONFIDENCE
from sampler.figures.rate import Rate
from sampler.grids.findings import Finding
from sampler.grids.grid import Grid
from sampler.report import charts
from sampler.report import texts as t
from sampler.report.texts import Say

_STYLE = (resources.files("sampler.report") / "report.css").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is reported. ``site``, ``body``: as the campaign names them; ``is_draft``: before the commission's word;
    the hashes in hexadecimal."""

    campaign: str
    title: str
    body: str
    state: str
    is_draft: bool
    grid: Grid
    results: Results
    findings: Sequence[Finding]
    transcript_hash: str
    protocol_hash: str
    frame_root: str


def page(report: Report, say: Say, *, lang: str) -> str:
    """The whole page, in the language of ``say``."""
    title = say(t.TITLE, title=report.title)
    sections = (
        _head(report, say, title, lang),
        _drawn(report, say),
        _indicators(report, say, lang),
        _strata(report, say, lang),
        _coverage(report, say, lang),
        _findings(report, say, lang),
        _readers(report, say, lang),
        _reading(report, say),
    )
    return (
        f'<!DOCTYPE html>\n<html lang="{lang}"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _head(report: Report, say: Say, title: str, lang: str) -> str:
    terms = report.results.terms
    facts = {
        t.CAMPAIGN: report.campaign,
        t.BODY: report.body,
        t.SITE: terms.site,
        t.STATE: say(t.STATES[report.state]),
        t.GRID: f"{report.grid.title[lang]} ({report.grid.reference})",
    }
    draft = f'<p class="note">{escape(say(t.DRAFT))}</p>' if report.is_draft else ""
    status = f"<p>{escape(report.grid.status[lang])}</p>"
    return f"<h1>{escape(title)}</h1>{draft}{_list(facts, say)}{status}"


def _drawn(report: Report, say: Say) -> str:
    results = report.results
    plans = {plan.id: plan for plan in results.terms.strata}
    rows = [
        (name, str(size), str(plans[name].n), say(t.MODES[plans[name].mode], cap=plans[name].cap))
        for name, size in results.sizes.items()
    ]
    columns = (t.COLUMN_STRATUM, t.COLUMN_SIZE, t.COLUMN_PLANNED, t.COLUMN_MODE)
    drawn = results.cases + results.replaced
    replaced = f"<p>{escape(say(t.REPLACED, replaced=results.replaced, drawn=drawn))}</p>" if results.replaced else ""
    hashes = {
        t.FRAME: f"{say(t.FRAMES[results.terms.frame])}, N = {results.population}",
        t.FRAME_ROOT: report.frame_root,
        t.PROTOCOL: report.protocol_hash,
        t.TRANSCRIPT: report.transcript_hash,
    }
    return _section(
        say(t.HOW_DRAWN), _table(say, columns, rows, say(t.HOW_DRAWN), numbers={1, 2}) + replaced + _list(hashes, say)
    )


def _indicators(report: Report, say: Say, lang: str) -> str:
    found = report.results.indicators
    titles = {code: title[lang] for code, title in report.grid.indicators.items()}
    if report.results.terms.objective == "illustrative":
        counted = [(titles[one.code], _answers(one)) for one in found]
        table = _table(say, (t.COLUMN_INDICATOR, t.COLUMN_ANSWERS), counted, say(t.INDICATORS), numbers={1})
        return _section(say(t.INDICATORS), f'<p class="note">{escape(say(t.ILLUSTRATIVE))}</p>{table}')
    lines = [charts.Row(label=titles[one.code], rate=_rate(one), without=say(t.NOT_CALCULABLE)) for one in found]
    caption = say(t.CHART_INDICATORS, confidence=_confidence(found, lang))
    chart = _figure(charts.intervals(lines, title=caption, lang=lang), caption)
    rows = [(titles[one.code], *_cells(_rate(one), say, lang, _answers(one))) for one in found]
    columns = _rate_columns(t.COLUMN_INDICATOR)
    told = [note for one in found if (rate := _rate(one)) for note in rate.notes]
    notes = [say(t.NOTES[note]) for note in dict.fromkeys(told)]
    notes += [
        say(t.WORST, indicator=titles[one.code], worst=display.ratio(one.worst, lang=lang))
        for one in found
        if one.worst is not None
    ]
    table = _table(say, columns, rows, say(t.INDICATORS), numbers={1, 2, 3, 4}, confidence=_confidence(found, lang))
    return _section(say(t.INDICATORS), chart + table + _items(notes))


def _strata(report: Report, say: Say, lang: str) -> str:
    cells = report.results.by_stratum
    if not cells:
        return ""
    made = []
    for code, title in report.grid.indicators.items():
        mine = {stratum: rate for (stratum, of), rate in cells.items() if of == code}
        if not any(mine.values()):
            continue
        lines = [charts.Row(label=one, rate=rate, without=say(t.BLANKED)) for one, rate in mine.items()]
        caption = say(t.CHART_STRATA, indicator=title[lang])
        made.append(_figure(charts.intervals(lines, title=caption, lang=lang), caption))
        rows = [
            (one, *_cells(rate, say, lang, f"{rate.conform}/{rate.evaluated}" if rate else "", without=t.BLANKED))
            for one, rate in mine.items()
        ]
        columns = _rate_columns(t.COLUMN_STRATUM)
        made.append(
            _table(
                say,
                columns,
                rows,
                title[lang],
                numbers={1, 2, 3, 4},
                confidence=_confidence(report.results.indicators, lang),
            )
        )
    body = "".join(made) or f"<p>{escape(say(t.BLANKED))}</p>"
    return _section(say(t.STRATA), f"<p>{escape(say(t.BLANKED_WHY))}</p>{body}")


def _coverage(report: Report, say: Say, lang: str) -> str:
    counts = report.results.grid_counts
    is_na_in = report.results.terms.na_counts_as_evaluated
    numbers = {"C": counts.conform, "NC": counts.nonconform, "NA": counts.not_applicable, "NE": counts.not_evaluated}
    told = say(
        t.COVERAGE_LINE,
        coverage=_spaced(display.percent(report.results.coverage, lang=lang), lang),
        evaluated=counts.evaluated + (counts.not_applicable if is_na_in else 0),
        due=counts.total - (0 if is_na_in else counts.not_applicable),
    )
    caption = say(t.CHART_ANSWERS, conform=numbers["C"], nonconform=numbers["NC"], na=numbers["NA"], ne=numbers["NE"])
    parts = [charts.Part(label=say(t.ANSWERS[code]), count=count) for code, count in numbers.items()]
    chart = f"<figure>{charts.bar(parts, title=caption)}</figure>"
    rows = [(say(t.ANSWERS[code]), str(count)) for code, count in numbers.items()]
    table = _table(say, (t.COLUMN_ANSWER, t.COLUMN_COUNT), rows, say(t.COVERAGE), numbers={1})
    rule = say(t.COVERAGE_NA if is_na_in else t.COVERAGE_NOT_NA)
    return _section(say(t.COVERAGE), f"<p>{escape(told)} {escape(rule)}</p>{chart}{table}")


def _findings(report: Report, say: Say, lang: str) -> str:
    items = {item.code: item.text[lang] for item in report.grid.items}
    if not report.findings:
        return _section(say(t.FINDINGS), f"<p>{escape(say(t.NO_FINDING))}</p>")
    told = say(t.FINDINGS_LINE, n=report.results.nonconformities, requirements=len(items))
    rows = [
        (
            f"{one.requirement} {items[one.requirement]}",
            say(t.SEVERITIES[one.final or one.severity]),
            say(t.FINDING_STATES[one.state]),
            one.text,
        )
        for one in report.findings
    ]
    columns = (t.COLUMN_REQUIREMENT, t.COLUMN_SEVERITY, t.COLUMN_STATE, t.COLUMN_TEXT)
    return _section(say(t.FINDINGS), f"<p>{escape(told)}</p>" + _table(say, columns, rows, say(t.FINDINGS)))


def _readers(report: Report, say: Say, lang: str) -> str:
    twice = [one for one in report.results.indicators if one.readers]
    if not twice:
        return ""
    rows = []
    for one in twice:
        assert one.readers is not None
        figures = (one.readers.agreement, one.readers.kappa, one.readers.ac1)
        written = [say(t.NOT_CALCULABLE) if x is None else display.decimals(x, 2, lang=lang) for x in figures]
        rows.append((report.grid.indicators[one.code][lang], str(one.readers.pairs), *written))
    heads = [say(t.COLUMN_INDICATOR), say(t.COLUMN_PAIRS), say(t.COLUMN_AGREEMENT), "kappa (Cohen)", "AC1 (Gwet)"]
    asked = _spaced(f"{report.results.terms.double_review_percent}%", lang)
    told = say(t.READ_TWICE, n=report.results.read_twice, cases=report.results.cases, percent=asked)
    return _section(
        say(t.READERS), f"<p>{escape(told)}</p>" + _plain_table(heads, rows, say(t.READERS), numbers={1, 2, 3, 4})
    )


def _reading(report: Report, say: Say) -> str:
    if report.results.terms.objective == "illustrative":
        return ""
    return _section(say(t.METHODS), "".join(f"<p>{escape(say(one))}</p>" for one in t.READING))


def _rate(one: IndicatorResult) -> Rate | None:
    return one.rate if isinstance(one.rate, Rate) else None


def _answers(one: IndicatorResult) -> str:
    return f"{one.counts.conform}/{one.counts.evaluated}"


def _confidence(found: Sequence[IndicatorResult], lang: str) -> str:
    shown = [rate.interval.confidence for one in found if (rate := _rate(one))]
    return _spaced(f"{round(100 * (shown[0] if shown else CONFIDENCE))}%", lang)


def _spaced(percent: str, lang: str) -> str:
    """In French a no-break space stands before the sign."""
    return percent.replace("%", "\N{NARROW NO-BREAK SPACE}%") if lang == "fr" else percent


def _rate_columns(first: str) -> tuple[str, ...]:
    return (first, t.COLUMN_ESTIMATE, t.COLUMN_INTERVAL, t.COLUMN_ANSWERS, t.COLUMN_CASES, t.COLUMN_METHOD)


def _cells(
    rate: Rate | None, say: Say, lang: str, answers: str, *, without: str = t.NOT_CALCULABLE
) -> tuple[str, str, str, str, str]:
    if rate is None:
        return say(without), "", answers, "", ""
    return (
        display.ratio(rate.estimate, lang=lang),
        display.span(rate.interval, lang=lang),
        answers,
        say(t.CASES_OF, cases=rate.cases, population=rate.basis.population),
        say(t.METHODS_TOLD[rate.interval.method]),
    )


def _figure(chart: str, caption: str) -> str:
    return f"<figure>{chart}<figcaption>{escape(caption)}</figcaption></figure>"


def _section(title: str, content: str) -> str:
    shown = escape(title)
    # A caption that repeats the heading is kept for those who hear the page.
    content = content.replace(f"<caption>{shown}</caption>", f'<caption class="quiet">{shown}</caption>')
    return f"<section><h2>{shown}</h2>{content}</section>"


def _list(facts: Mapping[str, str], say: Say) -> str:
    return "<dl>" + "".join(f"<dt>{escape(say(k))}</dt><dd>{escape(v)}</dd>" for k, v in facts.items()) + "</dl>"


def _items(lines: Iterable[str]) -> str:
    told = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{told}</ul>" if told else ""


def _table(
    say: Say,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str,
    *,
    numbers: frozenset[int] | set[int] = frozenset(),
    confidence: str = "",
) -> str:
    heads = [say(one, confidence=confidence) if "{" in one else say(one) for one in columns]
    return _plain_table(heads, rows, caption, numbers=numbers)


def _plain_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str, *, numbers: frozenset[int] | set[int]
) -> str:
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    made = []
    for row in rows:
        cells = [
            f"<td{' class=n' if number in numbers else ''}>{escape(cell)}</td>"
            for number, cell in enumerate(row)
            if number
        ]
        made.append(f'<tr><th scope="row">{escape(row[0])}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(made)}</tbody></table></div>"
    )
