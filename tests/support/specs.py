"""Specs of small INRs: grey and colour images and shapes, two and three hidden layers, two values of omega_0."""

from inr_factory.inr.spec import SirenSpec

SPECS = [
    SirenSpec(in_dim, out_dim, hidden_dim=8, num_hidden=num_hidden, omega_0=omega_0, output_bias=0.5)
    for in_dim, out_dim, num_hidden, omega_0 in ((2, 1, 2, 30.0), (2, 3, 3, 7.0), (3, 1, 2, 7.0), (3, 1, 3, 30.0))
]
