"""The command that lists the recipes and describes one."""

from dataclasses import asdict

import pytest

from jobs.recipes import RECIPES
from tests.jobs.test_cli import run


def test_all_recipes_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    code, report, stderr = run(capfd, "recipe")
    assert code == 0
    assert [listed["name"] for listed in report["recipes"]] == sorted(RECIPES)
    assert all(listed["description"] for listed in report["recipes"])
    assert {line.split()[0] for line in stderr.splitlines() if line} >= set(RECIPES)


@pytest.mark.parametrize(
    ("name", "shown"), [("spn-celeba", "33.52 dB"), ("distill-net3-places2", "Net3 22.98"), ("mhtma-paris", "6 days")]
)
def test_a_recipe_shows_its_settings_and_the_figure_of_its_paper(
    capfd: pytest.CaptureFixture[str], name: str, shown: str
) -> None:
    code, report, stderr = run(capfd, "recipe", name)
    assert code == 0
    assert shown in report["description"]
    assert shown in stderr
    assert report["recipe"] == {**RECIPES[name]().as_json(), "procedure": asdict(RECIPES[name]().procedure)}
    assert f"recipe.images {RECIPES[name]().images:,}" in " ".join(stderr.split())
