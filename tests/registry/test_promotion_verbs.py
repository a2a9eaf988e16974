"""What `lacuna promote` and `lacuna rollback` report, and how they end."""

import pytest

from jobs import promote as promote_verb
from jobs import rollback as rollback_verb
from jobs.faults import VerbError
from pipelines.records import UsageError
from tests.registry.registries import NAME, Registry

pytestmark = pytest.mark.thorough


def test_the_verb_says_why_a_first_version_stays_and_promotes_it_by_force(registry: Registry) -> None:
    registry.add(telea_db=0.5)
    with pytest.raises(
        VerbError, match=r"is not promoted: .* Telea has .*; train on, or promote it with --force"
    ) as kept:
        promote_verb.run(promote_verb.Arguments(NAME, "1"))
    assert kept.value.exit_code == 1
    assert (kept.value.report["promoted"], kept.value.report["champion_version"]) == (False, None)
    assert set(kept.value.report["verdict"]["baselines"]) == {"telea", "navier-stokes"}
    forced = promote_verb.run(promote_verb.Arguments(NAME, "1", "a trial"))
    assert (forced["champion_version"], forced["verdict"]["forced"]) == ("1", "a trial")


def test_the_verbs_report_what_was_done(registry: Registry) -> None:
    registry.add()
    registry.add(-1.0)
    registry.add(1.0)
    first = promote_verb.run(promote_verb.Arguments(NAME, "1"))
    assert (first["promoted"], first["champion_version"]) == (True, "1")
    with pytest.raises(VerbError, match="version 2 of 'inpainter' is not promoted: not better") as kept:
        promote_verb.run(promote_verb.Arguments(NAME, "2"))
    assert kept.value.exit_code == 1
    assert (kept.value.report["promoted"], kept.value.report["champion_version"]) == (False, "1")
    assert promote_verb.run(promote_verb.Arguments(NAME, "3"))["verdict"]["champion"] == "1"
    assert rollback_verb.run(rollback_verb.Arguments(NAME)) == {"model": NAME, "champion_version": "1"}


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a`b", "a\\b", "", "a/b", "a:b", "..", "nobody"])
def test_a_name_that_no_model_has_is_said_in_our_words(registry: Registry, name: str) -> None:
    with pytest.raises(FileNotFoundError) as unknown:
        promote_verb.run(promote_verb.Arguments(name, "1"))
    assert str(unknown.value).startswith(f"no version 1 of model {name!r} at sqlite:///")
    assert str(unknown.value).endswith(": its versions are none")
    with pytest.raises(UsageError, match="has no champion before the present one: the alias stays"):
        rollback_verb.run(rollback_verb.Arguments(name))
