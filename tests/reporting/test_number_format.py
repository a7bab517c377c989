"""Numbers as people read them."""

import pytest

from inr_factory.reporting.number_format import (
    format_bytes,
    format_count,
    format_duration,
    format_explained,
    format_rate,
)


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.4 s"), (61, "61 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_are_said_in_units_that_people_use(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("inrs", "seconds", "text"), [(420, 1168, "0.36 INRs/s"), (30, 10, "3 INRs/s"), (10_000, 8, "1,250 INRs/s")]
)
def test_slow_rates_keep_digits(inrs, seconds, text):
    assert format_rate(inrs, seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 kB"), (86_016, "86 kB"), (1_250_000, "1.2 MB"), (3.4e12, "3,400.0 GB")]
)
def test_sizes_are_said_in_powers_of_ten(count, text):
    assert format_bytes(count) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 shards"), (1, "1 shard"), (1200, "1,200 shards")])
def test_a_count_has_its_noun_in_the_plural_unless_it_is_one(count, text):
    assert format_count(count, "shard") == text


def test_a_share_explained_is_a_percentage_or_says_why_there_is_none():
    assert [format_explained(share) for share in (0.9923, -3.0, float("nan"))] == [
        "99.2 % explained", "0.0 % explained", "constant signal",
    ]  # fmt: skip
