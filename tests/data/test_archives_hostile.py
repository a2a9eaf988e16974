"""Archives that lie, break off or point elsewhere: a file is refused with its reason, or the archive is, in words."""

import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.archive.read import read_photo
from pipelines.data.build.scan import list_source, scan_files
from pipelines.data.commit.workspace import Plan
from pipelines.data.sources import DATASETS
from pipelines.records import ByteRange, CorruptDataError, Photo, UsageError
from tests.data.trees import files, list_photos, put, tar_bytes, zip_bytes
from tests.making import shard_recipe

TREE = files("a.jpg", "b.jpg", "c.jpg", "d.jpg")
NAMES = {
    "/etc/passwd": "its name leaves the archive",
    "../up.jpg": "its name leaves the archive",
    "in/../../up.jpg": "its name leaves the archive",
    "n" * 5000: "its name is longer than 4096 characters",
}


def tar_of(*members: tarfile.TarInfo, format: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    return stream.getvalue()


def member(name: str, size: int = 5, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for field, value in more.items():
        setattr(info, field, value)
    return info


def refusals(uri: str) -> dict[str, str | None]:
    return {path: photo.refusal for path, photo in list_photos("folder", uri).items()}


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_names_that_leave_a_tar_are_refused(suffix: str, format: int, tmp_path: Path) -> None:
    data = tar_of(*map(member, NAMES), member("good.jpg"), format=format)
    found = refusals(put(str(tmp_path / f"all{suffix}"), data if suffix == ".tar" else gzip.compress(data)))
    shown = {(f"{name[:200]}..." if len(name) > 4096 else name): why for name, why in NAMES.items()}
    assert found == shown | {"good.jpg": None}
    assert not (tmp_path / "up.jpg").exists()
    assert not (tmp_path.parent / "up.jpg").exists()


def test_names_that_leave_a_zip_are_refused(tmp_path: Path) -> None:
    found = refusals(put(str(tmp_path / "all.zip"), zip_bytes(dict.fromkeys([*NAMES, "good.jpg"], b"x"))))
    shown = {(f"{name[:200]}..." if len(name) > 4096 else name): why for name, why in NAMES.items()}
    assert found == shown | {"good.jpg": None}


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_members_that_are_no_files_are_refused(suffix: str, tmp_path: Path) -> None:
    data = tar_of(
        member("sym.jpg", 0, tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("hard.jpg", 0, tarfile.LNKTYPE, linkname="good.jpg"),
        member("tty.jpg", 0, tarfile.CHRTYPE),
        member("disk.jpg", 0, tarfile.BLKTYPE),
        member("pipe.jpg", 0, tarfile.FIFOTYPE),
        member("old.jpg", 5, tarfile.GNUTYPE_SPARSE),
        member("new.jpg", 5, pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
        member("odd.jpg", 5, b"V"),
        member("folder", 0, tarfile.DIRTYPE),
        member("good.jpg"),
    )
    assert refusals(put(str(tmp_path / f"all{suffix}"), data if suffix == ".tar" else gzip.compress(data))) == {
        "sym.jpg": "it is a link",
        "hard.jpg": "it is a link",
        "tty.jpg": "it is a device",
        "disk.jpg": "it is a device",
        "pipe.jpg": "it is a pipe",
        "old.jpg": "it is a sparse file",
        "new.jpg": "it is a sparse file",
        "odd.jpg": "it is no file but of tar type b'V'",
        "good.jpg": None,
    }


def test_the_map_of_a_sparse_file_is_not_taken_for_data(tmp_path: Path) -> None:
    head, rest = tar_of(member("old.jpg", 600, tarfile.GNUTYPE_SPARSE)), tar_of(member("good.jpg"))
    header, more, last = bytearray(head[:512]), bytearray(512), bytes(512)
    header[482] = more[504] = 1
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 256)
    found = refusals(put(str(tmp_path / "all.tar"), bytes(header) + bytes(more) + last + head[512:1536] + rest))
    assert found == {"old.jpg": "it is a sparse file", "good.jpg": None}


def test_hostile_names_count_where_they_seem_to_lie(tmp_path: Path) -> None:
    names = ["/img_align_celeba/000001.jpg", "img_align_celeba/../../up.jpg", "/etc/passwd", "../up.jpg"]
    put(str(tmp_path / "img_align_celeba.tar"), tar_of(*map(member, names)))
    put(str(tmp_path / "list_eval_partition.txt"), b"000001.jpg 0")
    photos = list_photos("celeba", tmp_path)
    assert {path: photo.refusal for path, photo in photos.items()} == dict.fromkeys(
        names[:2], "its name leaves the archive"
    )


def test_a_second_file_of_a_name_is_refused_where_names_are_listed(tmp_path: Path) -> None:
    twice = [member("img_align_celeba/000001.jpg") for _ in range(2)]
    put(str(tmp_path / "img_align_celeba.tar"), tar_of(*twice))
    put(str(tmp_path / "list_eval_partition.txt"), b"000001.jpg 0")
    found = [
        item for item in DATASETS["celeba"].list_items(str(tmp_path), None, "memory://never") if isinstance(item, Photo)
    ]
    assert [photo.refusal for photo in found] == [None, "the archive holds another file of this name"]


def edit(data: bytes, offset: int, format: str, value: int, end: bool = False) -> bytes:
    """The zip with a field of the directory's entry for bad.jpg overwritten, or one of its end record."""
    changed = bytearray(data)
    record = data.index(b"PK\5\6") if end else data.rindex(b"bad.jpg") - 46
    struct.pack_into(format, changed, record + offset, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("offset", "format", "value", "reason"),
    [
        (8, "<H", 1, "it is encrypted"),
        (10, "<H", 12, "it is packed by method 12: only stored and deflated members are read"),
        (20, "<L", 1 << 30, "its data is not where the directory of the archive says"),
        (24, "<L", (1 << 30) + 1, f"it is larger than {1 << 30} bytes"),
        (38, "<L", 0o120777 << 16, "it is a link"),
        (38, "<L", 0o020666 << 16, "it is no regular file"),
        (42, "<L", 7, "its data is not where the directory of the archive says"),
        (42, "<L", 0xFFFFFFF0, "its data is not where the directory of the archive says"),
    ],
)
def test_zip_entries_that_cannot_be_read_are_refused(
    offset: int, format: str, value: int, reason: str, tmp_path: Path
) -> None:
    data = edit(zip_bytes({"bad.jpg": b"x" * 3000, "good.jpg": b"y" * 3000}), offset, format, value)
    assert refusals(put(str(tmp_path / "all.zip"), data)) == {"bad.jpg": reason, "good.jpg": None}


@pytest.mark.parametrize("value", [1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize(
    ("offset", "reason"),
    [(42, "its data is not where the directory of the archive says"), (24, f"it is larger than {1 << 30} bytes")],
)
def test_wide_numbers_beyond_what_can_be_sought_or_written_down_are_refused(
    offset: int, reason: str, value: int, tmp_path: Path
) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo("bad.jpg")
        info.compress_type, info.extra = zipfile.ZIP_DEFLATED, struct.pack("<2HQ", 1, 8, value)
        archive.writestr(info, b"x" * 3000)
        archive.writestr("good.jpg", b"y" * 3000)
    root = put(str(tmp_path / "all.zip"), edit(stream.getvalue(), offset, "<L", 0xFFFFFFFF))
    assert refusals(root) == {"bad.jpg": reason, "good.jpg": None}
    plan = Plan(root, str(tmp_path / "out"), shard_recipe(holdout=0.0), 0)
    scan_files(plan, list_source(plan), 0)


@pytest.mark.parametrize("zip64", [False, True])
def test_a_directory_entry_that_swallows_the_next_is_damage(
    zip64: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if zip64:
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)  # so that the count is in the wide end record
    whole = zip_bytes({"bad.jpg": b"x", "good.jpg": b"y", "last.jpg": b"z"})
    assert (b"PK\6\6" in whole) is zip64
    data = edit(whole, 32, "<H", 46 + len("good.jpg"))  # the length of its comment
    with pytest.raises(UsageError, match="its directory holds 3 entries and should hold 4"):
        list_photos("folder", put(str(tmp_path / "all.zip"), data))


def test_a_stored_entry_of_two_sizes_is_refused(tmp_path: Path) -> None:
    data = edit(zip_bytes({"bad.jpg": b"x" * 30}, zipfile.ZIP_STORED), 24, "<L", 31)
    assert refusals(put(str(tmp_path / "all.zip"), data)) == {"bad.jpg": "its sizes contradict each other"}


@pytest.mark.parametrize("size", [2999, 3001])
def test_a_wrong_size_or_checksum_in_a_zip_is_damage_of_that_file(size: int, tmp_path: Path) -> None:
    for changed, words in (((24, "<L", size), r"bytes"), ((16, "<L", 7), "its CRC32 is .* not 00000007")):
        data = edit(zip_bytes({"bad.jpg": b"x" * 3000, "good.jpg": b"y"}), *changed)
        local, remote = put(str(tmp_path / "all.zip"), data), put(f"memory://{tmp_path.name}/all.zip", data)
        with pytest.raises(CorruptDataError, match=rf"bad.jpg is damaged in the archive: .*{words}"):
            read_photo(local, list_photos("folder", local)["bad.jpg"])
        assert read_photo(local, list_photos("folder", local)["good.jpg"]) == b"y"
        far = list_photos("folder", remote)
        assert (far["bad.jpg"].refusal or "").startswith("bad.jpg is damaged in the archive: it")
        assert read_photo(remote, far["good.jpg"]) == b"y"
        assert far["good.jpg"].place == ByteRange(f"{remote}-spooled/000000", 0, 1, crc32=zlib.crc32(b"y"))


def test_what_swells_beyond_its_size_is_stopped(tmp_path: Path) -> None:
    data = edit(zip_bytes({"bad.jpg": b"\0" * 300_000_000}), 24, "<L", 100)
    uri = put(str(tmp_path / "all.zip"), data)
    photo = list_photos("folder", uri)["bad.jpg"]
    tracemalloc.start()
    with pytest.raises(CorruptDataError, match="it has more and not 100 bytes"):
        read_photo(uri, photo)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # of which a third of a million is what is stored


@pytest.mark.parametrize(
    ("suffix", "spoil", "words"),
    [
        (
            ".tar",
            lambda data: data[:3000],
            "is torn: it ends at byte 3000, 72 bytes too early; 2 files were read, the last .*'./b.jpg'",
        ),
        (".tar", lambda data: data[:3100], "is torn: it ends inside './c.jpg'; 2 files were read"),
        (".tar", lambda data: data[:1300], "is torn: it ends at byte 1300"),
        (".tar", lambda data: data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512), "is torn: it ends at byte"),
        (".tar", lambda data: data[:512] + b"no header".ljust(512) + data[1024:], "no number|no tar header at byte"),
        (".tgz", lambda data: gzip.compress(data)[:-200], "is torn"),
        (".tgz", lambda data: gzip.compress(data[:3000]), "is torn: it ends at byte 3000.*'./b.jpg'"),
        (".tgz", lambda data: data, "is torn: Not a gzipped file"),
        (".tar.bz2", lambda data: b"BZh9" + data, "is torn: Invalid data stream"),
        (".tar.xz", lambda data: data, "is torn: .*format"),
        (".zip", lambda data: zip_bytes(TREE)[:-30], "is torn: it has no end record"),
        (".zip", lambda data: zip_bytes(TREE)[100:], "it is a part of a zip only"),
        (".zip", lambda data: edit(zip_bytes(TREE), 12, "<L", 60, end=True), "is torn: there is no entry|directory"),
        (".zip", lambda data: edit(zip_bytes(TREE), 10, "<H", 9, end=True), "holds 5 entries and should hold 9"),
        (".zip", lambda data: b"", "is torn: it has no end record"),
    ],
)
def test_a_torn_archive_is_refused_saying_how_far_it_was_read(
    suffix: str, spoil: Callable[[bytes], bytes], words: str, tmp_path: Path
) -> None:
    uri = put(str(tmp_path / f"all{suffix}"), spoil(tar_bytes(TREE)))
    with pytest.raises(UsageError, match=f"(?s)all{suffix}.*({words}).*fetch the archive again"):
        list_photos("folder", uri)


def test_headers_that_claim_much_are_not_believed(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("x")
    huge.type, huge.size = tarfile.XHDTYPE, 1 << 40
    with pytest.raises(UsageError, match="claims 1099511627776 bytes"):
        refusals(put(str(tmp_path / "all.tar"), huge.tobuf(tarfile.GNU_FORMAT)))
    negative = bytearray(tarfile.TarInfo("x").tobuf())
    negative[124:136] = b"-0000000777\0"
    negative[148:156] = b"%06o\0 " % (sum(negative) - sum(negative[148:156]) + 256)
    with pytest.raises(UsageError, match="negative size"):
        refusals(put(str(tmp_path / "all.tar"), bytes(negative) + bytes(1024)))


@settings(max_examples=300)
@given(
    suffix=st.sampled_from([".tar", ".tgz", ".zip"]),
    at=st.floats(0, 1, exclude_max=True),
    change=st.none() | st.binary(min_size=1, max_size=40),
)
def test_damage_is_refused_or_named_and_never_crashes(
    suffix: str, at: float, change: bytes | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Cut or overwritten anywhere; what has checksums, as zip and gzip have, gives no byte that was not put in."""
    data = {".tar": tar_bytes, ".tgz": lambda tree: gzip.compress(tar_bytes(tree)), ".zip": zip_bytes}[suffix](TREE)
    cut = int(at * len(data))
    spoilt = data[:cut] if change is None else data[:cut] + change + data[cut + len(change) :]
    folder = tmp_path_factory.getbasetemp() / "spoilt"
    folder.mkdir(exist_ok=True)
    uri = put(str(folder / f"all{suffix}"), spoilt)
    try:
        photos = list(DATASETS["folder"].list_items(uri, None, str(folder / "spooled")))
    except UsageError:
        return
    for photo in photos:
        if isinstance(photo, Photo) and photo.refusal is None:
            with suppress(CorruptDataError):
                assert read_photo(uri, photo) in TREE.values() or suffix == ".tar"


def test_damage_inside_a_gzip_is_found_although_the_tar_is_whole(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(tar_bytes(TREE), compresslevel=0))
    packed[packed.index(b"b.jpg||||") + 6] ^= 1
    with pytest.raises(UsageError, match="is torn: CRC check failed"):
        list_photos("folder", put(str(tmp_path / "all.tgz"), bytes(packed)))


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
@pytest.mark.parametrize("lost_from", [1, 3])
def test_a_tar_with_a_hole_of_zeros_is_torn(suffix: str, lost_from: int, tmp_path: Path) -> None:
    whole = tar_of(*(member(f"{number}.jpg", 700_000) for number in range(6)))
    stride = 512 + -(-700_000 // 512) * 512
    for holed, why in (
        (whole[: lost_from * stride] + bytes(len(whole) - lost_from * stride), "its tail is lost"),
        (whole[: lost_from * stride] + bytes(stride) + whole[(lost_from + 1) * stride :], "goes on after its end mark"),
    ):
        uri = put(str(tmp_path / f"all{suffix}"), holed if suffix == ".tar" else gzip.compress(holed, 1))
        with pytest.raises(UsageError, match=rf"is torn: .*{why}"):
            refusals(uri)
