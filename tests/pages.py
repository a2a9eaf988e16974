"""Pages of Markdown, read: their blocks of code with what a comment before them says, their links and anchors.

In: README.md, CONTRIBUTING.md and docs/. Out: blocks, links. A block follows at most one comment:
`<!-- not run: REASON -->` keeps it from being run, `<!-- exit 1 -->` says that it ends so.
"""

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
OLD: Final = ("log.md", "models.md", "scale.md")
"""Pages whose commands are the record of a trial or need hours: they are not run."""
_BLOCK: Final = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ +(.*)$", re.MULTILINE)


class Block(NamedTuple):
    """A block of code on a page."""

    page: str
    line: int
    language: str
    """`bash` is a command, `python` is a program, `diff` is a change of the file in the title, others are output."""
    title: str | None
    """The file that it is, under the project's root."""
    text: str
    note: str
    """What the comment before it says."""

    @property
    def is_run(self) -> bool:
        """Whether a test runs it."""
        return self.language in ("bash", "python") and not self.note.startswith("not run")

    @property
    def exit_code(self) -> int:
        """The exit code that it should end with."""
        return int(self.note.removeprefix("exit ")) if self.note.startswith("exit ") else 0


def read_blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(
            page.name,
            text.count("\n", 0, match.start()) + 1,
            match["language"],
            match["title"],
            match["text"],
            match["note"] or "",
        )
        for match in _BLOCK.finditer(text)
    ]


def read_commands(block: Block) -> list[list[str]]:
    """The words of every `lacuna` command of a block of bash."""
    lines = block.text.replace("\\\n", " ").splitlines()
    commands = (shlex.split(line, comments=True) for line in lines)
    return [list(takewhile(_is_word, words)) for words in commands if words and words[0] == "lacuna"]


def _is_word(word: str) -> bool:
    """Whether a word belongs to the command, and is not the shell's."""
    return word not in {"|", "||", "&&", ";", ">", "2>"}


def read_links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links and pictures."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    yield from _LINK.findall(text)


def read_anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = (re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in _HEADING.findall(page.read_text()))
    return {heading.replace(" ", "-") for heading in headings}
