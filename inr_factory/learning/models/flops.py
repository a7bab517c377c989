"""FLOPs: the work of a forward pass, as torch counts it."""

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
    training, parameter = model.training, next(model.parameters())
    inrs = initialize(spec, range(NUM_INRS)).to(parameter.device).to(parameter.dtype)
    model.eval()
    try:
        # Without gradients the counter fails on views; it does not know the attention kernels of CPUs.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(inrs)
    finally:
        model.train(training)
    total: int = counter.get_total_flops()
    return total // NUM_INRS
