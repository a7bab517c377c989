"""Docs: the code blocks of the pages run, links lead somewhere, and the site is built without a network.

Blocks of `sh` and `python` run in page order, in a folder with tiny collections and under the names of the built-in recipes,
cut down. A `yaml` block that begins with `# NAME.yaml` is written to that file. Before a block that is not run stands
`<!-- notest: REASON -->`.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.paths import ROOT

from inr_factory.cli.main import VERBS, run
from inr_factory.generation.execution.local_pool import run_local
from inr_factory.generation.recipe import recipe_folder

PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
FENCE = re.compile(r"(?:<!-- notest: (?P<reason>[^\n]+) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
TINY_FIT = {"steps": 5, "floor_psnr": -99, "optimizer": "adam"}
TINY_SHAPES = {"num_points": 200, "num_truth": 20, "num_surface": 20}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `reason` is why it is not run, if it is not."""

    page: str
    line: int
    kind: str
    text: str
    reason: str | None

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks_of(page):
    text = PAGES[page].read_text()
    found = [
        Block(page, text.count("\n", 0, match.start("kind")) + 1, match["kind"], match["text"], match["reason"])
        for match in FENCE.finditer(text)
    ]
    return [block for block in found if block.kind in ("sh", "python", "yaml")]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


@pytest.fixture(scope="module")
def tiny_recipes(tmp_path_factory):
    """The built-in recipes under their names, so small that a set takes a second."""
    folder = tmp_path_factory.mktemp("recipes")
    for path in recipe_folder().glob("*.yaml"):
        fields = yaml.safe_load(path.read_text())
        if "source" in fields and fields["source"]["collection"] == "digits":
            fields |= {"limit": 60}
        elif "source" in fields:
            shapes = path.stem in ("mesh_folder", "point_folder", "primitives")
            fields["source"] |= TINY_SHAPES if shapes else {}
            fields |= {"limit": 28, "spec": {"hidden_dim": 4}, "fit": TINY_FIT}
        (folder / path.name).write_text(yaml.safe_dump(fields))
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_recipes):
    """A folder as a reader might have it: pictures, meshes and clouds of two classes, and a set of digits."""
    from PIL import Image
    from trimesh.creation import box, icosphere

    folder = tmp_path_factory.mktemp("world")
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inr_factory.generation.recipe.recipe_folder", lambda: tiny_recipes)
        digits = folder / "inrs/digits"
        assert run(["fit", "digits", "--backend", "local", "--workers", "1", "--out", str(digits)]) == 0
    shutil.copytree(digits, folder / "inrs/demo")
    return folder


@pytest.fixture
def place(world, tiny_recipes, tmp_path, monkeypatch):
    """A copy of the world, to work in: recipes are tiny, and Ray is a loop."""

    def in_one_loop(worker, tasks, todo, count, address, listener):
        run_local(worker, todo, 1, listener)

    folder = tmp_path / "place"
    shutil.copytree(world, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("inr_factory.generation.recipe.recipe_folder", lambda: tiny_recipes)
    monkeypatch.setattr("inr_factory.generation.execution.ray_pool.run_ray", in_one_loop)
    return folder


def run_shell(text):
    """Run the lines of a block: commands of ours in this process, others by a shell."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["inr-factory"] and not {"&&", "|", ">"} & set(words):
            assert run(words[1:]) == 0, line
        elif words:
            subprocess.run(["sh", "-euc", line], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_one_after_the_other(page, place):
    names = {"__name__": "__page__"}
    for block in blocks_of(page):
        if block.kind == "yaml":
            if named := re.match(r"# (\S+\.yaml)\b", block.text):
                (place / named[1]).write_text(block.text)
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
    expected = {"README.md", *(f"docs/{name}.md" for name in ("index", "own", "loading", "format", "reproducibility"))}
    assert expected <= running


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_stands_in_the_readme(verb):
    rows = [line.split("|")[1] for line in PAGES["README.md"].read_text().splitlines() if line.startswith("| `")]
    assert re.search(rf"`{verb.replace('_', '-')}\b", " ".join(rows)), f"add {verb} to the README's table of verbs"


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", PAGES[page].read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (PAGES[page].parent / target).exists(), f"{page} links to {target}"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="building the site needs the docs extra")
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder


def test_the_site_is_built_and_takes_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert {f"{Path(page).stem}.html" for page in PAGES if page != "README.md"} <= {page.name for page in pages}
    for page in pages:
        fetched = re.findall(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?([^\s\">]+)", page.read_text())
        fetched += re.findall(r"<link[^>]*rel=\"?(?:stylesheet|preload|icon)[^>]*href=\"?([^\s\">]+)", page.read_text())
        assert [target for target in fetched if re.match(r"(https?:)?//", target)] == [], page.name


def test_the_api_has_what_a_program_of_ones_own_imports(site):
    text = (site / "api.html").read_text()
    for name in (
        "dataset.INRDataset",
        "loader.INRLoader",
        "inr.INRBatch",
        "mixup.MixUp",
        "factory.fit_set",
        "signals.Source",
    ):
        assert f'id="inr_factory.{name}"' in text, name
