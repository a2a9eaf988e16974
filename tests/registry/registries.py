"""A registry of a test's own, into which versions are put in milliseconds."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infra.tracking import Tracking, Version
from pipelines.checked_files import read_parquet
from pipelines.checkpoints import Checkpoint
from pipelines.evaluation.scorecard import Scorecard, save_scorecard
from pipelines.records import sha256_hex
from pipelines.registry.package import SCORES_TAG, WEIGHTS_TAG, hash_scores
from pipelines.registry.promotion import CHAMPION
from pipelines.versions import list_files, make_version_tags

NAME = "inpainter"


@dataclass
class Registry:
    """A registry of one's own, and a quick way to put versions into it."""

    tracking: Tracking
    checkpoint: Checkpoint
    card: Scorecard
    folder: Path

    def add(self, gain_db: float = 0.0, telea_db: float = -9.0, **passport: Any) -> Version:
        """A version whose PSNR is so much higher than that of the trained weights, on every pair; so is Telea's."""
        rows = [score_model(row, gain_db, telea_db) for row in self.card.rows]
        return self.add_card(replace(self.card, rows=rows, passport=self.card.passport | passport))

    def add_card(self, card: Scorecard, weights: bytes | None = None) -> Version:
        """A version with this scorecard, of the trained weights or of others."""
        files = self.files(str(len(self.tracking.list_versions(NAME)) + 1))
        files.mkdir(parents=True)
        (files / "generator.safetensors").write_bytes(weights or self.checkpoint.read("generator"))
        save_scorecard(card, str(files))
        run = self.tracking.open_run("run", "tiny", {}, {})
        return self.tracking.create_version(NAME, files.parent.as_uri(), run, tags(files))

    def files(self, number: str) -> Path:
        """Where the files of a version lie."""
        return self.folder / number / "artifacts"

    @property
    def champion(self) -> str | None:
        """The number of the champion."""
        found = self.tracking.find_alias(NAME, CHAMPION)
        return found.number if found else None


def score_model(row: dict[str, Any], gain_db: float, telea_db: float) -> dict[str, Any]:
    """The row with PSNR in the hole so much higher, Telea's by as much as said, Navier-Stokes' by one less."""
    mean = row["psnr_hole"]
    baselines = {"telea": mean + telea_db, "navier-stokes": mean + telea_db - 1}
    beside = {name: row["baselines"][name] | {"psnr_hole": value} for name, value in baselines.items()}
    return row | {"psnr_hole": mean + gain_db, "baselines": beside}


def tags(files: Path) -> dict[str, str]:
    """What a registration writes down of weights and scores, whatever they are."""
    facts, rows = json.loads((files / "scores.json").read_bytes()), read_parquet((files / "pairs.parquet").read_bytes())
    scores = hash_scores(Scorecard(facts["model"], facts["passport"], rows.to_pylist()))
    digests = {WEIGHTS_TAG: sha256_hex((files / "generator.safetensors").read_bytes()), SCORES_TAG: scores}
    return digests | make_version_tags(list_files(files.parent))


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
