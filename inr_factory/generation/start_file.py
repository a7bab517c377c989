"""Start files: INRs at which fits start, read from a file and kept in the recipe, so that a set is complete without it.

Shape letters: K INRs of the file, D parameters of one INR.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import IntegrityError, UsageError, blame_machine, did_you_mean, one_line, shorten
from inr_factory.inr.batch_files import read_arrays, read_batch
from inr_factory.inr.spec import SirenSpec
from inr_factory.inr.stable_hash import stable_digest

if TYPE_CHECKING:
    from inr_factory.generation.signals import Source
    from inr_factory.inr.batch import INRBatch

PROTOCOLS: Final = ("independent", "shared", "file")
MOST_BYTES = 2**23  # of all numbers, which the manifest holds as text
TORCH = (".pt", ".pth", ".bin")


class StartINRs(NamedTuple):
    """INRs to start from: what they are called, their spec where it is known, sizes of layers, and weights (K, D)."""

    name: str
    spec: SirenSpec | None
    sizes: tuple[int, ...]
    weights: NDArray[np.float32]
    rates: NDArray[np.float32] | None = None
    objects: NDArray[np.uint64] | None = None


def read_starts(value: "str | Path | INRBatch") -> StartINRs:
    """INRs in memory, of a file of INRBatch.save, or of a state dict (.pt) of one MLP, whose hidden layers compute
    sin(omega_0 (W x + b)).

    Raises:
        UsageError: There is no such file, or it holds too much.
        IntegrityError: It is damaged.
    """
    if not isinstance(value, str | Path):
        starts = StartINRs("starts", value.spec, _sizes(value.spec), value.flatten().detach().float().cpu().numpy())
    elif not Path(value).is_file():
        raise UsageError(
            f"fit.starts must be independent, shared or a file of INRs (of INRBatch.save, or a state dict .pt), got "
            f"{shorten(str(value))}; {did_you_mean(str(value), PROTOCOLS[:2])}"
        )
    elif Path(value).suffix in TORCH:
        starts = StartINRs(str(value), None, *_read_state_dict(Path(value)))
    else:
        spec, weights = read_batch(value)
        rates, objects = read_arrays(value, "rates", "objects")
        if rates is not None and (rates.dtype != np.float32 or rates.ndim != 2 or rates.shape[1] != weights.shape[1]):
            raise IntegrityError(
                f"{value} has rates {rates.dtype} {rates.shape}, expected float32 (S, {weights.shape[1]})"
            )
        starts = StartINRs(str(value), spec, _sizes(spec), weights, rates, objects)
    if not len(starts.weights):
        raise UsageError(f"{starts.name} holds no INR; fits need one to start from")
    if starts.weights.nbytes > MOST_BYTES:
        raise UsageError(
            f"{starts.name} holds {starts.weights.nbytes / 2**20:.0f} MiB of weights, and the manifest of a set at most "
            f"{MOST_BYTES / 2**20:.0f}; keep fewer INRs, one for each view"
        )
    return starts


def _sizes(spec: SirenSpec) -> tuple[int, ...]:
    return (spec.in_dim, *(outputs for outputs, _ in spec.layer_shapes))


def _read_state_dict(path: Path) -> tuple[tuple[int, ...], NDArray[np.float32]]:
    import torch

    from inr_factory.inr.mlp_layers import layers_of

    try:
        layers = layers_of(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        blame_machine(error, path)
        raise UsageError(f"{path} is no state dict of an MLP: {one_line(error)}") from None
    pairs = zip(layers.weights, layers.biases, strict=True)
    return layers.dims, torch.cat([part.flatten() for pair in pairs for part in pair])[None].numpy()


def encode_starts(weights: NDArray[np.float32]) -> str:
    """Weights (K, D) as text."""
    return base64.b64encode(np.ascontiguousarray(weights, "<f4").tobytes()).decode()


def object_hashes(source: "Source", names: Sequence[str]) -> NDArray[np.uint64]:
    """A number for each object of a source, by which a start says what it was learned on."""
    digests = [stable_digest(source.name, source.fingerprint, name) for name in names]
    return np.frombuffer(b"".join(digests), "<u8")


def check_learned_on(hashes: str, source: "Source", items: Mapping[str, Sequence[str]]) -> None:
    """Raise UsageError where a start was learned on objects of val or test, which `items` names by their split.

    `hashes` are `fit.start_objects`.
    """
    known = np.frombuffer(base64.b64decode(hashes), "<u8")
    for split, names in items.items():
        met = np.isin(object_hashes(source, names), known)
        if split != "train" and met.any():
            raise UsageError(
                f"the start was learned on {met.sum():,} objects of {split}, such as {names[int(met.argmax())]}; learn it by "
                "the splits of this recipe: inr-factory learn-start"
            )


@lru_cache(maxsize=4)
def decode_starts(text: str, parameters: int) -> NDArray[np.float32]:
    """The weights (K, D) of INRs of D parameters. Raises UsageError where the text holds others."""
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    except (binascii.Error, ValueError):
        raise UsageError("fit.start_inrs is no text of weights; give fit.starts a file of INRs") from None
    if not len(values) or len(values) % parameters or not np.isfinite(values).all():
        raise UsageError(
            f"the INRs that fits shall start from have {len(values):,} finite weights, not a multiple of the "
            f"{parameters:,} of an INR of this set; their inputs and outputs differ from those of the signals"
        )
    return values.reshape(-1, parameters)


def resolve_starts(fields: dict[str, Any]) -> tuple[dict[str, Any], StartINRs | None]:
    """Fields of a recipe in which the file, or the INRs, of `fit.starts` have become their weights; and what they are."""
    fit = fields.get("fit")
    value = fit.get("starts") if isinstance(fit, dict) else None
    named = isinstance(value, str | Path) and str(value) not in PROTOCOLS
    if not isinstance(fit, dict) or not (named or isinstance(getattr(value, "spec", None), SirenSpec)):
        return fields, None
    starts = read_starts(value)  # type: ignore[arg-type]
    learned = {} if starts.rates is None else {"start_rates": encode_starts(starts.rates)}
    if starts.objects is not None:
        learned["start_objects"] = base64.b64encode(np.sort(starts.objects.astype("<u8")).tobytes()).decode()
    return {**fields, "fit": {**fit, "starts": "file", "start_inrs": encode_starts(starts.weights), **learned}}, starts
