"""`lacuna submit --check-cluster FILE`: every mistake of a file for `ray up`, before anything is started."""

from pathlib import Path
from typing import Any

from infra.cluster_file import find_mistakes
from jobs.faults import VerbError
from jobs.progress import say
from pipelines.records import UsageError


def parse_check(words: list[str]) -> str:
    """The file that stands behind `--check-cluster`; raises UsageError where there is not one file."""
    if len(words) != 1:
        raise UsageError(f"--check-cluster takes one file, not {len(words)}: give ray_cluster.yaml or another")
    return words[0]


def check_cluster(file: str) -> dict[str, Any]:
    """Report on the file; raises VerbError with exit code 2 where it has mistakes, after one line for each."""
    if not Path(file).is_file():
        what = "is no file" if Path(file).exists() else "there is no such file"
        raise UsageError(f"--check-cluster {file}: {what}; give ray_cluster.yaml or another")
    mistakes = find_mistakes(Path(file))
    report = {"cluster_file": file, "mistakes": mistakes}
    if mistakes:
        for line in mistakes:
            say(line)
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise VerbError(f"{file} has {count}: mend what is listed and check again", report, 2)
    say(f"{file}: no mistake found; what only an AWS account can show stands at its head")
    return report
