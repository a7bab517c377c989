"""Site: what mkdocs.yml lets MkDocs do besides: links to files outside docs/, which the site does not have, become names."""

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """`[text](../FILE)` as `text (FILE)`: such links are for readers of the repository."""
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)#]+)[^)]*\)", r"\1 (`\2`)", markdown)
