"""`lacuna submit --check-cluster FILE`: all mistakes in a file for `ray up`, before any machine is started."""

from pathlib import Path
from typing import Any

from infra.cluster_file import find_mistakes
from jobs.faults import VerbError
from jobs.progress import say
from pipelines.records import UsageError


def parse_check(words: list[str]) -> str:
    """File after `--check-cluster`; raises UsageError unless there is exactly one."""
    if len(words) != 1:
        raise UsageError(f"--check-cluster takes one file, not {len(words)}: give ray_cluster.yaml or another")
    return words[0]


def check_cluster(file: str) -> dict[str, Any]:
    """Report on the file; raises VerbError with exit code 2 if it has mistakes, after a line for each on stderr."""
    if not Path(file).is_file():
        problem = "is not a file" if Path(file).exists() else "does not exist"
        raise UsageError(f"--check-cluster {file} {problem}: give ray_cluster.yaml or another file")
    mistakes = find_mistakes(Path(file))
    report = {"cluster_file": file, "mistakes": mistakes}
    if mistakes:
        for line in mistakes:
            say(line)
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise VerbError(f"{file} has {count}: correct the listed lines and check again", report, 2)
    say(f"{file}: no mistake found; its first lines say what needs an AWS account to check")
    return report
