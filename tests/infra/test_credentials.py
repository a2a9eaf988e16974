"""Credentials: found and hidden wherever a URI holds them; read from a private file only, and never named."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.credentials import SecretsError, has_credentials, hide_credentials, load_secrets, names_secret

NAMES = (
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)


@pytest.mark.parametrize(
    "text",
    [
        "http://me:pass4711@host:5000",
        "https://pass4711@host",
        "postgresql+psycopg2://me:pass4711@host/db",
        "postgresql://me:pa@ss4711@host/db",
        "postgresql://me:pa/ss4711@host/db",
        "postgresql://host/db?user=me&password=pass4711",
        "s3://key:pass4711@bucket/data",
        "simplecache::s3://key:pass4711@bucket/data",
        "s3://key%3Apass4711@bucket/data",
        "--out=s3://key:pass4711@bucket/data",
        "https://account.blob.core.windows.net/c?sv=2022&sig=pass4711",
        "https://bucket.s3.amazonaws.com/a?X-Amz-Signature=pass4711&x=1",
        "https://host/#access_token=pass4711",
    ],
)
def test_passwords_and_keys_are_found_and_hidden(text: str) -> None:
    assert has_credentials(text)
    assert "4711" not in hide_credentials(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/a@b",
        "http://[::1]:5000/a@b",
        "sqlite:////folder/mlflow.db",
        "postgresql://me@host/db",
        "abfs://container@account.dfs.core.windows.net/data",
        "s3://bucket/a@b:c",
        "s3://bucket/design=1",
        "/data/me:you@home",
        "faces@1:2",
        "",
    ],
)
def test_names_and_paths_are_no_credentials(text: str) -> None:
    assert not has_credentials(text)


@given(st.text(st.characters(blacklist_categories=("Z", "C"), blacklist_characters="[]"), min_size=1, max_size=12))
def test_no_password_is_shown_whatever_it_holds(password: str) -> None:
    uri = f"postgresql://me:S{password}E@host/db"
    assert has_credentials(uri)
    assert f"S{password}E" not in hide_credentials(f"cannot reach {uri} now")


@pytest.fixture
def no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which the user has set none of the variables."""
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def write_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, mode: int = 0o600) -> Path:
    """A file that LACUNA_SECRETS names."""
    path = folder / "secrets.env"
    path.write_bytes(text.encode())
    path.chmod(mode)
    monkeypatch.setenv("LACUNA_SECRETS", str(path))
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_read(no_service: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    text = (
        "# of the nodes\n\nMLFLOW_TRACKING_USERNAME=me\r\nMLFLOW_TRACKING_PASSWORD=a=b #c\nAWS_SECRET_ACCESS_KEY=x/y+z="
    )
    write_secrets(tmp_path, monkeypatch, text, mode)
    load_secrets()
    assert {name: os.environ[name] for name in NAMES if name in os.environ} == {
        "MLFLOW_TRACKING_USERNAME": "me",
        "MLFLOW_TRACKING_PASSWORD": "a=b #c",
        "AWS_SECRET_ACCESS_KEY": "x/y+z=",
    }


def test_what_the_user_has_set_wins_for_the_whole_service(
    no_service: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One's own name with another's password would be a wrong login."""
    write_secrets(
        tmp_path, monkeypatch, "MLFLOW_TRACKING_USERNAME=file\nMLFLOW_TRACKING_PASSWORD=file\nAWS_SESSION_TOKEN=t"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "mine")
    load_secrets()
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "mine"
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ
    assert os.environ["AWS_SESSION_TOKEN"] == "t"


def test_a_folder_of_ones_home_may_be_named_by_tilde(
    no_service: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_secrets(tmp_path, monkeypatch, "MLFLOW_TRACKING_TOKEN=t")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LACUNA_SECRETS", "~/secrets.env")
    load_secrets()
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == "t"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o700, 0o602])
def test_a_file_that_others_could_read_is_refused(
    no_service: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    path = write_secrets(tmp_path, monkeypatch, "MLFLOW_TRACKING_TOKEN=pass4711", mode)
    with pytest.raises(SecretsError, match=f"mode {mode:03o}, not 600 or 400: run `chmod 600 {path}`") as refusal:
        load_secrets()
    assert "4711" not in str(refusal.value)
    assert "MLFLOW_TRACKING_TOKEN" not in os.environ


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("MLFLOW_TRACKING_USERNAME=me\npass4711", "line 2 of .* is not NAME=value"),
        ("MLFLOW_TRACKING_TOKEN = pass4711", "line 1 of .* is not NAME=value"),
        ("export MLFLOW_TRACKING_TOKEN=pass4711", "line 1 of .* is not NAME=value"),
        ("MLFLOW_TRACKING_TOKEN=", "line 1 of .* is not NAME=value"),
        ("MLFLOW_TRACKING_TOKEN=pass4711 ", "line 1 of .* is not NAME=value"),
        ("MLFLOW_TRACKING_TOKEN=pass\x004711", "line 1 of .* is not NAME=value"),
        ('MLFLOW_TRACKING_TOKEN="pass4711"', "line 1 of .* has quotes around the value of MLFLOW_TRACKING_TOKEN"),
        ("LD_PRELOAD=pass4711", "line 1 of .* sets an unknown variable: use MLFLOW_TRACKING_USERNAME, "),
        ("PATH=pass4711", "line 1 of .* sets an unknown variable"),
        ("MLFLOW_TRACKING_TOKEN=pass4711\nMLFLOW_TRACKING_TOKEN=x", "line 2 of .* sets MLFLOW_TRACKING_TOKEN again"),
        ("#" * (1 << 17), "of 131072 bytes"),
    ],
)
def test_other_lines_are_refused_without_their_values(
    no_service: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    write_secrets(tmp_path, monkeypatch, text)
    with pytest.raises(SecretsError, match=words) as refusal:
        load_secrets()
    assert "4711" not in str(refusal.value)


def test_what_is_no_file_of_ours_is_refused(no_service: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_secrets(tmp_path, monkeypatch, "MLFLOW_TRACKING_TOKEN=t")
    link = tmp_path / "link"
    link.symlink_to(path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, words in (
        ("link", "is a symbolic link: name the file itself"),
        ("pipe", "is not a file"),
        (".", "is not a file"),
        ("missing", "No such file or directory"),
    ):
        monkeypatch.setenv("LACUNA_SECRETS", str(tmp_path / name))
        with pytest.raises(SecretsError, match=words):
            load_secrets()
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    monkeypatch.setenv("LACUNA_SECRETS", str(path))
    with pytest.raises(SecretsError, match=r"belongs to user \d+: it must be yours"):
        load_secrets()


@pytest.mark.parametrize(
    "word",
    [
        "AWS_SECRET_ACCESS_KEY=k4711", "--password=k4711", "MLFLOW_TRACKING_TOKEN=k4711", "--api-key=k4711",
        "--aws-secret-access-key=k4711", "{'key': 'x', 'secret': 'k4711'}", "s3://AKIAIOSFODNN74711PLE/d",
    ],
)  # fmt: skip
def test_a_word_gives_a_secret_by_its_name_or_its_form(word: str) -> None:
    assert names_secret(word)


@pytest.mark.parametrize(
    "word",
    ["/data/token=3/x", "--out=/x/secret=1", "http://token:5000", "secret_garden/1.jpg", "--root=/tokens", "key=1"],
)
def test_names_of_files_and_hosts_are_no_secrets(word: str) -> None:
    assert not names_secret(word)


def test_what_is_written_in_percents_is_hidden_too() -> None:
    assert "4711" not in hide_credentials("s3%3A%2F%2Fkey%3A4711%40bucket")
    assert "4711" not in hide_credentials("https://host/x?sig=a%264711")
    assert hide_credentials("s3://bucket/50%25/a%20b") == "s3://bucket/50%25/a%20b"
