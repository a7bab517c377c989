"""Specs of small INRs of every kind."""

from inr_factory.inr.spec import SirenSpec

SPECS = [
    SirenSpec(in_dim, out_dim, hidden_dim=8, num_hidden=num_hidden, omega_0=omega_0, output_bias=0.5)
    for in_dim, out_dim in ((2, 1), (2, 3), (3, 1))
    for num_hidden in (2, 3)
    for omega_0 in (30.0, 7.0)
]
