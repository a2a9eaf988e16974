"""The demo's whole way at the smallest size, as a process that can be killed: python -m tests.journey.walk ROOT OUT."""

import json
import sys
from pathlib import Path

from infra.settings import apply_defaults
from jobs.demo import Course, walk
from jobs.recipes import RECIPES
from tests.making import shard_recipe, train_recipe

COURSE = Course(shard_recipe(), "tiny", first_images=16)

if __name__ == "__main__":
    apply_defaults()
    RECIPES["tiny"] = train_recipe
    print(json.dumps(walk(COURSE, sys.argv[1], Path(sys.argv[2]))))
