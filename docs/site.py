"""MkDocs hooks of mkdocs.yml: the version, the changelog, the playground, and links to files outside docs/."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from inr_factory.inr.version import __version__

ROOT = Path(__file__).parents[1]
PLAYGROUND = '<div class="playground"></div>'
PARTS = ROOT / "inr_factory/reporting/html"


def on_config(config: Any) -> Any:
    """The header, the title and the foot of each page name the version that the page describes."""
    config.site_name = f"{config.site_name} {__version__}"
    config.copyright = f"Version {__version__}. MIT licence."
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """The site gets the playground of the reports, and the changelog of the repository, whose links start at the root."""
    for name in ("playground.js", "playground.css"):
        files.append(File.generated(config, f"assets/{name}", abs_src_path=str(PARTS / name)))
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\((?!docs/|https?:)([^)]+)\)", r"](../\1)", text).replace("](docs/", "](")
    files.append(File.generated(config, "changelog.md", content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """`[text](../FILE)` becomes `text (FILE)`; readers of the repository can follow such links, readers of the site cannot."""
    outside = re.escape("../" * (page.file.src_uri.count("/") + 1))
    return re.sub(rf"\[([^\]]+)\]\({outside}([^)#]+)[^)]*\)", r"\1 (`\2`)", markdown)


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """A page with a playground loads its data, its script and its style; other pages do not."""
    if PLAYGROUND not in html:
        return html
    assets = "../" * page.url.count("/") + "assets/playground"
    scripts = "".join(f'<script src="{assets}{part}.js"></script>' for part in ("_data", ""))
    return f'<link rel="stylesheet" href="{assets}.css">{html}{scripts}'
