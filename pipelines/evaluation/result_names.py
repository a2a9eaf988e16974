"""Photos, results and masks of another system, paired by their names.

In: the files that three arguments name. Out: a `Triple` of URIs per photo, in byte order of the photos' names. A file
belongs to the photo with its path without suffix; where it was named by a pattern with one `*`, to the photo with the
text that the star stands for; else to one that its name speaks of: `x_fake.png`, `x_mask.png`, `masked_x.png`; else to
the only photo of that name in another folder.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pipelines.data.image.mask_files import photo_stems, strip_suffix
from pipelines.filling.files import PictureFiles, make_relative
from pipelines.filling.pairing import join_some, list_photo_names
from pipelines.records import UsageError, make_key

RESULTS, MASKS = "results", "masks"
_WORDS: Final[Mapping[str, str]] = {
    RESULTS: r"fake(?:[-_](?:[ab]|image|img))?|out(?:put)?s?|results?|inpaint(?:ed|ing)?|complet(?:ed|ion)|filled|comp"
    r"|compos(?:ed|ite)|pred(?:icted|iction)?|gen(?:erated)?|restored|synthesized(?:[-_]image)?|recon(?:structed)?",
    MASKS: r"masked(?:[-_](?:image|img|input))?|inputs?|in|corrupted",
}
"""Words that test scripts put behind or before the name of a photo; masks have those of `photo_stems`, too."""
_AFTER: Final = {role: re.compile(rf"(.+?)[-_. ](?:{w})(?:[-_. ]?\d+)?", re.I) for role, w in _WORDS.items()}
_BEFORE: Final = {role: re.compile(rf"(?:{w})[-_. ](.+)", re.I) for role, w in _WORDS.items()}


@dataclass(frozen=True)
class Triple:
    """Files of one pair, by their URIs."""

    key: str
    """Key of the photo."""
    photo: str
    result: str
    mask: str


@dataclass(frozen=True)
class Matching:
    """Pairing of three lists of files."""

    triples: tuple[Triple, ...]
    missing: Mapping[str, tuple[str, ...]]
    """URIs of photos without a result, and without a mask, by `results` and `masks`."""
    unused: Mapping[str, int]
    """How many results and masks belong to no photo."""
    num_photos: int


def match_names(photos: PictureFiles, results: PictureFiles, masks: PictureFiles) -> Matching:
    """Pairing of photos with their results and masks; one mask file goes with all photos.

    Raises UsageError where a folder is named twice, and where a photo has two results, two masks or a namesake.
    """
    _refuse_same_files({"--results": results, "--photos": photos, "--masks": masks})
    names = list_photo_names(photos)
    keys = _make_keys(photos, names)
    found = {role: _assign(photos, names, files, role) for role, files in ((RESULTS, results), (MASKS, masks))}
    missing = {role: tuple(photos.get_uri(n) for n in names if n not in of_photos) for role, of_photos in found.items()}
    complete = [name for name in names if all(name in of_photos for of_photos in found.values())]
    triples = tuple(Triple(keys[n], photos.get_uri(n), found[RESULTS][n], found[MASKS][n]) for n in complete)
    used = {uri for t in triples for uri in (t.photo, t.result, t.mask)}
    unused = {role: _count_unused(files, used) for role, files in ((RESULTS, results), (MASKS, masks))}
    return Matching(triples, missing, unused, len(names))


def _count_unused(files: PictureFiles, used: set[str]) -> int:
    return sum(files.get_uri(name) not in used for name in files.names)


def _refuse_same_files(given: Mapping[str, PictureFiles]) -> None:
    """Raise UsageError where two options name the same files; photos and masks may lie in one folder."""
    options = list(given)
    for number, option in enumerate(options):
        for other in options[:number]:
            one, two = given[option], given[other]
            if one.names != two.names or make_relative(one.root, two.root) != "":
                continue
            if {option, other} == {"--photos", "--masks"} and len(list_photo_names(one)) < len(one.names):
                continue
            raise UsageError(
                f"{other} and {option} name the same files, {two.given}: give each its own folder, or its own pattern "
                "such as 'out/*_fake.png'"
            )


def _make_keys(photos: PictureFiles, names: Sequence[str]) -> dict[str, str]:
    """Key of each photo by its name; raises UsageError for namesakes and names that make no key."""
    stems = {name: _find_star_text(photos, name) or strip_suffix(name) for name in names}
    counts = Counter(stems.values())
    twice = [photos.get_uri(name) for name in names if counts[stems[name]] > 1]
    if twice:
        raise UsageError(f"--photos: {len(twice)} photos share a name: {join_some(twice)}; leave one of each")
    try:
        return {name: make_key(f"{stem}.png") for name, stem in stems.items()}
    except ValueError as fault:
        raise UsageError(f"--photos {photos.given}: a name makes no key: {fault}; rename the photo") from None


@dataclass
class _Owners:
    """Photos by what files that belong to them may be called."""

    by_path: dict[str, str] = field(default_factory=dict)
    by_base: dict[str, list[str]] = field(default_factory=dict)
    """By the last part of the path alone."""

    def find(self, stems: Sequence[str]) -> str | None:
        """Name of the photo that the first of these stems fits, or of the only one in another folder."""
        for stem in stems:
            if (photo := self.by_path.get(stem)) is not None:
                return photo
        for stem in stems:
            if len(photos := self.by_base.get(stem.rpartition("/")[2], [])) == 1:
                return photos[0]
        return None


def _index_photos(photos: PictureFiles, names: Sequence[str]) -> _Owners:
    owners = _Owners()
    for name in names:
        stems = dict.fromkeys(filter(None, (_find_star_text(photos, name), strip_suffix(name), name)))
        for stem in stems:  # `x.jpg.png` is a mask of `x.jpg`
            owners.by_path.setdefault(stem, name)
        for base in dict.fromkeys(stem.rpartition("/")[2] for stem in stems):
            owners.by_base.setdefault(base, []).append(name)
    return owners


def _assign(photos: PictureFiles, names: Sequence[str], files: PictureFiles, role: str) -> dict[str, str]:
    """URI of the file of a role for each photo that has one, by the photo's name; raises UsageError for two."""
    if files.is_one and (role == MASKS or len(names) == 1):
        return dict.fromkeys(names, files.get_uri(files.names[0]))
    owners, found = _index_photos(photos, names), dict[str, list[str]]()
    own = {photos.get_uri(name) for name in names}
    for name in list_photo_names(files) if role == RESULTS else files.names:
        photo = None if files.get_uri(name) in own else owners.find(list(_list_stems(files, name, role)))
        if photo is not None:
            found.setdefault(photo, []).append(files.get_uri(name))
    for photo, uris in found.items():
        if len(uris) > 1:
            raise UsageError(
                f"{photos.get_uri(photo)} has {len(uris)} files in --{role}: {join_some(sorted(uris))}; leave one "
                f"of them, or choose by a pattern such as '*_{'out_0' if role == RESULTS else 'mask'}.png'"
            )
    return {photo: uris[0] for photo, uris in found.items()}


def _list_stems(files: PictureFiles, name: str, role: str) -> Iterator[str]:
    """Yield paths, without suffix, at which the photo of a file may lie, the likeliest first."""
    if (star := _find_star_text(files, name)) is not None:
        yield star
    yield strip_suffix(name)
    if role == MASKS:
        yield from photo_stems(name)
    folder, slash, base = strip_suffix(name).rpartition("/")
    for pattern in (_AFTER[role], _BEFORE[role]):
        if (match := pattern.fullmatch(base)) is not None:
            yield folder + slash + match[1]


def _find_star_text(files: PictureFiles, name: str) -> str | None:
    """The path of a file with, as its last part, the text for the only `*` of that part of the pattern, or None."""
    pattern = files.given.rpartition("/")[2]
    folder, slash, base = name.rpartition("/")
    before, star, after = pattern.partition("*")
    if not star or any(magic in before + after for magic in "*?["):
        return None
    text = base[len(before) : len(base) - len(after)]
    return folder + slash + text if base == before + text + after and text else None
