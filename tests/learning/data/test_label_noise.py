"""Label noise: the requested share is wrong, in all views of an object alike, and nothing else changes."""

import numpy as np
import pytest
from support.small_sets import make_set

from inr_factory.errors import UsageError
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.label_noise import noisy_labels

IDS = np.array([f"object {number}" for number in range(4000)])
LABELS = np.arange(4000) % 7


def test_the_share_is_wrong_and_every_wrong_class_is_as_likely():
    noisy = noisy_labels(LABELS, IDS, 7, 0.4, 0)

    wrong = noisy != LABELS
    assert abs(wrong.mean() - 0.4) < 0.03
    shifts = np.bincount((noisy - LABELS)[wrong] % 7, minlength=7)
    assert shifts[0] == 0
    assert shifts[1:].min() > 0.7 * shifts[1:].max()
    assert noisy.min() >= 0
    assert noisy.max() <= 6


def test_views_of_an_object_share_its_label_whatever_their_order():
    twice = np.concatenate([np.arange(50), np.arange(50)[::-1]])
    noisy = noisy_labels(LABELS[twice], IDS[twice], 7, 0.5, 3)

    np.testing.assert_array_equal(noisy[:50], noisy[50:][::-1])
    np.testing.assert_array_equal(noisy[:50], noisy_labels(LABELS[:50], IDS[:50], 7, 0.5, 3))
    assert (noisy[:50] != noisy_labels(LABELS[:50], IDS[:50], 7, 0.5, 4)).any()


def test_no_noise_changes_nothing_and_all_of_it_everything():
    np.testing.assert_array_equal(noisy_labels(LABELS, IDS, 7, 0.0, 0), LABELS)
    assert (noisy_labels(LABELS, IDS, 7, 1.0, 0) != LABELS).all()


@pytest.mark.parametrize(("classes", "share", "words"), [(7, 1.5, "from 0 to 1"), (1, 0.5, "at least two classes")])
def test_what_cannot_be_is_refused(classes, share, words):
    with pytest.raises(UsageError, match=words):
        noisy_labels(LABELS, IDS, classes, share, 0)


def test_a_set_is_read_with_wrong_labels_and_says_so(tmp_path):
    make_set(tmp_path, objects={"train": 40}, views=2)
    plain = INRDataset(tmp_path, "train")

    noisy = INRDataset(tmp_path, "train", label_noise=(0.5, 1))

    assert 0 < (noisy.labels != plain.labels).mean() < 1
    np.testing.assert_array_equal(noisy.labels[:40], noisy.labels[40:])
    assert noisy.describe() == {**plain.describe(), "label_noise": [0.5, 1]}
