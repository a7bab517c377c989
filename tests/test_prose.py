"""Prose: links lead somewhere, the vocabulary is that of the field, and pages list the verbs and terms that exist."""

import inspect
import re

import pytest
from support.pages import ALL_PAGES, PAGES
from support.paths import ROOT

import inr_factory
from inr_factory.cli.main import VERBS, program
from inr_factory.storage.yaml_files import load_yaml

PRIVATE_WORDS = re.compile(
    r"\b(rooms?|hall|wings?|told|heard|anew|hangs? on|at work|so many|go(es)? on|struck down|beside|judged|mend(s|ed)?"
    r"|crew|ledger|lanes?|warps?|tones?|yardstick|read best|best to read)\b",
    re.IGNORECASE,
)
MODELS_OF_OLD = {"docs/results/transcript.md", "CHANGELOG.md"}  # what these pages quote had the old name


def prose(page):
    """The text of a page without code."""
    text = re.sub(r"^```.*?^```$", "", ALL_PAGES[page].read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.sub(r"<!--.*?-->", "", text)


def help_texts():
    """(name, text) of all verbs and options."""
    command = program()
    yield "inr-factory", command.help
    for name, verb in command.commands.items():
        yield name, verb.help or ""
        yield from ((f"{name} {option.opts[0]}", getattr(option, "help", None) or "") for option in verb.params)
        yield from ((f"{name} {title}", "\n".join(choices.values())) for title, choices in verb.choices.items())


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(page)):
        if "://" not in target:
            assert (ALL_PAGES[page].parent / target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", ALL_PAGES)
def test_files_of_the_repository_that_pages_name_exist(page):
    text = ALL_PAGES[page].read_text(encoding="utf-8")
    named = re.findall(r"\b((?:inr_factory|pipelines|tests|examples|docs)/[\w./-]*\w)", text)
    assert [name for name in named if not (ROOT / name).exists() and "/NAME." not in name] == []


def test_the_tests_that_the_page_of_faults_names_exist():
    named = re.findall(r"`([a-z_/]+\.py)::(\w+)`", ALL_PAGES["docs/results/faults.md"].read_text(encoding="utf-8"))
    assert len(named) > 90
    assert [name for file, name in named if f"def {name}(" not in (ROOT / "tests" / file).read_text()] == []


@pytest.mark.parametrize("page", ALL_PAGES)
def test_pages_have_no_private_words(page):
    assert [match[0] for match in PRIVATE_WORDS.finditer(re.sub(r"`[^`\n]*`", "", prose(page)))] == []


def test_help_texts_have_no_private_words():
    texts = list(help_texts())
    assert len(texts) > len(VERBS)
    assert [(name, match[0]) for name, text in texts if (match := PRIVATE_WORDS.search(text))] == []


@pytest.mark.parametrize("name", [name for name in dir(inr_factory) if not name.startswith("_")])
def test_public_docstrings_have_no_private_words(name):
    value = getattr(inr_factory, name)
    members = [member for key, member in vars(value).items() if key[0] != "_"] if inspect.isclass(value) else []
    texts = [inspect.getdoc(member) or "" for member in (value, *members)]
    assert [match[0] for text in texts for match in PRIVATE_WORDS.finditer(text)] == []


def test_private_words_are_found():
    """Without this the two tests above could pass by searching for nothing."""
    assert PRIVATE_WORDS.search("what was begun goes on")
    assert PRIVATE_WORDS.search("Rooms beside it")
    assert not PRIVATE_WORDS.search("a resumed run takes memory, and depends on the classroom")


@pytest.mark.parametrize("page", ALL_PAGES)
def test_headings_are_no_questions(page):
    asked = re.findall(r"^#.*\?.*$", prose(page), flags=re.M)
    assert asked == (["# Why does my MLP sit at chance?"] if page == "docs/chance.md" else [])


@pytest.mark.parametrize("page", PAGES)
def test_pages_that_mention_sprint_explain_it_or_link_to_the_glossary(page):
    text = " ".join(prose(page).split())
    explained = "Adam with betas 0.6 and 0.97" in text or "glossary.md)" in text
    assert "sprint" not in text or explained


@pytest.mark.parametrize("page", sorted(set(ALL_PAGES) - MODELS_OF_OLD))
def test_the_old_name_of_parity_is_mentioned_as_old(page):
    text = " ".join(prose(page).split())
    assert text.count("`forward`") == text.count("called `forward` before 0.2")


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_is_in_the_table_of_commands(verb):
    rows = [line.split("|")[1] for line in PAGES["docs/commands.md"].read_text().splitlines() if line.startswith("| `")]
    assert re.search(rf"`{verb.replace('_', '-')}\b", " ".join(rows)), f"add {verb} to docs/commands.md"


def test_the_api_page_lists_and_tabulates_all_public_names():
    listed = re.findall(r"^::: inr_factory\.(\w+)$", PAGES["docs/api.md"].read_text(), flags=re.M)
    assert len(listed) == len(set(listed))
    assert set(listed) == {name for name in dir(inr_factory) if not name.startswith("_")}
    tabulated = re.findall(r"^\| \[`(\w+)`\]\(#inr_factory\.\1\) \|", PAGES["docs/api.md"].read_text(), flags=re.M)
    assert tabulated == listed


def test_the_readme_is_short():
    assert len(PAGES["README.md"].read_text().split()) <= 900


def test_citation_licence_and_workflow_agree_with_the_package():
    citation = load_yaml(ROOT / "CITATION.cff", "CITATION.cff")
    assert (citation["version"], citation["license"]) == (inr_factory.__version__, "MIT")
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) 2026 the INR Factory authors\n")
    assert "bash .ci/run" in (ROOT / ".github/workflows/ci.yml").read_text()
