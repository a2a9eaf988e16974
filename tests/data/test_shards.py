"""What a shard holds, without Ray: how keys spread over shards, and the masks that held-out photos carry."""

import hashlib
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.shards import fixed_masks
from pipelines.data.workspace import share_of
from pipelines.masks.recipe import parse_recipe
from tests.making import shard_recipe


def test_shards_fill_evenly_and_split_in_halves() -> None:
    names = [f"img_align_celeba/{number:06d}" for number in range(4096)]
    digests = [hashlib.sha256(name.encode()).digest() for name in names]
    counts = Counter(share_of(digest, 16) for digest in digests)
    assert set(counts) == set(range(16))
    assert max(abs(count - 256) for count in counts.values()) < 80
    assert all(share_of(digest, 32) // 2 == share_of(digest, 16) for digest in digests)
    assert {share_of(digest, 1) for digest in digests} == {0}


@given(st.integers(0, 2**31), st.text("abc/_", min_size=1, max_size=20))
@settings(max_examples=20, deadline=None)
def test_fixed_masks_depend_on_seed_and_key_alone_and_redraw(seed: int, key: str) -> None:
    recipe = shard_recipe(masks_per_family=2)
    lines = fixed_masks(recipe, seed, key)
    assert lines == fixed_masks(recipe, seed, key)
    assert len(set(lines)) == len(lines) == 2 * len(recipe.masks)
    assert not set(lines) & (set(fixed_masks(recipe, seed + 1, key)) | set(fixed_masks(recipe, seed, key + "x")))
    for line in lines[:2]:
        mask = parse_recipe(line).draw()
        assert mask.shape == (recipe.mask_size_px, recipe.mask_size_px)
        assert set(mask.flatten().tolist()) == {0, 1}
