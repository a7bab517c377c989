"""Known names: the choices of options that help and completion show without loading torch.

The modules that implement the choices load torch; a test holds each list equal to theirs.
"""

MODELS = ("dws", "mlp", "ng_gnn", "ng_t", "parity", "scalegmn")
TRANSFORMS = (
    "brightness", "canonical", "contrast", "dropout", "flip", "invert", "mix_channels", "multiplicative_noise",
    "noise", "permute", "phase", "quantile_dropout", "reflect", "rotate2d", "rotate3d", "scale", "scale_relu",
    "translate",
)  # fmt: skip
MATCHES = ("permutation", "signed", "phase")
SPLITS = ("train", "val", "test")
BENCHMARKS = ("align", "augment", "fit", "load", "mixup", "pipeline", "read")
FORMATS = (
    "dwsnets-mnist",
    "dwsnets-fmnist",
    "multiview",
    "nfn",
    "implicit-zoo",
    "inr2vec",
    "fit-a-nef",
    "safetensors",
    "parquet",
)
CONVENTIONS = ("inr-factory", "dwsnets", "siren", "nfn", "implicit-zoo", "fit-a-nef", "inr2vec")
PUBLISHED = ("dwsnets_mnist", "dwsnets_fashion_mnist")
