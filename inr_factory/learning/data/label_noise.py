"""Label noise: wrong labels added on purpose, to measure what training tolerates.

Shape letters: N rows.
"""

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import UsageError
from inr_factory.inr.stable_hash import stable_digest


def noisy_labels(
    labels_N: NDArray[np.int64], object_ids_N: NDArray[np.str_], num_classes: int, share: float, seed: int
) -> NDArray[np.int64]:
    """(N,) labels of which about `share` are another class, each as likely (symmetric noise).

    A stable hash of (seed, object) decides, so that all views of an object have the same wrong label. Raises
    UsageError for a share outside [0, 1] or a single class.
    """
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        raise UsageError(f"label noise must be a share of labels from 0 to 1, got {share!r}")
    if num_classes < 2:
        raise UsageError("label noise needs at least two classes")
    names, index_N = np.unique(object_ids_N, return_inverse=True)
    digests = b"".join(stable_digest(seed, name, size=16, person=b"label-noise") for name in names)
    draws = np.frombuffer(digests, "<u8").reshape(-1, 2)
    wrong = (draws[:, 0] / 2**64 < share)[index_N]
    shift = (1 + draws[:, 1] % (num_classes - 1)).astype(np.int64)[index_N]
    return np.where(wrong, (labels_N + shift) % num_classes, labels_N)
