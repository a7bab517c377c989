"""MkDocs hooks of mkdocs.yml: links to files outside docs/, and the playground."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PLAYGROUND = '<div class="playground"></div>'
PARTS = Path(__file__).parents[1] / "inr_factory/reporting/html"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """`[text](../FILE)` becomes `text (FILE)`; readers of the repository can follow such links, readers of the site cannot."""
    outside = re.escape("../" * (page.file.src_uri.count("/") + 1))
    return re.sub(rf"\[([^\]]+)\]\({outside}([^)#]+)[^)]*\)", r"\1 (`\2`)", markdown)


def on_files(files: Files, *, config: Any) -> Files:
    """The site gets the playground of the reports."""
    for name in ("playground.js", "playground.css"):
        files.append(File.generated(config, f"assets/{name}", abs_src_path=str(PARTS / name)))
    return files


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """A page with a playground loads its data, its script and its style; other pages do not."""
    if PLAYGROUND not in html:
        return html
    assets = "../" * page.url.count("/") + "assets/playground"
    scripts = "".join(f'<script src="{assets}{part}.js"></script>' for part in ("_data", ""))
    return f'<link rel="stylesheet" href="{assets}.css">{html}{scripts}'
