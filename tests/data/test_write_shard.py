"""What a shard holds, without Ray: how keys spread over shards."""

import hashlib
from collections import Counter

from pipelines.data.commit.workspace import find_part


def test_shards_fill_evenly_and_split_in_halves() -> None:
    names = [f"img_align_celeba/{number:06d}" for number in range(4096)]
    digests = [hashlib.sha256(name.encode()).digest() for name in names]
    counts = Counter(find_part(digest, 16) for digest in digests)
    assert set(counts) == set(range(16))
    assert max(abs(count - 256) for count in counts.values()) < 80
    assert all(find_part(digest, 32) // 2 == find_part(digest, 16) for digest in digests)
    assert {find_part(digest, 1) for digest in digests} == {0}
