"""Rules of language, read off the code: `python -m tests.words [PATH ...]` lists what breaks them.

In: Python files and pages. Out: a line per finding: file, line, rule, what was found. `docs/architecture.md` explains
the rules.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
PRODUCT: Final = ("pipelines", "nets", "jobs", "infra")


def _words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


FORBIDDEN: Final = _words(
    """
    tell tells told teller hear hears heard overheard ear blame blamed befall befell befallen forebear anew
    thereof roll rolls worn blind house houses room rooms door doors aim aims news
    """
)
"""Words of houses, of telling and of persons, in identifiers and text."""
FORBIDDEN_PHRASES: Final = ("can be none", "cannot be had", "what lacks", "it is said", "photos told", "is had")
BRITISH: Final = re.compile(
    r"(colour|grey|centre|centring|neighbour|behaviour|favour|labell|cancell|modell|travell|catalogue|licence|"
    r"artefact|analyse|judgement|"
    r"(?<!p)(?:optim|normal|initial|quant|regular|recogn|factor|serial|minim|maxim|special|general|summar|"
    r"synchron|util|organ|visual|local|final|memor|real|random|token|parallel|character|penal|priorit|emphas)is(?:e|ed|"
    r"es|er|ers|ing|ation|ations)(?![a-z]))",
    re.IGNORECASE,
)
FROZEN: Final = re.compile(
    r"normalised|centre-square|\"centre\"|'centre'|^centre$|\bcentre 1 |`centre`|\"quantisation\"|^quantisation$|"
    r"masks/centre\.png|ade20k-aim|colour profile dropped|roll back|\bAIM\b|^aim$|`aim`|(?<=the splits )aim|"
    r"(?<=\| )aim(?=,)"
)
"""Strings that stand in shards, tables, mask lines and passports, and the name of a challenge."""
FIRST_WORDS: Final = frozenset(("of", "what", "those", "who", "whose", "which"))
"""No docstring begins with them."""
_NOT_VERBS: Final = _words(
    """
    pixels bytes names lines words weights values photos files masks shards samples batches features channels
    places clocks means numbers fills pictures digests levels settings losses terms statistics axis bias class
    process this as has is was its address progress access less plus always thus bins capsules holes keys
    columns rows sources attributes arguments parameters positions indices images pairs scores metrics points
    rates tags series blocks patches members entries records tables datasets checkpoints networks tensors maps
    planes edges strokes splits differences seconds steps hours counts sums bits ranks workers devices libraries
    packages options requests commits runs versions models modules variants recipes stages phases teachers
    lessons optimizers sizes sides colors windows groups cells tiles crops views vertices boxes squares ellipses
    headers formats segments markers archives folders roots lists paths uris credentials secrets logins servers
    jobs nodes gpus cpus cores stats fields kinds parts pieces choices examples facts findings violations errors
    faults messages warnings reasons totals ratios shares spans slices ends lengths heights widths shapes
    strides kernels dilations filters heads tokens queries temperatures priors targets logits gradients moments
    averages buffers slots lanes orders worlds chunks buckets offsets ranges intervals matches neighbors
    candidates duplicates twins rejections inputs outputs results rules laws doors contents children owners
    users others arrays threads throws ways convolutions variables incidents commands status
    """
)
_PARTICIPLES: Final = _words(
    """
    taken made shown drawn known given found built sent held kept left sought begun written chosen seen
    """
)
_NO_PARTICIPLES: Final = _words(
    """
    seed feed speed embed need exceed proceed shed
    """
)
_MOST_OF_A_TEST_NAME: Final = 79


class Finding(NamedTuple):
    """A place that breaks a rule."""

    path: str
    line: int
    rule: str
    found: str


def find_in_python(path: str, source: str) -> Iterator[Finding]:
    """Yield what breaks the rules in a Python file; `path` is relative to the project."""
    tree, is_product = ast.parse(source), path.split("/", maxsplit=1)[0] in PRODUCT
    properties = set(_properties(tree))
    for node in ast.walk(tree):
        for line, name in _names(node):
            yield from _check_words(path, line, "identifier", name.replace("_", " "), name)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _check_words(path, node.lineno, "text", node.value, node.value[:80])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node not in properties:
            yield from _check_function(path, node)
        if is_product and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            yield from _check_docstring(path, node)
    for number, line_text in enumerate(source.splitlines(), 1):
        if "#" in line_text and line_text.lstrip().startswith("#"):
            yield from _check_words(path, number, "comment", line_text, line_text.strip()[:80])


def find_in_page(path: str, text: str) -> Iterator[Finding]:
    """Yield what breaks the rules on a page of Markdown."""
    for number, line in enumerate(text.splitlines(), 1):
        yield from _check_words(path, number, "page", line, line.strip()[:80])


def _properties(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield functions that stand for values: properties and fixtures."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = " ".join(ast.unparse(d) for d in node.decorator_list)
            if re.search(r"property|fixture|overrides", decorators):
                yield node


def _names(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the names that a node defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.lineno, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.name)
    elif isinstance(node, ast.arg):
        yield node.lineno, node.arg
    elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr


def _check_words(path: str, line: int, rule: str, text: str, shown: str) -> Iterator[Finding]:
    """Yield forbidden words and British spellings of a text."""
    plain = FROZEN.sub("", text)
    words = {word for word in re.findall(r"[a-z]+", plain.lower()) if word in FORBIDDEN}
    phrases = {phrase for phrase in FORBIDDEN_PHRASES if phrase in plain}
    spellings = {match.group(0) for match in BRITISH.finditer(plain)}
    for word in sorted(words | phrases | spellings):
        yield Finding(path, line, rule, f"{word!r} in {shown!r}")


def _check_function(path: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Finding]:
    """Yield past participles that name a function, and names of tests that are too long."""
    first, *_ = node.name.strip("_").split("_")
    is_participle = first in _PARTICIPLES or (first.endswith("ed") and first not in _NO_PARTICIPLES)
    if is_participle and not node.name.startswith("test_"):
        yield Finding(path, node.lineno, "function", f"{node.name}: begin with a verb in the imperative")
    if node.name.startswith("test_") and len(node.name) > _MOST_OF_A_TEST_NAME:
        yield Finding(path, node.lineno, "test name", f"{node.name}: {len(node.name)} characters, at most 79")


def _check_docstring(
    path: str, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module
) -> Iterator[Finding]:
    """Yield docstrings that begin with no noun and no verb in the imperative."""
    doc = ast.get_docstring(node)
    if not doc:
        return
    line, first = getattr(node, "lineno", 1), doc.split()[0].strip("`:,.;*").lower()
    if first in FIRST_WORDS or doc.startswith(("The same", "A file of its own")):
        yield Finding(path, line, "docstring", f"begins with {' '.join(doc.split()[:3])!r}")
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    if is_function and re.fullmatch(r"[a-z]+s", first) and not first.endswith("ss") and first not in _NOT_VERBS:
        yield Finding(path, line, "docstring", f"begins with {first!r}: use the imperative")
    if "A file of its own because" in doc:
        yield Finding(path, line, "docstring", "says why it is a file of its own")


def find_all(paths: Iterable[Path]) -> list[Finding]:
    """Findings in these files, and in all Python files and pages below these folders."""
    found: list[Finding] = []
    for path in sorted(_files(paths)):
        name, text = path.relative_to(ROOT).as_posix(), path.read_text()
        found += find_in_python(name, text) if path.suffix == ".py" else find_in_page(name, text)
    return found


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files that the rules are for."""
    exempt = {ROOT / "tests/words.py", ROOT / "tests/test_words.py", ROOT / "docs/log.md"}
    for path in paths:
        files = path.rglob("*") if path.is_dir() else [path]
        yield from (file for file in files if file.suffix in {".py", ".md"} and file not in exempt)


if __name__ == "__main__":
    asked = [Path(word).resolve() for word in sys.argv[1:]]
    findings = find_all(asked or [ROOT / name for name in (*PRODUCT, "tests", "docs", "README.md")])
    for finding in findings:
        print(f"{finding.path}:{finding.line}: {finding.rule}: {finding.found}")
    print(f"{len(findings)} findings")
