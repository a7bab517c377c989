"""Known names: the choices of options that help, completion and the first check of a command know without loading torch.

A choice with settings is written as on the command line, `name:key=default`, and a key that takes words lists them all,
the default first. The modules that implement the choices load torch; a test holds each list equal to theirs.
"""

from collections.abc import Mapping

from inr_factory.learning.option_strings import split_pairs

Choices = Mapping[str, str]
"""Choices with all their settings, and what each of them is."""

MODELS: Choices = {
    "parity:hidden_dim=64,points=false,amplitudes=true,sine_path=true,frequencies=0,dropout=0.0,grid=0": "invariant to all symmetries of SIRENs; the most accurate in our experiments",
    "dws:hidden_dim=16,num_hidden=2,set_layer=attention|deepsets,num_heads=1,batch_norm=true,dropout=0.0": "deep weight-space networks (Navon et al. 2023)",
    "mlp:hidden_dim=256,num_hidden=2,batch_norm=true,dropout=0.0": "multi-layer perceptron on the flat weights",
    "ng_gnn:hidden_dim=64,num_layers=4,num_probes=0,dropout=0.2": "neural graph, message passing (Kofinas et al. 2024)",
    "ng_t:hidden_dim=64,edge_dim=32,num_layers=4,num_heads=8,num_probes=0,dropout=0.2": "neural graph, transformer (Kofinas et al. 2024)",
    "scalegmn:hidden_dim=64,num_layers=4,dropout=0.2": "graph network, equivariant to signs (Kalogeropoulos et al. 2024)",
    "probes:num_probes=256,hidden_dim=512,num_layers=3,dropout=0.3,generator=false": "reads the function: its values at learned points (Kahana et al. 2024)",
    "render:resolution=none,hidden_dim=32,dropout=0.2": "reads pixels: the INR rendered, into a convolutional network; a ceiling",
}  # fmt: skip
FORMER_MODELS = {"forward": "parity"}
TRANSFORMS: Choices = {
    "permute": "reorders the neurons; exact",
    "flip:probability=0.5": "negates neurons, not those of ReLU INRs; exact",
    "phase:max_k=1": "shifts phases of SIRENs by half turns; exact",
    "scale_relu:max_factor=2.0": "scales neurons of ReLU INRs; exact",
    "canonical": "fixes signs and phases of neurons, the order where they are no sines; exact",
    "rotate2d:degrees=30.0": "rotates images",
    "rotate3d:axis=z|x|y|any,degrees=180.0": "rotates shapes",
    "translate:max_shift=0.25": "moves what it shows",
    "scale:low=0.8,high=1.2,per_axis=false": "resizes what it shows",
    "reflect:axis=x|y|z,probability=0.5": "mirrors what it shows",
    "contrast:low=0.8,high=1.2,pivot=0.5": "stretches values",
    "brightness:max_shift=0.1": "shifts values",
    "invert:probability=0.5,pivot=0.5": "inverts values",
    "mix_channels:strength=0.2": "mixes colours",
    "noise:scale=0.32": "adds noise to weights",
    "multiplicative_noise:scale=0.2": "multiplies weights by noise",
    "dropout:probability=0.1": "zeroes random weights",
    "quantile_dropout:max_quantile=0.1,joint=true": "zeroes small weights",
}
MATCHES = ("phase", "signed", "permutation", "scale")
MIXUPS: Choices = {
    "mixup": "after aligning all that the INRs have: match=phase for SIRENs, permutation for ReLU, signed for others",
    "mixup:match=phase": "after aligning order, signs and phases of neurons",
    "mixup:match=signed": "after aligning order and signs",
    "mixup:match=permutation": "after aligning the order",
    "mixup:match=scale": "after aligning order and norms of ReLU neurons",
    "mixup:match=permute": "after a random order of the partner's neurons",
    "mixup:match=none": "as they are",
}
MIXUP_SETTINGS = (
    "mixup:alpha=1.0,match=auto|none|permute|permutation|signed|phase|scale,probability=1.0,same_class=false"
)
PERTURBATIONS: Choices = {
    "damp:sigma=0.2,parts=8": "multiplies weights by noise (Trinh et al. 2024)",
    "asam:rho=0.5,eta=0.01": "gradients at the worst loss nearby (Kwon et al. 2021)",
    "wat:transform=noise|scale|drop|shift,sigma=0.2,evaluate=plain|shadow,start=one|uniform": "transformed shadow weights (Zhuang et al. 2024)",
}  # fmt: skip
REWEIGHINGS: Choices = {"mr:eta=0.01,cap=0.0": "less weight for a high loss (Bar et al. 2021)"}
UNTRAINED = ("weights", "aligned", "renders")
FILTERS: Choices = {
    "dilate:size=3": "the largest value of windows of pixels (published: Zhou et al. 2023)",
    "erode:size=3": "the smallest value",
    "blur:size=3": "the mean value",
    "contrast:factor=1.5,pivot=0.5": "stretches values; known exactly",
    "invert": "1 minus the values; known exactly",
    "rotate:degrees=30.0": "turns the picture; known exactly",
}
SPLITS = ("train", "val", "test")
BENCHMARKS = ("align", "augment", "fit", "load", "mixup", "pipeline", "read")
FORMATS = (
    "dwsnets-mnist",
    "dwsnets-fmnist",
    "multiview",
    "nfn",
    "implicit-zoo",
    "inr2vec",
    "hyperdiffusion",
    "coin",
    "siren-pytorch",
    "fit-a-nef",
    "safetensors",
    "parquet",
)
CONVENTIONS = (
    "inr-factory",
    "dwsnets",
    "siren",
    "nfn",
    "implicit-zoo",
    "fit-a-nef",
    "inr2vec",
    "siren-pytorch",
    "coin",
    "hyperdiffusion",
)
PUBLISHED = ("dwsnets_mnist", "dwsnets_fashion_mnist")


def with_defaults(choice: str) -> str:
    """A choice as on the command line, with the default of each setting."""
    name, _, pairs = split_pairs(choice)
    settings = ",".join(f"{key}={value.partition('|')[0]}" for key, _, value in pairs)
    return f"{name}:{settings}" if settings else name


def meanings(choices: Choices, defaults: bool = False) -> dict[str, str]:
    """What each choice is, by its name, with the defaults of its settings if asked for."""
    named = {}
    for choice, about in choices.items():
        name, _, settings = with_defaults(choice).partition(":")
        named[name] = f"{about} ({settings})" if defaults and settings else about
    return named
