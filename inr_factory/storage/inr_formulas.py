"""Formulas of INRs, in words and as numpy code, for shards, cards and reports; inr/forward_pass.py computes them."""

from inr_factory.inr.spec import Activation, SirenSpec

# What a hidden layer computes of z = W x + b: in words, and in numpy, where x is z.
_HIDDEN: dict[Activation, tuple[str, str]] = {
    "sine": ("sin(omega_0 z)", "np.sin(spec['omega_0'] * x)"),
    "relu": ("max(0, z)", "np.maximum(x, 0)"),
    "tanh": ("tanh(z)", "np.tanh(x)"),
    "gauss": ("exp(-(omega_0 z)² / 2)", "np.exp(-((spec['omega_0'] * x) ** 2) / 2)"),
    "finer": ("sin(omega_0 (|z| + 1) z)", "np.sin(spec['omega_0'] * (np.abs(x) + 1) * x)"),
}
# The attribute of shards of sines and ReLUs without an encoding, which keep the bytes that they had before others.
_SINE_OR_RELU = (
    "hidden = sin(omega_0 * (W @ hidden + b)) in every layer but the last (max(0, .) for activation relu); "
    "value = W @ hidden + b + output_bias in the last"
)


def hidden_formula(spec: SirenSpec) -> str:
    """What a hidden layer computes, such as "sin(30 z)"; z is W x + b."""
    return _HIDDEN[spec.activation][0].replace("omega_0", f"{spec.omega_0:g}")


def encoding_formula(spec: SirenSpec) -> str:
    """What the first layer gets of the coordinates c by a positional encoding."""
    powers = f"f = {spec.first_frequency:.8g} · 2^k, k = 0 .. {spec.frequencies - 1}"
    return f"{'c, then ' * spec.coordinates}sin(f c) and cos(f c) for each {powers}"


def forward_words(spec: SirenSpec) -> str:
    """The attribute `forward` of shards: how values follow from weights."""
    if spec.activation in ("sine", "relu") and not spec.frequencies:
        return _SINE_OR_RELU
    first = f"the first layer gets, of coords c, {encoding_formula(spec)}; " if spec.frequencies else ""
    return (
        f"{first}hidden = {_HIDDEN[spec.activation][0]} of z = W @ hidden + b in every layer but the last; "
        "value = W @ hidden + b + output_bias in the last"
    )


def numpy_code(spec: SirenSpec) -> str:
    """Lines that compute `values` (P, O) of points `x` (P, I), `spec` (a mapping) and `tensors` [W, b, W, b, ...]."""
    encoding = ""
    if spec.frequencies:
        start = "[x]" if spec.coordinates else "[]"
        encoding = (
            f"angles = [x * ({spec.first_frequency!r} * 2**k) for k in range({spec.frequencies})]  # positional encoding\n"
            f"x = np.concatenate({start} + [wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)\n"
        )
    return f"""{encoding}for W, b in zip(tensors[0:-2:2], tensors[1:-2:2]):
    x = x @ W.T + b
    x = {_HIDDEN[spec.activation][1]}
values = x @ tensors[-2].T + tensors[-1] + spec["output_bias"]
"""
