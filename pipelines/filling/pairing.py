"""Photos paired with their masks, and with what else lies beside them, by name.

In: the files that arguments name. Out: a `Job` for each photo, in byte order of names, or a refusal before any work.
A mask belongs to the photo of its own path without suffix, else to one that its name speaks of: `x.jpg.png`,
`x_mask.png`, `masks/x.png` beside `images/x.jpg` (`pipelines.data.image.mask_files`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pipelines.data.archive.sidecars import is_map
from pipelines.data.image.mask_files import is_mask_name, photo_stems, strip_suffix
from pipelines.filling.files import PictureFiles, make_relative
from pipelines.records import UsageError

_NUM_NAMED: Final = 5
MASK: Final = "mask"


@dataclass(frozen=True)
class Job:
    """A photo to fill, by URIs."""

    image: str
    name: str
    """Path of its result below the folder of results, without suffix."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Files that belong to it: `mask`, `sketch`, `segmentation`."""


def pair(photos: PictureFiles, others: Mapping[str, PictureFiles]) -> tuple[Job, ...]:
    """Jobs for photos whose files beside them are named by option (`mask`, `sketch`, `segmentation`).

    Raises UsageError where a photo lacks one of them or has several, and where two results would have one name. A
    single file goes with every photo.
    """
    candidates = list_photo_names(photos)
    chosen = {option: _choose(photos, candidates, files, option) for option, files in others.items()}
    used = {uri for of_photos in chosen.values() for uri in of_photos.values()}
    names = [name for name in candidates if photos.is_one or photos.get_uri(name) not in used]
    if not names:
        raise UsageError(f"--image: every picture in {photos.given} is a mask or a map of another one")
    for option, of_photos in chosen.items():
        _refuse_lone(photos, names, of_photos, option)
    _refuse_same_results(photos, names)
    return tuple(
        Job(photos.get_uri(name), strip_suffix(name), {option: of_photos[name] for option, of_photos in chosen.items()})
        for name in names
    )


def find_left_out(photos: PictureFiles, jobs: Sequence[Job]) -> list[Job]:
    """Files among the photos that are not filled and belong to none that is: masks and maps by their names."""
    used = {job.image for job in jobs} | {uri for job in jobs for uri in job.inputs.values()}
    return [Job(photos.get_uri(name), strip_suffix(name)) for name in photos.names if photos.get_uri(name) not in used]


def count_unused(jobs: Sequence[Job], others: Mapping[str, PictureFiles]) -> dict[str, int]:
    """How many files of each option belong to no photo; only options of which some do not."""
    used = {uri for job in jobs for uri in job.inputs.values()} | {job.image for job in jobs}
    unused = {option: sum(files.get_uri(name) not in used for name in files.names) for option, files in others.items()}
    return {option: number for option, number in unused.items() if number}


def refuse_overwriting(out: str, results: Iterable[str], given: Sequence[PictureFiles]) -> None:
    """Raise UsageError where results of these names in the folder `out` would be inputs of this run or the next one.

    `given`: the files that photos and what lies beside them were taken from.
    """
    holder = next((files for files in given if files.may_hold(out)), None)
    if holder is not None:
        raise UsageError(
            f"--out {out} lies in {holder.given}, so results would be inputs of the next run: name another"
        )
    inputs = {
        f"{below}/{name}".lstrip("/")
        for files in given
        if (below := make_relative(files.root, out)) is not None
        for name in files.names
    }
    if (same := next((file for file in results if file in inputs), None)) is not None:
        raise UsageError(f"--out {out}: {same} is one of the inputs there: name another folder")


def list_photo_names(photos: PictureFiles) -> list[str]:
    """Names of the files that are neither masks nor maps of others among them."""
    if photos.is_one:
        return list(photos.names)
    stems = {strip_suffix(name) for name in photos.names if not is_mask_name(name) and not is_map(name)}
    return [name for name in photos.names if not _is_beside(name, stems)]


def _is_beside(name: str, stems: set[str]) -> bool:
    """Whether the name is that of a mask or map of a photo with one of these paths without suffix."""
    if is_map(name):
        return strip_suffix(name).rpartition("_")[0] in stems
    return is_mask_name(name) and not stems.isdisjoint(photo_stems(name))


def _choose(photos: PictureFiles, names: Sequence[str], files: PictureFiles, option: str) -> dict[str, str]:
    """URI of the file that belongs to each photo of `names`, by that; photos without one are left out."""
    if files.is_one:
        return dict.fromkeys(names, files.get_uri(files.names[0]))
    by_stem: dict[str, list[str]] = {}
    for name in names:
        for stem in (strip_suffix(name), name):  # `x.jpg.png` is a mask of `x.jpg`
            by_stem.setdefault(stem, []).append(name)
    found: dict[str, list[str]] = {}
    for name in files.names:
        for photo in _find_photos(name, by_stem, option, photos, files):
            found.setdefault(photo, []).append(files.get_uri(name))
    for photo, uris in found.items():
        if len(uris) > 1:
            raise UsageError(
                f"{photos.get_uri(photo)} has {len(uris)} files for --{option}: {join_some(sorted(uris))}; "
                "leave one of them"
            )
    return {photo: uris[0] for photo, uris in found.items()}


def _find_photos(
    name: str, by_stem: Mapping[str, list[str]], option: str, photos: PictureFiles, files: PictureFiles
) -> list[str]:
    """Names of the photos that a file belongs to: those of its own stem, else the first that its name speaks of."""
    for stem in (strip_suffix(name), *_list_photo_stems(name, option)):
        owners = [photo for photo in by_stem.get(stem, ()) if photos.get_uri(photo) != files.get_uri(name)]
        if owners:
            return owners
    return []


def _list_photo_stems(name: str, option: str) -> list[str]:
    """Paths, without suffix, of the photos whose file for this option may be called so."""
    if option == MASK:
        return list(photo_stems(name))
    ends = {"sketch": ("_sketch", "_edge"), "segmentation": ("_seg", "_segmentation")}[option]
    stem = strip_suffix(name)
    return [stem.removesuffix(end) for end in ends if stem.endswith(end)]


def _refuse_lone(photos: PictureFiles, names: Sequence[str], of_photos: Mapping[str, str], option: str) -> None:
    lone = [photos.get_uri(name) for name in names if name not in of_photos]
    if lone:
        example = strip_suffix(names[0])
        raise UsageError(
            f"{len(lone)} of {len(names)} photos have no file for --{option}: {join_some(lone)}; "
            f"name it as its photo: {example}.png or {example}_{option}.png"
        )


def _refuse_same_results(photos: PictureFiles, names: Sequence[str]) -> None:
    counts = Counter(map(strip_suffix, names))
    twice = [photos.get_uri(name) for name in names if counts[strip_suffix(name)] > 1]
    if twice:
        raise UsageError(
            f"results of {join_some(twice)} would have one name: fill them to different folders by patterns"
        )


def join_some(names: Sequence[str]) -> str:
    """The first names of a list for a message, and how many more there are."""
    more = len(names) - _NUM_NAMED
    return ", ".join(names[:_NUM_NAMED]) + (f" and {more} more" if more > 0 else "")
