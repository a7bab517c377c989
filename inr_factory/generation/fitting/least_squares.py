"""Least squares: the last layer of INRs, which is linear, at its ridge solution for a signal.

Shape letters: N INRs, D parameters of one INR, P points, I coordinates, H hidden neurons, O values.
"""

import torch
from torch import Tensor

from inr_factory.generation.signals import Field
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.forward_pass import encode, hidden_layer
from inr_factory.inr.spec import SirenSpec

SINGLE = 1e-2  # the smallest ridge for which sums in single precision are accurate enough


@torch.no_grad()
def solve_last_layers(
    spec: SirenSpec,
    flat: Tensor,
    coords: Tensor,
    targets: Tensor,
    field: Field,
    ridge: float,
    dtype: torch.dtype = torch.float64,
    chunk: int | None = None,
) -> Tensor:
    """Replace the last layer of each INR by the ridge regression of its targets on its last hidden values.

    Minimises the mean squared error + ridge |w|², bias included. The ridge of `sprint` is large: a small one starts
    nearer to the signal, but by large weights that a classifier cannot read (docs/results/which_inrs.md).

    Args:
        spec: Architecture of the INRs.
        flat: Weights (N, D), on any device.
        coords: Points (P, I), shared, or (N, P, I).
        targets: Values (N, P, O). Occupancies are replaced by logits of 12 and 88 %.
        field: What the targets are.
        ridge: Penalty on the squared weights, 0 or greater.
        dtype: Precision of the sums over points; the solution is always found in double precision.
        chunk: Number of points that are summed at once, None for all.

    Returns:
        Weights (N, D). An INR whose solution is not finite (values that overflow) keeps its last layer.
    """
    count, points = targets.shape[:2]
    inrs, size = INRBatch.from_flat(spec, flat), spec.hidden_dims[-1] + 1
    sums: Tensor | float = 0.0
    for begin in range(0, points, chunk or points):
        part = slice(begin, begin + (chunk or points))
        hidden = encode(spec, coords[..., part, :]).expand(count, -1, -1)
        for W, b in zip(inrs.weights[:-1], inrs.biases[:-1], strict=True):
            hidden = hidden_layer(spec, hidden, W, b)
        values = 4 * targets[:, part] - 2 if field == "occupancy" else targets[:, part]
        columns = torch.empty(*hidden.shape[:2], size + spec.out_dim, dtype=dtype, device=flat.device)
        columns[..., : size - 1], columns[..., size - 1], columns[..., size:] = hidden, 1, values
        columns[..., size:] -= spec.output_bias
        sums = (columns[..., :size].mT @ columns).double() + sums
    assert isinstance(sums, Tensor)
    sums /= points
    sums.diagonal(dim1=1, dim2=2).add_(ridge)
    solution = torch.linalg.solve_ex(sums[..., :size], sums[..., size:]).result.float()
    last = torch.cat([solution[:, :-1].mT.flatten(1), solution[:, -1]], dim=1)
    usable = last.isfinite().all(dim=1, keepdim=True)
    num_last = last.shape[1]
    return torch.cat([flat[:, :-num_last], torch.where(usable, last, flat[:, -num_last:])], dim=1)
