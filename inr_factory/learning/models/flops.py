"""FLOPs: the work of a forward pass, as torch counts it."""

import copy

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec

NUM_INRS = 2


def forward_flops(model: nn.Module, spec: SirenSpec) -> int:
    """FLOPs an INR of a forward pass of a model of INRs in evaluation mode, two for each multiplication with its addition.

    Matrix products and convolutions are counted, those that evaluate the INR included; sines, norms and other
    operations on single numbers are not.
    """
    # In float64 no compiled kernel runs, whose work the counter cannot see.
    model = copy.deepcopy(model).double().eval()
    inrs = initialize(spec, range(NUM_INRS)).to(next(model.parameters()).device).to(torch.float64)
    # Without gradients the counter fails on views; it does not know the attention kernels of CPUs.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(inrs)
    total: int = counter.get_total_flops()
    return total // NUM_INRS
