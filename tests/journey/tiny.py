"""`lacuna` with one more recipe, as small as it gets: python -m tests.journey.tiny VERB ..."""

import sys

from jobs.cli import main
from jobs.recipes import RECIPES
from tests.making import train_recipe

if __name__ == "__main__":
    RECIPES["tiny"] = train_recipe
    sys.exit(main())
