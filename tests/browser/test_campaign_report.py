"""The report of a campaign in a browser: axe-core in both languages, nothing wider than a telephone, whole on A4."""

from __future__ import annotations

import pypdfium2
import pytest

from tests.browser.test_accessibility import AXE, RULES
from tests.unit.test_campaign_report import html, report

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]


@pytest.mark.parametrize("lang", ["fr", "en"])
async def test_the_report_breaks_no_rule_of_wcag_21_a_or_aa_and_prints_whole(browser, tmp_path, lang):
    path = tmp_path / "report.html"
    path.write_text(html(report(readers=2), lang), encoding="utf-8")
    context = await browser.new_context(bypass_csp=True)
    try:
        page = await context.new_page()
        await page.goto(path.as_uri())
        await page.evaluate(AXE)
        for width in (1280, 390):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            found = await page.evaluate("rules => axe.run(document, rules)", RULES)
            assert [f"{one['id']}: {node['target']}" for one in found["violations"] for node in one["nodes"]] == []
        printed = pypdfium2.PdfDocument(await page.pdf(format="A4", print_background=True))
        text = "".join(printed[i].get_textpage().get_text_range() for i in range(len(printed)))
        assert ("Comment lire les chiffres" if lang == "fr" else "How to read the figures") in text
        sides = [printed[i].get_size() for i in range(len(printed))]  # A4: 595.3 by 841.9 points
        assert all(abs(wide - 595.3) < 1.5 and abs(high - 841.9) < 1.5 for wide, high in sides)
    finally:
        await context.close()
