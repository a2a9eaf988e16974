"""Rules of language over the whole tree, and each rule on a small source that breaks it."""

import pytest

from tests.words import PRODUCT, ROOT, Finding, find_all, find_in_page, find_in_python

PATHS = [ROOT / name for name in (*PRODUCT, "lacuna.py", "tests", "docs", "README.md", "CONTRIBUTING.md")]


def test_the_whole_tree_follows_the_rules_of_language() -> None:
    assert find_all(PATHS) == []


def rules_broken(source: str, path: str = "pipelines/x.py") -> set[tuple[str, str]]:
    """Rule and first quoted word of each finding in a source."""
    return {(finding.rule, first_word(finding)) for finding in find_in_python(path, source)}


def first_word(finding: Finding) -> str:
    """First word of a finding, without quotes."""
    return finding.found.split()[0].strip("':")


@pytest.mark.parametrize(
    ("source", "rule", "word"),
    [
        ("told = 1", "identifier", "told"),
        ("def ask(the_ear: int) -> None: ...", "identifier", "ear"),
        ("class OpenDoor: ...", "identifier", "door"),
        ("raise ValueError(f'{x} cannot be had')", "text", "cannot"),
        ("x = 'the news of ranks'", "text", "news"),
        ("# start anew\n", "comment", "anew"),
        ("grey_colour = 1", "identifier", "grey"),
        ("def f():\n    '''Picture normalised by its mean.'''\n    return 'x: its centre'", "text", "centre"),
        ("x = 'optimiser, behaviour'", "text", "optimis"),
        ("def planned() -> None: ...", "function", "planned"),
        ("def _taken() -> None: ...", "function", "_taken"),
        ("def f():\n    '''Reads a file.'''", "docstring", "begins"),
        ("def f():\n    '''Of a file.'''", "docstring", "begins"),
        ("'''What a file holds.'''", "docstring", "begins"),
        ("class A:\n    '''The same as B.'''", "docstring", "begins"),
        ("'''Plans. A file of its own because it is long.'''", "docstring", "says"),
    ],
)
def test_what_breaks_a_rule_is_found(source: str, rule: str, word: str) -> None:
    assert any(found == rule and first.startswith(word) for found, first in rules_broken(source))


@pytest.mark.parametrize(
    "source",
    [
        "def read_plane(path: str) -> bytes:\n    '''Bytes of a plane.'''",
        "def seed_workers(): ...",
        "class A:\n    @property\n    def committed(self):\n        '''Whether it is committed.'''",
        "STORED = {'normalised': 1}",
        "MASKS = {'centre': 1, 'centre-square': 2}",
        "'''Brush of the AIM 2020 challenge.'''",
        "'''Weights of layers, process of a GPU, alias and loss.'''",
        "precise = 'promise, otherwise, noise'",
    ],
)
def test_words_of_the_field_and_stored_strings_are_free(source: str) -> None:
    assert rules_broken(source) == set()


def test_docstrings_and_participles_of_tests_are_not_those_of_the_product() -> None:
    source = "def test_planned():\n    '''What a user sees.'''"
    assert rules_broken(source, "tests/test_x.py") == set()


def test_a_long_name_of_a_test_is_found() -> None:
    assert rules_broken(f"def test_{'x' * 74}(): ...", "tests/test_x.py") == set()
    assert {rule for rule, _ in rules_broken(f"def test_{'x' * 75}(): ...", "tests/test_x.py")} == {"test name"}


def test_a_page_is_read_line_by_line() -> None:
    (finding,) = find_in_page("docs/x.md", "# Masks\n\nThe colour of a hole.\n")
    assert (finding.line, finding.rule) == (3, "page")


def test_the_files_of_the_rules_themselves_are_exempt() -> None:
    assert find_all([ROOT / "tests/words.py", ROOT / "tests/test_words.py", ROOT / "docs/log.md"]) == []
