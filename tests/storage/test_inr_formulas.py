"""Formulas: what shards, cards and format.md say is what INRs of every activation, width and encoding compute."""

import json
import re

import h5py
import numpy as np
import pytest
import torch
from support.paths import ROOT
from support.small_sets import SPEC, make_set
from support.specs import VARIANTS

from inr_factory.inr.batch import INRBatch
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.dataset_card import README, update_card
from inr_factory.storage.inr_formulas import hidden_formula
from inr_factory.storage.manifest_file import load_manifest


@pytest.mark.parametrize("spec", [SPEC, *VARIANTS])
def test_the_numpy_code_of_a_card_computes_what_the_inrs_compute(tmp_path, monkeypatch, spec):
    make_set(tmp_path, spec=spec)
    update_card(tmp_path, load_manifest(tmp_path))
    text = (tmp_path / README).read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "h5py" in block)
    assert "inr_factory" not in code
    monkeypatch.chdir(tmp_path)

    names = {}
    exec(code.replace("# any points of [-1, 1]\n", "\npoints = x\n"), names)

    inr = INRBatch.from_flat(spec, torch.tensor(names["flat"])[None])
    expected = inr(torch.tensor(names["points"], dtype=torch.float32))[0].numpy()
    np.testing.assert_allclose(names["values"], expected, atol=1e-4, rtol=0)
    assert f"`{hidden_formula(spec)}` of `z = W @ x + b`" in text
    assert ("The first layer gets" in text) == (spec.frequencies > 0)


def forward(root):
    with h5py.File(next((root / "data").glob("*.h5"))) as shard:
        return json.loads(shard.attrs["conventions"])["forward"]


def test_a_shard_says_how_its_inrs_are_computed(tmp_path):
    said = {}
    for number, spec in enumerate([SPEC, *(kind.values[0] for kind in VARIANTS)]):
        make_set(tmp_path / str(number), spec=spec, objects={"train": 2}, views=1)
        said[spec] = forward(tmp_path / str(number))
    for spec, words in said.items():
        assert ("first layer gets" in words) == (spec.frequencies > 0)
        assert {"sine": "sin(", "relu": "max(0", "tanh": "tanh(z)", "gauss": "exp(-", "finer": "|z|"}[
            spec.activation
        ] in words
    encoded = next(words for spec, words in said.items() if not spec.coordinates)
    assert "of coords c, sin(f c) and cos(f c) for each f = 3.1415927 · 2^k, k = 0 .. 1;" in encoded


def test_sets_of_sines_and_relus_have_the_words_that_they_had(tmp_path):
    relu = SirenSpec(2, 1, hidden_dim=4, activation="relu", start="linear")
    for name, spec in (("sine", SPEC), ("relu", relu)):
        make_set(tmp_path / name, spec=spec, objects={"train": 2}, views=1)
        assert forward(tmp_path / name) == (
            "hidden = sin(omega_0 * (W @ hidden + b)) in every layer but the last (max(0, .) for activation relu); "
            "value = W @ hidden + b + output_bias in the last"
        )


@pytest.mark.parametrize("spec", [kind.values[0] for kind in VARIANTS if kind.values[0].in_dim == 2], ids=str)
def test_the_code_of_format_md_names_what_each_kind_needs(spec):
    page = (ROOT / "docs/format.md").read_text()
    assert f"`{spec.activation}`" in page
    for name in spec.to_dict():
        assert f"`{name}`" in page
