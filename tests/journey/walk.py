"""The whole demo at the smallest size, as a process that can be killed: python -m tests.journey.walk ROOT OUT."""

import json
import sys
from pathlib import Path

from infra.settings import apply_defaults
from jobs.demo import DemoConfig, run_demo
from jobs.recipes import RECIPES
from tests.making import shard_recipe, train_recipe

CONFIG = DemoConfig(shard_recipe(), "tiny", first_images=16)

if __name__ == "__main__":
    apply_defaults()
    RECIPES["tiny"] = train_recipe
    print(json.dumps(run_demo(CONFIG, sys.argv[1], Path(sys.argv[2]))))
