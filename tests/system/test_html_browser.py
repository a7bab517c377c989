"""The report in a real browser: nothing is asked of the network, nothing runs over on a phone, shapes turn."""

import json
import shutil
import time

import pytest
from support.small_sets import make_set

from inr_factory.cli.main import run
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.recipe import check_recipe

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="no chromium with chromedriver on this machine (apt-get install chromium chromium-driver)",
)

OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
LOCAL = {"backend": "local", "workers": 1}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The reports of a set of images, of a set of shapes, and of one with a name that asks for trouble."""
    folder = tmp_path_factory.mktemp("sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INR_FACTORY_CACHE", str(folder / "cache"))
        common = {"views": 2, "fit": {"steps": 20, "floor_psnr": -99, "lanes": 8}}
        images = {"name": "images", "source": {"collection": "digits"}, "limit": 30, "spec": {"hidden_dim": 8}} | common
        few = {"num_points": 300, "num_truth": 100, "num_surface": 50, "per_class": 1}
        shapes = {
            "name": "shapes",
            "source": {"collection": "primitives", **few},
            "limit": 5,
            "spec": {"hidden_dim": 8},
        }
        patch.setattr("inr_factory.reporting.html.renderings.RESOLUTION", 16)
        patch.setattr("inr_factory.reporting.html.renderings.FRAME_SIDE", 40)
        for fields in (images, shapes | common):
            fit_dataset(check_recipe(fields, origin="test"), folder / fields["name"], **LOCAL)
            assert run(["report", str(folder / fields["name"])]) == 0
        make_set(folder / "evil", classes=("<script>document.title='run'</script>", "W" * 300, "c"))
        assert run(["report", str(folder / "evil")]) == 0
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def show(browser, path, width=1280, scheme="light", motion="no-preference"):
    """Open a page anew, with nothing in the logs from before."""
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": motion}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())


def asked(browser):
    """The URLs that the page asked for."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


@pytest.mark.parametrize("name", ["images", "shapes", "evil"])
def test_it_asks_for_no_other_file_and_has_no_errors(browser, pages, name):
    path = pages / name / "report.html"
    show(browser, path)
    time.sleep(0.3)
    assert [url for url in asked(browser) if not url.startswith("data:")] == [path.as_uri()]
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    assert browser.title != "run"


def test_a_page_that_asks_for_something_would_be_caught(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<img src='other.png'><script>console.error('x'); nothing()</script>")
    show(browser, page)
    assert len(asked(browser)) > 1
    assert [entry["level"] for entry in browser.get_log("browser")].count("SEVERE") >= 2


@pytest.mark.parametrize("width", [390, 760, 1280])
@pytest.mark.parametrize("name", ["images", "shapes", "evil"])
def test_nothing_runs_over_the_edge(browser, pages, name, width):
    show(browser, pages / name / "report.html", width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    wide = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') && !e.closest('svg')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []


def test_every_section_is_there_and_every_link_leads_to_one(browser, pages):
    for name in ("images", "shapes"):
        show(browser, pages / name / "report.html")
        sections = browser.execute_script("return [...document.querySelectorAll('main section')].map(s => s.id)")
        links = browser.execute_script("return [...document.querySelectorAll('nav a')].map(a => a.hash.slice(1))")
        assert links == sections == ["made", "pictures", "quality", "layers", "distances", "map", "quarantine", "basis"]
        heights = browser.execute_script(
            "return [...document.querySelectorAll('main section')].map(s => s.offsetHeight)"
        )
        assert min(heights) > 60
        loaded = browser.execute_script(
            "return [...document.images].every(i => i.complete && i.naturalWidth > 0 && i.alt)"
        )
        assert loaded


def test_dark_is_dark_and_light_is_light(browser, pages):
    script = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    levels = {}
    for scheme in ("light", "dark"):
        show(browser, pages / "images/report.html", scheme=scheme)
        levels[scheme] = sum(browser.execute_script(script))
    assert levels["dark"] < 150 < 600 < levels["light"]


FRAME = "return Number(document.querySelectorAll('.orbit')[arguments[0]].style.getPropertyValue('--frame') || 2)"


def test_shapes_turn_by_themselves_and_stop_when_asked(browser, pages):
    show(browser, pages / "shapes/report.html")
    before = browser.execute_script(FRAME, 0)
    time.sleep(0.7)
    assert browser.execute_script(FRAME, 0) != before
    browser.execute_script("document.getElementById('spin').click()")
    stopped = browser.execute_script(FRAME, 0)
    time.sleep(0.5)
    assert browser.execute_script(FRAME, 0) == stopped
    assert browser.execute_script("return document.getElementById('spin').textContent") == "Turn all"


def test_shapes_turn_by_dragging_and_by_keys_alone_where_motion_is_not_wanted(browser, pages):
    from selenium.webdriver import ActionChains, Keys

    show(browser, pages / "shapes/report.html", motion="reduce")
    time.sleep(0.5)
    assert browser.execute_script(FRAME, 0) == 2
    orbit = browser.find_element("css selector", ".orbit")
    ActionChains(browser).move_to_element(orbit).click_and_hold().move_by_offset(60, 0).release().perform()
    dragged = browser.execute_script(FRAME, 0)
    assert dragged != 2
    shown = "return getComputedStyle(document.querySelector('.strip')).backgroundPositionX"
    position = browser.execute_script(shown)
    orbit.send_keys(Keys.ARROW_LEFT)
    assert browser.execute_script(FRAME, 0) == (dragged + 1) % 24
    assert browser.execute_script(shown) != position
    assert browser.execute_script(FRAME, 1) == 2


def test_a_class_pointed_at_stands_out_on_the_maps(browser, pages):
    show(browser, pages / "images/report.html")
    browser.execute_script("document.querySelector('.classes li').dispatchEvent(new Event('pointerenter'))")
    time.sleep(0.4)
    strengths = browser.execute_script(
        "return [...document.querySelectorAll('.maps .points')].map(p => [p.classList.contains('chosen'), Number(getComputedStyle(p).opacity)])"
    )
    assert all((strength > 0.5) == chosen for chosen, strength in strengths)
    assert {chosen for chosen, _ in strengths} == {True, False}
