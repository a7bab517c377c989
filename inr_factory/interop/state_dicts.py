"""State dicts: INRs as other projects' modules hold them, and as the tuples of tensors that their networks take.

Shape letters: N INRs, I inputs and O outputs of a layer.
"""

from torch import Tensor

from inr_factory.inr.batch import INRBatch

# Names of hidden layers and of the last one.
NAMES = {
    "nfn": ("net.{}.linear", "net.{}"),
    "coin": ("net.{}.linear", "last_layer.linear"),
    "siren-pytorch": ("layers.{}", "last_layer"),
}


def state_dicts(inrs: INRBatch, names: str = "seq") -> list[dict[str, Tensor]]:
    """One state dict an INR, tensors of their own: `seq.{i}.weight` (O, I), `seq.{i}.bias` (O,), as DWSNets' module has
    them; `names` "nfn", "coin" and "siren-pytorch" give those of these projects, any other NAME `NAME.{i}.weight`."""
    last = len(inrs.weights) - 1
    hidden, final = NAMES.get(names, (f"{names}.{{}}", f"{names}.{{}}"))
    stems = [(hidden if layer < last else final).format(layer) for layer in range(last + 1)]
    tensors = [
        (f"{stem}.{kind}", stacked)
        for stem, W, b in zip(stems, inrs.weights, inrs.biases, strict=True)
        for kind, stacked in (("weight", W), ("bias", b))
    ]
    return [{name: stacked[row].detach().cpu().clone() for name, stacked in tensors} for row in range(len(inrs))]


def dws_tuples(inrs: INRBatch) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Weights (N, I, O, 1) and biases (N, O, 1) of each layer, as DWS and neural-graphs code takes a batch."""
    weights = tuple(W.mT.unsqueeze(-1).contiguous() for W in inrs.weights)
    return weights, tuple(b.unsqueeze(-1).contiguous() for b in inrs.biases)
