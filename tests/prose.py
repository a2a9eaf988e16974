"""How long sentences and paragraphs of a page are: `python -m tests.prose [PAGE ...]` prints a line for each page.

In: Markdown. Out: numbers of words, of lines too. Code, tables, headings, pictures and comments do not count; an item
of a list is a paragraph.
"""

import re
import sys
from pathlib import Path
from statistics import median, quantiles
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
_NOT_PROSE: Final = re.compile(
    r"(?s:```.*?```|<!--.*?-->)|^[ \t]*\|.*$|^#.*$|!\[[^\]]*\]\([^)]*\)",
    re.MULTILINE,
)
_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_ITEM: Final = re.compile(r"^\s*(?:[*-]|\d+\.)\s+", re.MULTILINE)
_SENTENCE: Final = re.compile(r"(?<=[.!?])[\"')*_]*\s+(?=[\"'(*_`]*[A-Z0-9`])")


class Prose(NamedTuple):
    """Numbers of words of a page's sentences and paragraphs, and its lines."""

    sentences: tuple[int, ...]
    paragraphs: tuple[int, ...]
    num_lines: int

    @property
    def sentence_p90(self) -> float:
        """The ninetieth percentile of the words in a sentence."""
        return quantiles(self.sentences, n=10)[-1] if len(self.sentences) > 1 else sum(self.sentences)

    @property
    def paragraph_median(self) -> float:
        """The median of the words in a paragraph."""
        return median(self.paragraphs) if self.paragraphs else 0


def measure_prose(text: str) -> Prose:
    """Numbers of words of a page of Markdown."""
    prose = _LINK.sub(r"\1", _NOT_PROSE.sub("\n\n", text))
    parts = [" ".join(part.split()) for part in re.split(r"\n\s*\n", _ITEM.sub("\n\n", prose))]
    paragraphs = [part for part in parts if _count_words(part)]
    sentences = [s for part in paragraphs for s in _SENTENCE.split(part) if _count_words(s)]
    return Prose(
        tuple(map(_count_words, sentences)), tuple(map(_count_words, paragraphs)), len(text.rstrip("\n").split("\n"))
    )


def _count_words(text: str) -> int:
    return sum(any(c.isalnum() for c in word) for word in text.split())


if __name__ == "__main__":
    asked = [Path(word) for word in sys.argv[1:]]
    for page in asked or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        found = measure_prose(page.read_text())
        print(
            f"{page.name:<20} {found.num_lines:>4} lines, sentences p90 {found.sentence_p90:4.1f} words, "
            f"paragraphs median {found.paragraph_median:4.1f} words"
        )
