"""Docs: the code blocks of the pages run, and the site is built without a network.

Blocks of `sh` and `python` run in page order, in a folder with tiny collections and under the names of the built-in recipes,
reduced in size. A `yaml` block that begins with `# NAME.yaml` is written to that file. A block that is not run follows
`<!-- notest: REASON -->`.
"""

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support.pages import PAGES

import inr_factory
from inr_factory.cli.main import run
from inr_factory.generation.execution.local_pool import run_local
from inr_factory.generation.recipe import recipe_folder
from inr_factory.learning.training.run_config import default_schedule
from inr_factory.storage.yaml_files import load_yaml

FENCE = re.compile(r"(?:<!-- notest: (?P<reason>[^\n]+) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
TINY_FIT = {"steps": 5, "floor_psnr": -99, "optimizer": "adam"}
TINY_SHAPES = {"num_points": 200, "num_truth": 20, "num_surface": 20}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `reason` is why it does not run, if it does not."""

    page: str
    line: int
    kind: str
    text: str
    reason: str | None

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks_of(page):
    text = PAGES[page].read_text()
    blocks = [
        Block(page, text.count("\n", 0, match.start("kind")) + 1, match["kind"], match["text"], match["reason"])
        for match in FENCE.finditer(text)
    ]
    return [block for block in blocks if block.kind in ("sh", "python", "yaml")]


PUBLIC = [name for name in dir(inr_factory) if not name.startswith("_")]
BLOCKS = [block for page in PAGES for block in blocks_of(page)]


@pytest.fixture(scope="module")
def tiny_recipes(tmp_path_factory):
    """The built-in recipes under their names, so small that a set takes a second."""
    folder = tmp_path_factory.mktemp("recipes")
    for path in recipe_folder().glob("*.yaml"):
        fields = load_yaml(path, path.name)
        if "source" in fields and fields["source"]["collection"] == "digits":
            fields |= {"limit": 60}
        elif "source" in fields:
            shapes = path.stem in ("mesh_folder", "point_folder", "primitives")
            fields["source"] |= TINY_SHAPES if shapes else {}
            fields |= {"limit": 28, "spec": {"hidden_dim": 4}, "fit": TINY_FIT}
        (folder / path.name).write_text(json.dumps(fields))  # JSON is YAML
    return folder


@pytest.fixture(scope="module")
def reader_folder(tmp_path_factory, tiny_recipes):
    """A folder as a reader might have it: pictures, meshes and clouds of two classes, and a set of digits."""
    from PIL import Image
    from trimesh.creation import box, icosphere

    folder = tmp_path_factory.mktemp("reader")
    random = np.random.default_rng(0)
    for number in range(16):
        name = ("left", "right")[number % 2]
        for kind in ("pictures", "meshes", "clouds"):
            (folder / kind / name).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((16, 16)).save(folder / f"pictures/{name}/{number}.png")
        mesh = icosphere(1, number + 1.0) if number % 2 else box((1, 1, number + 1))
        mesh.export(folder / f"meshes/{name}/{number}.off")
        np.savetxt(folder / f"clouds/{name}/{number}.xyz", random.normal(size=(300, 3)))
    (folder / "labelled").mkdir()
    for number in range(4):
        Image.new("L", (16, 16), 60 * number).save(folder / f"labelled/{number}.png")
    (folder / "labelled/labels.csv").write_text("name,class,age [years]\n0,cat,1\n1,dog,2\n2,cat,3\n3,dog,4\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inr_factory.generation.recipe.recipe_folder", lambda: tiny_recipes)
        digits = folder / "inrs/digits"
        assert run(["fit", "digits", "--backend", "local", "--workers", "1", "--out", str(digits)]) == 0
    shutil.copytree(digits, folder / "inrs/demo")
    return folder


@pytest.fixture
def working_folder(reader_folder, tiny_recipes, tmp_path, monkeypatch):
    """A copy of the reader's folder, and the current one: recipes are tiny, default schedules short, and Ray is a loop."""

    def in_one_loop(worker, tasks, todo, count, address, listener):
        run_local(worker, tasks, todo, 1, listener)

    def two_epochs(model, rows, batch_size=None, mixed=False):
        return default_schedule(model, rows, batch_size, mixed)._replace(epochs=2)

    folder = tmp_path / "copy"
    shutil.copytree(reader_folder, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("inr_factory.generation.recipe.recipe_folder", lambda: tiny_recipes)
    monkeypatch.setattr("inr_factory.generation.execution.ray_pool.run_ray", in_one_loop)
    monkeypatch.setattr("inr_factory.learning.training.begun_run.default_schedule", two_epochs)
    return folder


def run_shell(text):
    """Run the lines of a block: inr-factory in this process, other commands by a shell."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["inr-factory"] and not {"&&", "|", ">"} & set(words):
            assert run(words[1:]) == 0, line
        elif words:
            subprocess.run(["sh", "-euc", line], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_one_after_the_other(page, working_folder):
    names = {"__name__": "__page__"}
    for block in blocks_of(page):
        if block.kind == "yaml":
            if named := re.match(r"# (\S+\.yaml)\b", block.text):
                (working_folder / named[1]).write_text(block.text)
        elif block.reason is None and block.kind == "sh":
            run_shell(block.text)
        elif block.reason is None:
            exec(compile("\n" * block.line + block.text, str(PAGES[page]), "exec"), names)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.reason], ids=str)
def test_a_block_that_is_not_run_says_why(block):
    pytest.skip(block.reason)


def test_most_pages_have_blocks_that_run():
    """Without this the tests above could pass by running nothing."""
    running = {block.page for block in BLOCKS if not block.reason and block.kind != "yaml"}
    guides = [
        "quickstart",
        "arrays",
        "images",
        "shapes",
        "source",
        "loading",
        "training",
        "chance",
        "pretraining",
        "editing",
        "cluster",
        "sharing",
    ]
    reference = ("formats_of_others", "format", "reproducibility")
    assert {"README.md", *(f"docs/{name}.md" for name in (*guides, *reference))} <= running


def test_the_site_is_built_and_takes_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    expected = {site / Path(page).relative_to("docs").with_suffix(".html") for page in PAGES if page != "README.md"}
    assert expected <= set(pages)
    for page in pages:
        fetched = re.findall(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?([^\s\">]+)", page.read_text())
        fetched += re.findall(r"<link[^>]*rel=\"?(?:stylesheet|preload|icon)[^>]*href=\"?([^\s\">]+)", page.read_text())
        assert [target for target in fetched if re.match(r"(https?:)?//", target)] == [], page.name


def test_the_api_documents_all_public_names(site):
    text = (site / "api.html").read_text()
    assert [name for name in PUBLIC if f'id="inr_factory.{name}"' not in text] == []
