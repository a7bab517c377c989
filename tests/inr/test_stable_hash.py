"""Stable hashes: the numbers that sets on disk were made with, and no other."""

import hashlib

import numpy as np
import pytest

from inr_factory.generation.execution.shard_plan import _by_hash
from inr_factory.generation.signals import Item
from inr_factory.inr.stable_hash import fingerprint, seeded, stable_digest, stable_seed
from inr_factory.learning.data.label_noise import noisy_labels
from inr_factory.storage.manifest import ViewKey


def test_every_seed_has_the_bits_that_stored_sets_were_made_with():
    assert ViewKey("a\udcffb", 3).seed(7, 1) == 5737571837153684415
    assert stable_seed(5, "batch", 2) == 973623547781847392
    assert seeded("truth", "x/1").bit_generator.random_raw(2).tolist() == [13490210431319138754, 12669954868714085320]
    assert _by_hash([Item(f"n{number}", 0, None) for number in range(8)], range(8)) == [6, 1, 2, 5, 7, 0, 3, 4]
    names = np.array([f"o{number}" for number in range(12)])
    noisy = noisy_labels(np.zeros(12, np.int64), names, num_classes=5, share=0.5, seed=3)
    assert noisy.tolist() == [0, 0, 3, 2, 4, 2, 2, 0, 2, 2, 2, 0]


@pytest.mark.parametrize(
    "array", [np.array(3), np.ones((2, 3), np.float32), np.empty((0, 3)), np.arange(4, dtype="<i8")]
)
def test_a_fingerprint_is_the_sha256_of_all_parts_one_after_the_other(array):
    assert fingerprint("é", b"name", array) == hashlib.sha256("éname".encode() + array.tobytes()).hexdigest()[:16]


def test_seeds_are_in_range_and_differ_by_part_order_and_use():
    seeds = {stable_seed(*parts) for parts in ((1, 2), (2, 1), (12,), ("1", "2", ""), (1,))}

    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stable_seed(1, 2) == stable_seed("1", "2")
    assert stable_digest(1, person=b"one") != stable_digest(1, person=b"two")
    assert len(stable_digest(1, size=16)) == 16
