"""MkDocs hook of mkdocs.yml: replaces links to files outside docs/, which the site does not contain, by their names."""

import re
from typing import Any


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """`[text](../FILE)` becomes `text (FILE)`; readers of the repository can follow such links, readers of the site cannot."""
    outside = re.escape("../" * (page.file.src_uri.count("/") + 1))
    return re.sub(rf"\[([^\]]+)\]\({outside}([^)#]+)[^)]*\)", r"\1 (`\2`)", markdown)
