"""The documentation in a real browser, read from a folder: widths, colours, search, version, previous and next."""

import time

import pytest
from support.browser import asked, needs_browser, show
from support.pages import PAGES

from inr_factory import __version__

pytestmark = needs_browser
GUIDES = sorted(page[5:-3] for page in PAGES if page.count("/") == 1)
SCHEME = "return document.body.dataset.mdColorScheme"


def until(browser, script, *values):
    """What a script of the page returns, as soon as that is true."""
    for _ in range(100):
        if result := browser.execute_script(script, *values):
            return result
        time.sleep(0.1)
    raise AssertionError(script)


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_runs_over_the_edge_and_no_code_is_cut(browser, site, width):
    cut = (
        "return [...document.querySelectorAll('.language-sh code, .language-python code, .language-yaml code')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 60))"
    )
    for page in GUIDES:
        show(browser, site / f"{page}.html", width)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, page
        assert browser.execute_script(cut) == [], page


@pytest.mark.parametrize(("system", "expected"), [("light", "default"), ("dark", "slate")])
def test_colours_follow_the_system_until_they_are_switched(browser, site, system, expected):
    show(browser, site / "quickstart.html", scheme=system)
    browser.execute_script("localStorage.clear()")
    show(browser, site / "quickstart.html", scheme=system)
    assert until(browser, SCHEME) == expected
    schemes = []
    for _ in range(3):
        browser.find_element("css selector", "label[for^=__palette_]:not([hidden])").click()
        schemes.append(browser.execute_script(SCHEME))
    assert schemes == ["default", "slate", expected]


def test_search_finds_pages_without_a_network(browser, site):
    show(browser, site / "index.html")
    box = browser.find_element("css selector", ".md-search__input")
    box.click()
    box.send_keys("quarantine")
    until(
        browser,
        "return [...document.querySelectorAll('.md-search-result__link')].some(a => a.href.includes('.html') &&"
        " a.textContent.toLowerCase().includes('quarantine'))",
    )
    assert [url for url in asked(browser) if not url.startswith(("file:", "data:", "blob:"))] == []


def test_a_page_names_its_version_and_its_neighbours(browser, site):
    show(browser, site / "quickstart.html")
    assert __version__ in browser.find_element("css selector", "header .md-header__title").text
    links = browser.execute_script("return [...document.querySelectorAll('.md-footer__link')].map(a => a.pathname)")
    assert [link.rsplit("/", 1)[1] for link in links] == ["index.html", "arrays.html"]


def test_the_site_has_the_changelog(site):
    text = (site / "changelog.html").read_text()
    assert "Keep a Changelog" in text
    assert 'href="api.html"' in text
