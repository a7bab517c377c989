"""The report in a real browser: nothing is asked of the network, nothing runs over on a phone, shapes turn, and the
playground computes what Python computes."""

import importlib.util
import io
import json
import shutil
import time
from base64 import b64decode, b64encode
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from support.browser import asked, needs_browser, show
from support.paths import ROOT
from support.small_sets import make_set
from support.specs import VARIANTS

from inr_factory.cli.main import run
from inr_factory.generation.execution.fit_dataset import fit_dataset
from inr_factory.generation.recipe import check_recipe
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.transforms.coordinate import rotate2d, scale, translate
from inr_factory.learning.transforms.intensity import brightness, contrast

pytestmark = needs_browser
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
        shape = SirenSpec(3, 1, hidden_dim=4, omega_0=7.0)
        make_set(folder / "evil", shape, classes=("<script>document.title='run'</script>", "W" * 300, "c"))
        assert run(["report", str(folder / "evil")]) == 0
    return folder


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
        assert (
            links
            == sections
            == ["made", "pictures", "playground", "quality", "layers", "distances", "map", "quarantine", "basis"]
        )
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


# --- playground ---


def data(browser):
    return browser.execute_script("return window.PLAYGROUND")


def inr_of(fields, weights=None):
    """The INR that the page has, as Python reads it."""
    flat = np.frombuffer(b64decode(weights or fields["weights"]), "<f4").copy()
    return INRBatch.from_flat(SirenSpec.from_dict(fields["spec"]), torch.from_numpy(flat)[None])


def card(browser, title):
    cards = browser.find_elements("css selector", ".pg-card")
    return next(each for each in cards if title in each.find_element("css selector", "h3").text.lower())


def painted(browser, canvas):
    """What a canvas shows when it is complete: size, view and values."""
    state = (
        "const p = arguments[0].picture; return {busy: arguments[0].getAttribute('aria-busy'), columns: p.columns, "
        "rows: p.rows, view: p.view, height: p.one.height, width: p.one.width, in_dim: p.one.spec.in_dim}"
    )
    for _ in range(600):
        shown = browser.execute_script(state, canvas)
        if shown["busy"] == "false":
            values = browser.execute_script("return Array.from(arguments[0].picture.values)", canvas)
            return SimpleNamespace(values=np.array(values), **shown)
        time.sleep(0.1)
    raise AssertionError("the canvas is not complete after a minute")


def pixels_of(browser, canvas):
    """(P, 4) levels of red, green, blue and opacity."""
    script = "const c = arguments[0]; return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    return np.array(browser.execute_script(script, canvas)).reshape(-1, 4)


def coords_of(shown):
    """Where the pixels of a canvas lie in the coordinates of its INR, row by row."""
    ends = [side / (side - 1) if side else 1.0 for side in (shown.width, shown.height)]
    right, down = (
        shown.view[axis] + ((np.arange(count) + 0.5) / count * 2 - 1) * end / shown.view["zoom"]
        for axis, count, end in zip("xy", (shown.columns, shown.rows), ends, strict=True)
    )
    right, down = (grid.ravel() for grid in np.meshgrid(right, down))
    if shown.in_dim == 2:
        return torch.tensor(np.stack([right, down], 1), dtype=torch.float32)
    coords = np.zeros((len(right), 3))
    axis = shown.view["axis"]
    coords[:, axis], coords[:, (axis + 1) % 3], coords[:, (axis + 2) % 3] = shown.view["at"], right, -down
    return torch.tensor(coords, dtype=torch.float32)


def assert_shows(browser, canvas, inr):
    shown = painted(browser, canvas)
    np.testing.assert_allclose(shown.values, inr(coords_of(shown))[0].flatten().numpy(), atol=1e-3, rtol=0)
    return shown


def slide(browser, part, label, value):
    slider = part.find_element("css selector", f"input[aria-label='{label}']")
    browser.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
        slider,
        value,
    )


def of_images(browser, pages, **options):
    """The card of images on the page of images, and the canvas of its INR."""
    show(browser, pages / "images/report.html", motion="reduce", **options)  # clicks wait for no smooth scrolling
    part = card(browser, "zoom")
    return part, part.find_elements("css selector", ".pg-row canvas")[1]


def test_an_image_and_its_changes_through_the_weights_are_those_of_python(browser, pages):
    part, canvas = of_images(browser, pages)
    inr = inr_of(data(browser)["inrs"][0])
    plain = assert_shows(browser, canvas, inr)
    assert plain.columns >= 200
    assert np.abs(pixels_of(browser, canvas)[:, 0] - plain.values.clip(0, 1) * 255).max() <= 0.51
    changes = [
        ("Rotate", 40, lambda inr: rotate2d(inr, 40)),
        ("Scale", 0.75, lambda inr: scale(inr, 0.75)),
        ("Move right", 0.25, lambda inr: translate(inr, torch.tensor([0.25, 0.0]))),
        ("Move down", -0.5, lambda inr: translate(inr, torch.tensor([0.0, -0.5]))),
        ("Contrast", 1.5, lambda inr: contrast(inr, 1.5)),
        ("Brightness", 0.2, lambda inr: brightness(inr, 0.2)),
    ]
    for label, value, change in changes:
        slide(browser, part, label, value)
        inr = change(inr)
        changed = assert_shows(browser, canvas, inr)
        assert np.abs(changed.values - plain.values).max() > 0.05, label
    small = part.find_element("css selector", ".pg-weights p").text
    assert small.startswith(f"{3 * 8 + 8 + 1} of {inr.spec.num_parameters} numbers changed")
    next(b for b in part.find_elements("css selector", "button") if b.text == "Weights as fitted").click()
    assert_shows(browser, canvas, inr_of(data(browser)["inrs"][0]))


def test_each_image_can_be_chosen(browser, pages):
    part, canvas = of_images(browser, pages)
    shown = data(browser)["inrs"]
    assert len({one["name"] for one in shown}) == len(shown) == 8
    buttons = part.find_elements("css selector", ".pg-thumbnails button")
    buttons[3].click()
    assert [button.get_attribute("aria-pressed") for button in buttons].index("true") == 3
    assert_shows(browser, canvas, inr_of(shown[3]))


def test_the_middle_of_a_morph_is_the_mean_of_the_weights_in_each_way(browser, pages):
    show(browser, pages / "images/report.html", motion="reduce")
    part = card(browser, "morph")
    canvases = part.find_elements("css selector", ".pg-row canvas")
    pairs = data(browser)["pairs"]
    assert [[way["match"] for way in pair["ways"]] for pair in pairs] == 2 * [["as fitted", "signed", "phase"]]
    for pair, button in zip(pairs, part.find_elements("css selector", ".pg-choice button"), strict=True):
        button.click()
        slide(browser, part, "A to B", 0.5)
        for way, canvas in zip(pair["ways"], canvases, strict=True):
            middle = (inr_of(pair).flatten() + inr_of(pair, way["weights"]).flatten()) / 2
            assert_shows(browser, canvas, INRBatch.from_flat(inr_of(pair).spec, middle))
        slide(browser, part, "A to B", 1)
        ends = [assert_shows(browser, canvas, inr_of(pair, pair["ways"][0]["weights"])) for canvas in canvases]
        assert len(ends) == 3, "all three show B, aligned or not"


def test_a_slice_of_a_shape_is_that_of_python_with_a_line_on_its_surface(browser, pages):
    show(browser, pages / "shapes/report.html", motion="reduce")
    part = card(browser, "slice")
    canvas = part.find_element("css selector", ".pg-columns canvas")
    inr = inr_of(data(browser)["inrs"][0])
    for number, axis in enumerate(part.find_elements("css selector", "[aria-label=Axis] button")):
        axis.click()
        slide(browser, part, "Plane", 0.1 * number)
        shown = assert_shows(browser, canvas, inr)
        assert shown.view["axis"] == number
    red, _, blue, _ = pixels_of(browser, canvas).T
    far = np.abs(shown.values) > np.quantile(np.abs(shown.values), 0.5)
    assert ((blue > red) == (shown.values < 0))[far].all(), "a signed distance is negative inside: blue"


def encoded_page(folder, specs):
    """A page of one random INR of each spec."""
    inrs = []
    for seed, spec in enumerate(specs):
        flat = initialize(spec, [seed]).flatten().numpy().astype("<f4")
        more = {"height": 6, "width": 9, "source": None} if spec.in_dim == 2 else {"level": 0, "inside": 1, "reach": 1}
        inrs.append(more | {"spec": spec.to_dict(), "weights": b64encode(flat.tobytes()).decode(), "name": str(seed)})
    text = f"<div class=playground></div><script>window.PLAYGROUND={json.dumps({'inrs': inrs, 'pairs': []})}</script>"
    script, style = ((ROOT / "inr_factory/reporting/html" / f"playground.{kind}").read_text() for kind in ("js", "css"))
    (folder / "page.html").write_text(
        f"<!doctype html><meta charset=utf-8><style>{style}</style>{text}<script>{script}</script>"
    )
    return folder / "page.html"


def test_every_activation_with_widths_and_encodings_is_computed_as_python_does(browser, tmp_path):
    specs = [kind.values[0] for kind in VARIANTS]
    show(browser, encoded_page(tmp_path, specs), motion="reduce")
    for title, in_dim, canvas_of in (("zoom", 2, ".pg-row canvas:last-of-type"), ("slice", 3, ".pg-columns canvas")):
        part = card(browser, title)
        shown = [one for one in data(browser)["inrs"] if one["spec"]["in_dim"] == in_dim]
        buttons = part.find_elements("css selector", ".pg-thumbnails button")
        assert len(buttons) == len(shown) > 1
        for one, button in zip(shown, buttons, strict=True):
            button.click()
            inr = inr_of(one)
            canvas = part.find_elements("css selector", canvas_of)[-1]
            assert np.ptp(assert_shows(browser, canvas, inr).values) > 0.01, one["spec"]
            if in_dim == 2:
                slide(browser, part, "Contrast", 1.5)
                assert_shows(browser, canvas, contrast(inr, 1.5))
                slide(browser, part, "Contrast", 1)


def test_positional_encodings_leave_only_changes_of_values(browser, tmp_path):
    labels = {}
    for name, spec in (
        ("plain", SirenSpec(2, 1, hidden_dim=4)),
        ("encoded", SirenSpec(2, 1, hidden_dim=4, frequencies=2)),
    ):
        (tmp_path / name).mkdir()
        show(browser, encoded_page(tmp_path / name, [spec]))
        sliders = card(browser, "zoom").find_elements("css selector", "input")
        labels[name] = [slider.get_attribute("aria-label") for slider in sliders]
    assert labels["encoded"] == ["Brightness", "Contrast"]
    assert {"Rotate", *labels["encoded"]} < set(labels["plain"])


VIEW = "return {...arguments[0].picture.view}"


def test_source_pixels_lie_where_the_inr_has_them_at_any_zoom(browser, pages):
    from selenium.webdriver import Keys

    part, canvas = of_images(browser, pages)
    source = part.find_elements("css selector", ".pg-row canvas")[0]
    image = np.asarray(Image.open(io.BytesIO(b64decode(data(browser)["inrs"][0]["source"].partition(",")[2]))))
    for keys in ("", "+++" + Keys.ARROW_LEFT + Keys.ARROW_DOWN * 2):
        canvas.send_keys(keys)
        shown = painted(browser, canvas)
        at = (coords_of(shown).numpy() * 7 + 7) / 2  # in pixels, whole at their centres
        column, row = np.round(at).astype(int).clip(0, 7).T
        inner = (np.abs(at - np.round(at)) < 0.4).all(axis=1) & (np.abs(at - 3.5) < 4).all(axis=1)
        drawn = pixels_of(browser, source)[:, 0].reshape(2 * shown.rows, 2 * shown.columns)[::2, ::2].ravel()
        assert inner.mean() > 0.5
        assert (drawn[inner] == image[row, column][inner]).all()


def test_keys_zoom_and_move_both_pictures(browser, pages):
    from selenium.webdriver import Keys

    part, canvas = of_images(browser, pages)
    source = part.find_elements("css selector", ".pg-row canvas")[0]
    pixels = "return arguments[0].toDataURL()"
    before = browser.execute_script(pixels, source)
    canvas.send_keys("+", "+", Keys.ARROW_LEFT)
    view = browser.execute_script(VIEW, canvas)
    assert view["zoom"] == 1.25**2
    assert view["x"] < 0 == view["y"]
    assert browser.execute_script(pixels, source) != before
    assert_shows(browser, canvas, inr_of(data(browser)["inrs"][0]))
    source.send_keys("-", "0")
    assert [browser.execute_script(VIEW, canvas)[key] for key in ("x", "y", "zoom")] == [0, 0, 1]
    slider = part.find_element("css selector", "input[aria-label=Rotate]")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert slider.get_attribute("aria-valuetext") == "1°"
    assert_shows(browser, canvas, rotate2d(inr_of(data(browser)["inrs"][0]), 1))


def test_a_mouse_drags_and_its_wheel_zooms_after_a_click_only(browser, pages):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    _, canvas = of_images(browser, pages)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    wheel = lambda: ActionChains(browser).scroll_from_origin(ScrollOrigin.from_element(canvas), 0, -100).perform()  # noqa: E731
    wheel()
    assert browser.execute_script(VIEW, canvas)["zoom"] == 1, "the page scrolls"
    ActionChains(browser).move_to_element(canvas).click_and_hold().move_by_offset(30, 0).release().perform()
    assert browser.execute_script(VIEW, canvas)["x"] < 0
    wheel()
    assert browser.execute_script(VIEW, canvas)["zoom"] > 1.2


def test_two_fingers_zoom_and_one_scrolls_the_page_until_then(browser, pages):
    _, canvas = of_images(browser, pages, width=390)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    assert browser.execute_script("return arguments[0].style.touchAction", canvas) == "pan-y"
    box = canvas.rect
    left, top = box["x"] - browser.execute_script("return scrollX"), box["y"] - browser.execute_script("return scrollY")

    def touch(kind, *shares):
        points = [{"x": left + share * box["width"], "y": top + 60, "id": n} for n, share in enumerate(shares)]
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0.4, 0.6)
    for step in range(1, 6):
        touch("touchMove", 0.4 - 0.06 * step, 0.6 + 0.06 * step)
    touch("touchEnd")
    assert browser.execute_script(VIEW, canvas)["zoom"] > 1.5
    assert browser.execute_script("return arguments[0].style.touchAction", canvas) == "none"


@pytest.mark.parametrize("name", ["images", "shapes"])
def test_all_controls_of_the_playground_have_names_and_can_be_reached(browser, pages, name):
    show(browser, pages / name / "report.html")
    controls = browser.find_elements("css selector", ".playground :is(button, input, canvas[tabindex])")
    assert len(controls) >= 10
    assert [each.tag_name for each in controls if not any(map(str.isalnum, each.accessible_name))] == []
    assert browser.execute_script("return [...arguments[0]].every(e => e.tabIndex === 0)", controls)


def docs_page(folder):
    """A page of the docs that has the playground, and the folder of its assets."""
    specification = importlib.util.spec_from_file_location("docs_site", ROOT / "docs/site.py")
    site = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(site)
    assert site.on_page_content("<p>", page=None) == "<p>"
    shutil.copytree(ROOT / "docs/assets", folder / "assets")
    for name in ("playground.js", "playground.css"):
        shutil.copy(site.PARTS / name, folder / "assets")
    (folder / "in").mkdir()
    page = folder / "in/page.html"
    head = "<!doctype html><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
    page.write_text(head + site.on_page_content(site.PLAYGROUND, page=SimpleNamespace(url="in/page.html")))
    return page, folder / "assets"


def test_colour_relu_and_pictures_that_are_not_square_are_those_of_python(browser, tmp_path):
    page, assets = docs_page(tmp_path)
    spec = SirenSpec(2, 3, hidden_dim=5, num_hidden=3, output_bias=0.4, activation="relu", start="linear")
    first, second = initialize(spec, [0, 1])
    common = {"spec": spec.to_dict(), "height": 6, "width": 10, "name": "W" * 300, "source": None}
    encoded = [b64encode(inr.flatten().numpy().tobytes()).decode() for inr in (first, second)]
    ways = [{"match": match, "weights": encoded[1], "distance": 1.0} for match in ("as fitted", "permutation")]
    pair = common | {"title": "W" * 300, "weights": encoded[0], "ways": ways}
    content = {"inrs": [common | {"weights": encoded[0]}], "pairs": [pair]}
    (assets / "playground_data.js").write_text(f"window.PLAYGROUND={json.dumps(content)}")

    show(browser, page, width=390)

    source, canvas = card(browser, "zoom").find_elements("css selector", ".pg-row canvas")
    assert not source.is_displayed()
    shown = assert_shows(browser, canvas, first)
    assert shown.columns / shown.rows == pytest.approx(10 / 6, rel=0.02)
    colors = shown.values.reshape(-1, 3).clip(0, 1) * 255
    assert np.abs(pixels_of(browser, canvas)[:, :3] - colors).max() <= 0.51
    mixed = INRBatch.from_flat(spec, (first.flatten() + second.flatten()) / 2)
    canvases = card(browser, "morph").find_elements("css selector", ".pg-row canvas")
    assert [len(assert_shows(browser, each, mixed).values) > 0 for each in canvases] == [True, True]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


def test_the_playground_of_the_docs_works_from_a_folder(browser, tmp_path):
    page, assets = docs_page(tmp_path)
    assert (assets / "playground_data.js").stat().st_size < 300_000

    show(browser, page)

    assert all(url.startswith(("file:", "data:")) for url in asked(browser))
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    shape = next(one for one in data(browser)["inrs"] if one["spec"]["in_dim"] == 3)
    assert_shows(browser, card(browser, "slice").find_element("css selector", ".pg-columns canvas"), inr_of(shape))
    assert_shows(
        browser,
        card(browser, "zoom").find_elements("css selector", ".pg-row canvas")[1],
        inr_of(data(browser)["inrs"][0]),
    )
