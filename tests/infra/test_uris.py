"""What can be no place is refused in words before anything is made there."""

from pathlib import Path

import pytest

from infra import storage
from infra.lock import lock_folder
from infra.settings import get_tracking_uri
from infra.uris import InvalidURIError, refuse_invalid_uri


@pytest.mark.parametrize("uri", ["", " ", "\n"])
def test_an_empty_name_is_no_place(uri: str) -> None:
    for use in (storage.exists, storage.read_bytes, lambda of: storage.join(of, "run.json")):
        with pytest.raises(InvalidURIError, match="give a folder or a URI such as s3://bucket/folder"):
            use(uri)


def test_an_unknown_scheme_is_no_place() -> None:
    with pytest.raises(InvalidURIError, match="s33://bucket/run has the unknown scheme s33://: give a folder"):
        storage.exists("s33://bucket/run")


@pytest.mark.parametrize("uri", ["S3://bucket/run", "s3:/bucket/run", "filecache::s3://bucket/run"])
def test_what_is_nearly_a_scheme_is_no_folder_of_that_name(uri: str) -> None:
    with pytest.raises(InvalidURIError, match=f"{uri} is neither a path nor a URI"):
        storage.exists(uri)


@pytest.mark.parametrize("uri", ["run", "a:b/c", "./s3:/x", "/data/S3:/x", "memory://run", "file:///tmp"])
def test_paths_and_known_schemes_are_places(uri: str) -> None:
    storage.exists(uri)


@pytest.mark.parametrize("uri", ["s3://", "s3:///", "memory:// "])
def test_a_store_alone_is_no_place(uri: str) -> None:
    with pytest.raises(InvalidURIError, match=f"{uri} names no bucket or folder: give a folder"):
        storage.exists(uri)


@pytest.mark.parametrize("uri", ["git://nowhere", "zip://a::nonsense"])
def test_a_store_that_cannot_be_reached_from_here_is_no_place(uri: str) -> None:
    with pytest.raises(InvalidURIError, match=f"could not open {uri}: "):
        storage.exists(uri)


@pytest.mark.parametrize("uri", ["run", "file://run", "local://run", "file:///{here}/run"])
def test_a_local_place_is_absolute_for_processes_that_stand_elsewhere(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.to_absolute(uri.replace("/{here}", str(tmp_path))) == str(tmp_path / "run")


@pytest.mark.parametrize(
    "uri",
    [
        *("http://127.0.0.1:9/run", "https://127.0.0.1:9/run", "github://o:r@main/run", "gist://a/run"),
        *("data://a/run", "zip://run", "tar:///run.tar", "simplecache://run", "dir://run"),
    ],
)
def test_nothing_is_written_where_files_are_only_read(uri: str) -> None:
    message = r"is read-only, as all of \w+://: give a folder or a URI"
    with pytest.raises(InvalidURIError, match=f"{uri} {message}"), lock_folder(uri):
        pass
    for write in (storage.publish, storage.create):
        with pytest.raises(InvalidURIError, match=message):
            write(f"{uri}/run.json", b"{}")
    with pytest.raises(InvalidURIError, match=message):
        storage.publish_file(f"{uri}/run.json", Path("nowhere"))


@pytest.mark.parametrize("below", ["", "/run"])
def test_a_file_is_no_folder(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with (
        pytest.raises(InvalidURIError, match=f"{file}{below} cannot be a folder: {file} is a file"),
        lock_folder(f"{file}{below}"),
    ):
        pass
    assert file.read_text() == "mine"


@pytest.mark.parametrize("uri", ["s3://key:pass4711@bucket/data", "s3a://key:pa/ss4711@bucket"])
def test_a_key_in_a_uri_is_refused_and_not_shown(uri: str) -> None:
    """URIs are stored in runs and sent to the tracking server."""
    with pytest.raises(InvalidURIError, match="remove it, and set AWS_ACCESS_KEY_ID") as refusal:
        storage.exists(uri)
    assert "4711" not in str(refusal.value)


@pytest.mark.parametrize("name", ["a?key=1.jpg", "me:you@home.jpg", "a%3Ab@c"])
def test_names_of_photos_are_no_keys(name: str) -> None:
    refuse_invalid_uri(f"s3://bucket/photos/{name}")


@pytest.mark.parametrize("uri", ["nonsense", "foo://server", "./mlruns", "file:///mlruns"])
def test_what_can_be_no_tracking_server_is_refused(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InvalidURIError, match=f"MLFLOW_TRACKING_URI is {uri}: give http"):
        get_tracking_uri()


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "sqlite:///mlflow.db", "postgresql+psycopg2://u:p@h/db"])
def test_servers_and_databases_are_taken(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert get_tracking_uri() == uri
