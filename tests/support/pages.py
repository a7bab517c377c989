"""Pages: the README, the pages of docs/ and the READMEs of folders, by their path below the root."""

from support.paths import ROOT

GUIDES = [ROOT / "README.md", *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path.parent.name != "tables")]
OTHERS = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "data/README.md",
    *sorted((ROOT / "pipelines").rglob("*.md")),
]
PAGES = {path.relative_to(ROOT).as_posix(): path for path in GUIDES}
ALL_PAGES = PAGES | {path.relative_to(ROOT).as_posix(): path for path in OTHERS}
