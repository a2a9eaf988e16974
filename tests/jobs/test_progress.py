"""Progress on a terminal."""

import io

import pytest

from jobs.progress import progress


class Terminal(io.StringIO):
    """What is shown, as a terminal takes it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("name", ["x[/b].png", "[red]fox.png"])
def test_a_bar_shows_any_name_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "dumb")
    with progress() as show:
        show("filling", 0, 1, name)
    assert name in terminal.getvalue()
