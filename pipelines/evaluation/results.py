"""Another system's results: folders of photos, masks and filled pictures -> pairs to score, chunk by chunk.

In: three arguments as `fill` takes them: files, folders or patterns, on disk or on a store. Out: a `ResultSet`, which
holds names, sizes and digests only, or a refusal before any scoring; `ResultPair`s of one chunk at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from pipelines.evaluation.metrics import MIN_SIDE_PX
from pipelines.evaluation.pairs import PHOTOS_PER_CHUNK
from pipelines.evaluation.result_files import PictureFile, fits, inspect_files, is_turned_in_doubt, name_sizes
from pipelines.evaluation.result_holes import Files, HoleChoice, check_masks, choose_hole
from pipelines.evaluation.result_names import MASKS, RESULTS, Matching, match_names
from pipelines.evaluation.result_pairs import ResultPair, read_result_pair
from pipelines.filling.files import PictureFiles, find_files
from pipelines.filling.pairing import join_some
from pipelines.records import UsageError, sha256_hex

Missing = Literal["refuse", "skip"]
OTHER_SIZE: Final = "other size"


@dataclass(frozen=True)
class ResultSet:
    """Results of another system with their photos and masks, in byte order of the photos' names."""

    pairs: tuple[tuple[str, Files], ...]
    """Key and files of each pair."""
    hole: HoleChoice
    skipped: Mapping[str, tuple[str, ...]]
    """URIs of the photos that are not scored, by what is missing: `results`, `masks`, `other size`."""
    unused: Mapping[str, int]
    """How many results and masks belong to no photo."""
    num_photos: int
    inputs_sha256: str
    """Digest of the names and bytes of all files that are scored, in any order."""

    @property
    def num_chunks(self) -> int:
        """Number of chunks."""
        return -(-len(self.pairs) // PHOTOS_PER_CHUNK)

    def select_chunk(self, chunk: int) -> "ResultSet":
        """A set with the pairs of one chunk alone, to send to a task; its chunk 0 is this one."""
        start = chunk * PHOTOS_PER_CHUNK
        return replace(self, pairs=self.pairs[start : start + PHOTOS_PER_CHUNK])

    def as_json(self) -> dict[str, Any]:
        """Fields for a passport: what was scored, and what the hole looks like."""
        return {
            "inputs_sha256": self.inputs_sha256,
            "num_photos": self.num_photos,
            "hole": self.hole.color,
            "hole_evidence": self.hole.evidence,
            "skipped": {reason: len(uris) for reason, uris in self.skipped.items()},
        }


def open_results(results: str, photos: str, masks: str, hole: str = "auto", missing: Missing = "refuse") -> ResultSet:
    """Results of another system, every file read once and every mask decoded.

    Raises UsageError naming the files: photos without result or mask and pictures of another size (with `missing`
    skip they are left out and counted), two files of one name, a folder given twice, files that are no whole
    pictures, results that are their photos, masks that are gray, empty, full or inverted.
    """
    found = {
        name: find_files(given, f"--{name}") for name, given in (("photos", photos), (RESULTS, results), (MASKS, masks))
    }
    matching = match_names(found["photos"], found[RESULTS], found[MASKS])
    skipped = {role: uris for role, uris in matching.missing.items() if uris}
    if skipped and (missing == "refuse" or not matching.triples):
        raise UsageError(_format_missing(skipped, matching.num_photos, found))
    pairs = _inspect(matching)
    # Set pictures of other sizes aside.
    unfit = [(key, files) for key, files in pairs if not (_fits(files.result, files) and _fits(files.mask, files))]
    if unfit and (missing == "refuse" or len(unfit) == len(pairs)):
        raise UsageError(_format_unfit([files for _, files in unfit], len(pairs)))
    skipped |= {OTHER_SIZE: tuple(files.photo.uri for _, files in unfit)} if unfit else {}
    unfit_keys = {key for key, _ in unfit}
    pairs = [pair for pair in pairs if pair[0] not in unfit_keys]
    # Refuse what cannot be scored, and decide on the hole.
    chosen = [files for _, files in pairs]
    _refuse_small(chosen)
    _refuse_turned(chosen)
    _refuse_same_bytes(chosen)
    choice = choose_hole(hole, chosen)
    check_masks(chosen, choice, hole)
    digest = _hash_inputs(pairs, found)
    return ResultSet(tuple(pairs), choice, skipped, matching.unused, matching.num_photos, digest)


def read_result_chunk(results: ResultSet, chunk: int) -> Iterator[ResultPair]:
    """Yield the pairs of one chunk, one at a time; raises as `read_result_pair`."""
    for key, files in results.select_chunk(chunk).pairs:
        yield read_result_pair(key, files, results.hole.color)


def _inspect(matching: Matching) -> list[tuple[str, Files]]:
    photos = inspect_files((t.photo for t in matching.triples), "--photos")
    results = inspect_files((t.result for t in matching.triples), "--results")
    masks = inspect_files((t.mask for t in matching.triples), "--masks")
    return [(t.key, Files(photos[t.photo], results[t.result], masks[t.mask])) for t in matching.triples]


def _format_missing(missing: Mapping[str, Sequence[str]], num_photos: int, found: Mapping[str, PictureFiles]) -> str:
    parts = [
        f"{len(uris)} of {num_photos} photos have no file in --{role} {found[role].given}: {join_some(uris)}"
        for role, uris in missing.items()
    ]
    return (
        f"{'; '.join(parts)}. Names are paired as x.png, x_fake.png, x_mask.png, or by patterns such as "
        "'out/*_inpainted.png'; --missing skip counts them"
    )


def _fits(other: PictureFile, files: Files) -> bool:
    return fits(files.photo.header, other.header)


def _format_unfit(unfit: Sequence[Files], num_pairs: int) -> str:
    others = [(files.photo, next(f for f in files[1:] if not _fits(f, files))) for files in unfit]
    return (
        f"{len(unfit)} of {num_pairs} photos have a result or mask of another size: {name_sizes(others)}. "
        "Give --photos at the size that the system filled; --missing skip counts them"
    )


def _refuse_small(pairs: Sequence[Files]) -> None:
    small = [files.photo.uri for files in pairs if min(files.photo.header.upright_size) < MIN_SIDE_PX]
    if small:
        raise UsageError(
            f"{len(small)} photos have a side under {MIN_SIDE_PX} px, too small for scores: {join_some(small)}"
        )


def _refuse_turned(pairs: Sequence[Files]) -> None:
    doubtful = [f.uri for files in pairs for f in files[1:] if is_turned_in_doubt(files.photo.header, f.header)]
    if doubtful:
        raise UsageError(
            f"{len(doubtful)} files may lie as their photo is seen or as it is stored: {join_some(doubtful)}; "
            "EXIF turns the photo. Save the photos upright, without EXIF orientation"
        )


def _refuse_same_bytes(pairs: Sequence[Files]) -> None:
    """Raise UsageError for results with the bytes of their photo or of their mask."""
    same = [files.result.uri for files in pairs if files.result.sha256 in (files.photo.sha256, files.mask.sha256)]
    if same:
        raise UsageError(
            f"{len(same)} of {len(pairs)} results have the bytes of their own photo or mask: {join_some(same)}; "
            "give --results the folder of filled pictures"
        )


def _hash_inputs(pairs: Sequence[tuple[str, Files]], found: Mapping[str, PictureFiles]) -> str:
    roots = [found[name].root.rstrip("/") for name in ("photos", RESULTS, MASKS)]
    lines = {
        f"{role} {file.uri.removeprefix(root + '/')} {file.sha256}"
        for _, files in pairs
        for role, root, file in zip(Files._fields, roots, files, strict=True)
    }
    return sha256_hex("\n".join(sorted(lines)).encode())
