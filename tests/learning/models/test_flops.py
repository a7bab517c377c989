"""FLOPs: those of a model can be counted by hand, and the model stays as it was."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.classifier import build_classifier
from inr_factory.learning.models.flops import forward_flops
from inr_factory.learning.models.registry import ENCODERS

SPEC = SirenSpec(2, 1, hidden_dim=8, num_hidden=2)


def test_the_flops_of_probes_are_those_of_the_inr_at_its_points_and_of_the_layers():
    model = build_classifier("probes", SPEC, 3, num_probes=5, hidden_dim=16, num_layers=2, generator=False)
    of_inr = 5 * (2 * 8 + 8 * 8 + 8 * 1)

    assert forward_flops(model, SPEC) == 2 * (of_inr + 5 * 16 + 16 * 16 + 16 * 3)


def test_the_flops_of_render_are_those_of_its_convolutions_and_of_the_inr_on_its_grid():
    model = build_classifier("render", SPEC, 3, resolution=4, hidden_dim=2)
    convolutions = 16 * 9 * 1 * 2 + 4 * 9 * 2 * 4 + 1 * 9 * 4 * 8

    assert forward_flops(model, SPEC) == 2 * (16 * (2 * 8 + 8 * 8 + 8 * 1) + convolutions + 16 * 3)


def test_counting_changes_neither_the_mode_nor_the_statistics_nor_the_generator():
    model = build_classifier("render", SPEC, 3, resolution=4, hidden_dim=2).double()
    before, generator = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()

    forward_flops(model, SPEC)

    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("gradients", [True, False])
def test_every_encoder_can_be_counted_with_gradients_and_without(name, gradients):
    with torch.set_grad_enabled(gradients):
        flops = forward_flops(build_classifier(name, SPEC, 3), SPEC)

    assert flops > 2 * SPEC.num_parameters


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, inrs):
        square = self.scale * inrs.weights[1].unsqueeze(1)
        return F.scaled_dot_product_attention(square, square, square)


def test_attention_counts_its_two_products():
    assert forward_flops(Attention(), SPEC) == 2 * 2 * 8 * 8 * 8


def test_the_attention_of_dws_counts_with_and_without_its_compiled_kernel():
    model = build_classifier("dws", SPEC, 3)

    assert forward_flops(model, SPEC) == forward_flops(copy.deepcopy(model).double(), SPEC)
