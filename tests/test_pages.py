"""Pages: links lead somewhere, commands have the options they name, sentences are short, nothing is out of date."""

import importlib
import re
from pathlib import Path

import pytest
import tyro

from jobs.cli import VERBS, get_module_name
from tests.api_page import PAGE, write_page
from tests.pages import OLD, PAGES, ROOT, Block, read_anchors, read_blocks, read_commands, read_links
from tests.prose import measure_prose
from tests.words import find_in_page

MOST_README_LINES = 150
MOST_SENTENCE_WORDS = 28
MOST_PARAGRAPH_WORDS = 25
MOST_EXAMPLE_LINES = 30
NEW = [page for page in PAGES if page.name not in OLD]
WRITTEN = [page for page in NEW if page.name != "api.md"]
"""Pages whose words are not those of docstrings."""
COMMANDS = [
    pytest.param(block, words, id=f"{block.page}:{block.line}:{words[1] if len(words) > 1 else ''}")
    for page in NEW
    for block in read_blocks(page)
    if block.language == "bash"
    for words in read_commands(block)
]


def name_of(page: Path) -> str:
    """The id of a page's test."""
    return page.name


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_sentences_and_paragraphs_are_short(page: Path) -> None:
    prose = measure_prose(page.read_text())
    assert prose.sentence_p90 <= MOST_SENTENCE_WORDS
    assert prose.paragraph_median <= MOST_PARAGRAPH_WORDS


def test_long_sentences_and_paragraphs_are_found() -> None:
    page = ("word " * 40 + "end.\n\n") * 5
    prose = measure_prose(f"# A heading\n\n```\nno prose here\n```\n\n| a | table |\n\n{page}")
    assert prose.sentence_p90 > MOST_SENTENCE_WORDS
    assert prose.paragraph_median > MOST_PARAGRAPH_WORDS
    assert len(prose.paragraphs) == 5


def test_the_readme_is_short() -> None:
    assert measure_prose((ROOT / "README.md").read_text()).num_lines <= MOST_README_LINES


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_pages_use_the_words_of_the_field(page: Path) -> None:
    assert list(find_in_page(page.name, page.read_text())) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for link in read_links(page):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in read_anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize(("block", "words"), COMMANDS)
def test_commands_name_verbs_and_options_that_are_there(block: Block, words: list[str]) -> None:
    _, verb, *arguments = words
    if verb == "--help" or "--help" in arguments:
        assert {verb, *arguments} & {*VERBS, "--help"}
        return
    module = importlib.import_module(get_module_name(verb))
    if verb == "submit" and not any(word.startswith("--check-cluster") for word in arguments):
        module.parse(arguments) if hasattr(module, "parse") else tyro.cli(module.Arguments, args=arguments)
        return
    parse = getattr(module, "parse", None) or (lambda words: tyro.cli(module.Arguments, args=words))
    assert parse(arguments) is not None


def test_the_commands_of_the_readme_are_run_by_the_quickstart_in_this_order() -> None:
    readme, quickstart = (
        [
            words
            for block in read_blocks(page)
            if block.language == "bash" and block.is_run
            for words in read_commands(block)
        ]
        for page in (ROOT / "README.md", ROOT / "docs" / "quickstart.md")
    )
    assert len(readme) == 5
    assert [words for words in quickstart if words in readme] == readme


def test_the_reference_is_that_of_the_code() -> None:
    assert PAGE.read_text() == write_page(), "run python -m tests.api_page"


@pytest.mark.parametrize("page", NEW, ids=name_of)
def test_blocks_that_are_not_run_say_why(page: Path) -> None:
    for block in read_blocks(page):
        if block.language in ("bash", "python") and not block.is_run:
            assert block.note.partition(": ")[2], f"{block.page}:{block.line}: say why it is not run"


@pytest.mark.parametrize("block", [b for b in read_blocks(ROOT / "docs" / "extending.md") if b.title])
def test_examples_of_extending_fit_the_code(block: Block) -> None:
    assert block.title is not None
    if block.language == "diff":
        kept = "\n".join(line[1:] for line in block.text.splitlines() if not line.startswith("+"))
        assert (ROOT / block.title).read_text().count(kept) == 1
    else:
        assert not (ROOT / block.title).exists()
        assert sum(bool(line.strip()) for line in block.text.splitlines()) <= MOST_EXAMPLE_LINES


@pytest.mark.parametrize("page", NEW, ids=name_of)
def test_files_that_pages_name_are_there(page: Path) -> None:
    titles = {block.title for block in read_blocks(page)}
    named = set(re.findall(r"`((?:pipelines|nets|jobs|infra|tests)/[\w/]+\.py)`", page.read_text()))
    assert sorted(name for name in named - titles if not (ROOT / name).exists()) == []
