"""Option checks: a typing error in a training option ends the command in one line, before torch is loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.small_sets import make_set

from inr_factory.cli.option_checks import check_training
from inr_factory.errors import UsageError
from inr_factory.learning.alignment.mixup import parse_mixup
from inr_factory.learning.option_strings import parse_model
from inr_factory.learning.training.example_reweighting import parse_reweighting
from inr_factory.learning.training.weight_perturbation import parse_perturbation
from inr_factory.learning.transforms.compose import parse_transform

TYPOS = [
    (["--model", "partiy"], "unknown model 'partiy'; did you mean 'parity'?"),
    (["--model", "parity:hiden_dim=8"], "parity has no key 'hiden_dim'; did you mean 'hidden_dim'?"),
    (["--model", "mlp:hidden_dim=wide"], "mlp:hidden_dim must be a whole number, got 'wide'"),
    (["--model", "dws:set_layer=deepset"], "dws: set_layer must be one of attention, deepsets, got 'deepset'"),
    (["--augment", "flip@0.5+(rotate2d|nois)"], "unknown transform 'nois'; did you mean 'noise'?"),
    (["--augment", "noise:scal=0.1"], "noise has no key 'scal'; did you mean 'scale'?"),
    (["--augment", "noise:scale=much"], "noise:scale must be a number, got 'much'"),
    (["--augment", "flip@often"], "write a probability after @, got 'often'"),
    (["--mixup", "mixup:match=phases"], "mixup: match must be one of auto, none, permute, permutation, signed, phase"),
    (["--mixup", "mixpu"], "unknown mixing 'mixpu'; did you mean 'mixup'?"),
    (["--mixup", "phase"], "unknown mixing 'phase'; did you mean 'mixup:match=phase'?"),
    (["--perturb", "damp:sigm=1"], "damp has no key 'sigm'; did you mean 'sigma'?"),
    (["--reweigh", "mr:eta=high"], "mr:eta must be a number, got 'high'"),
    (["--schedule", "cosin"], "--schedule: unknown value 'cosin'; did you mean 'cosine'?"),
    (["--optimizer", "adamm"], "--optimizer: unknown value 'adamm'; did you mean 'adam'?"),
    (["--lr", "0"], "--learning-rate: input should be greater than 0, got 0.0"),
    (["--init", "nowhere"], "no checkpoint nowhere"),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checks") / "small"
    make_set(root, objects={"train": 4, "val": 3, "test": 3})
    return root


def test_typing_errors_are_named_in_one_line_without_torch(dataset: Path) -> None:
    code = (
        "import json, sys\n"
        "from inr_factory.cli.main import run\n"
        "for options in json.loads(sys.argv[1]): print(run(['train', *options]), 'torch' in sys.modules)\n"
    )
    calls = [*([str(dataset), *options] for options, _ in TYPOS), ["nowhere"]]
    done = subprocess.run([sys.executable, "-c", code, json.dumps(calls)], capture_output=True, text=True, check=True)

    assert done.stdout.split("\n")[:-1] == ["2 False"] * len(calls)
    lines = done.stderr.splitlines()
    assert len(lines) == len(calls)
    for line, message in zip(lines, [*(message for _, message in TYPOS), "no data set in nowhere"], strict=True):
        assert line.startswith("inr-factory: ")
        assert message in line


def test_what_the_modules_take_passes(dataset: Path) -> None:
    """A check that refused what was taken yesterday would break commands."""
    for model in ("parity", "forward:points=TRUE", "ng_t:num_layers=2,dropout=0", "mlp:hidden_dim=8,", "dws:"):
        check_training(dataset, model, ())
        assert parse_model(model)
    for augment in ("permute", "noise:scale=1@0.5+(flip|scale:per_axis=true)", "rotate3d:axis=any", "phase:max_k=4"):
        check_training(dataset, None, [augment])
        assert parse_transform(augment)
    for mixup in ("mixup", "mixup:alpha=0.2,match=phase,same_class=true"):
        check_training(dataset, None, (), mixup)
        assert parse_mixup(mixup)
    check_training(dataset, None, (), None, "wat:transform=shift,start=uniform", "mr:eta=1,cap=0")
    assert parse_perturbation("wat:transform=shift,start=uniform")
    assert parse_reweighting("mr:eta=1,cap=0")


@pytest.mark.parametrize(
    ("text", "parse"),
    [
        ("noise:scal=1", parse_transform),
        ("flip@x", parse_transform),
        ("(flip", parse_transform),
        ("noise:", parse_transform),
    ],
)
def test_the_check_says_what_the_module_says(text, parse, dataset: Path) -> None:
    with pytest.raises(UsageError) as early:
        check_training(dataset, None, [text])
    with pytest.raises(UsageError) as late:
        parse(text)
    assert str(early.value) == str(late.value)
