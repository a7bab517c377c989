"""INR Factory: data sets of implicit neural representations (INRs), and networks that take their weights as input.

    import inr_factory as inr

has every public name; each loads its module at its first use, so that the import itself costs nothing.
"""

from typing import TYPE_CHECKING, Any

from inr_factory.inr.version import __version__ as __version__

if TYPE_CHECKING:
    from inr_factory.benchmarks.run_benchmark import benchmark as benchmark
    from inr_factory.cli.environment_check import check_environment as check_environment
    from inr_factory.errors import FactoryError as FactoryError
    from inr_factory.errors import IntegrityError as IntegrityError
    from inr_factory.errors import MissingExtraError as MissingExtraError
    from inr_factory.errors import PartialError as PartialError
    from inr_factory.errors import ResourceError as ResourceError
    from inr_factory.errors import UsageError as UsageError
    from inr_factory.generation.execution.estimate import estimate as estimate
    from inr_factory.generation.execution.fit_dataset import fit_dataset as fit_dataset
    from inr_factory.generation.execution.run_settings import FitReport as FitReport
    from inr_factory.generation.fit_arrays import FittedINRs as FittedINRs
    from inr_factory.generation.fit_arrays import fit as fit
    from inr_factory.generation.learned_start import learn_start as learn_start
    from inr_factory.generation.maintenance.merge import merge_datasets as merge_datasets
    from inr_factory.generation.maintenance.repair import repair_dataset as repair_dataset
    from inr_factory.generation.maintenance.verify import verify_dataset as verify_dataset
    from inr_factory.generation.recipe import Recipe as Recipe
    from inr_factory.generation.recipe import builtin_recipes as builtin_recipes
    from inr_factory.generation.recipe import load_recipe as load_recipe
    from inr_factory.generation.signals import Item as Item
    from inr_factory.generation.signals import Signal as Signal
    from inr_factory.generation.signals import SignalError as SignalError
    from inr_factory.generation.signals import Source as Source
    from inr_factory.inr.batch import INRBatch as INRBatch
    from inr_factory.inr.metrics import psnr as psnr
    from inr_factory.inr.pixel_grid import pixel_grid as pixel_grid
    from inr_factory.inr.spec import SirenSpec as SirenSpec
    from inr_factory.interop.export import export_dataset as export_dataset
    from inr_factory.interop.hub_exports import push_export as push_export
    from inr_factory.interop.hub_runs import load_model as load_model
    from inr_factory.interop.hub_runs import pull_run as pull_run
    from inr_factory.interop.hub_runs import push_run as push_run
    from inr_factory.interop.hugging_face_hub import push_dataset as push_dataset
    from inr_factory.interop.import_dataset import import_dataset as import_dataset
    from inr_factory.interop.pull_dataset import pull_dataset as pull_dataset
    from inr_factory.learning.alignment.aligned_dataset import align_dataset as align_dataset
    from inr_factory.learning.alignment.mixup import MixUp as MixUp
    from inr_factory.learning.alignment.mixup import mix as mix
    from inr_factory.learning.alignment.mixup import parse_mixup as parse_mixup
    from inr_factory.learning.alignment.weight_matching import align as align
    from inr_factory.learning.data.dataset import INRDataset as INRDataset
    from inr_factory.learning.data.loader import INRLoader as INRLoader
    from inr_factory.learning.models.checkpoint import load_classifier as load_classifier
    from inr_factory.learning.models.classifier import build_classifier as build_classifier
    from inr_factory.learning.models.encoder import Encoder as Encoder
    from inr_factory.learning.training.edit import edit as edit
    from inr_factory.learning.training.edited_run import EditRun as EditRun
    from inr_factory.learning.training.embed import embed as embed
    from inr_factory.learning.training.pretrain_encoder import pretrain as pretrain
    from inr_factory.learning.training.run_card import write_run_card as write_run_card
    from inr_factory.learning.training.sweep import sweep as sweep
    from inr_factory.learning.training.train_classifier import train as train
    from inr_factory.learning.training.trained_run import TrainedRun as TrainedRun
    from inr_factory.learning.training.trained_run import certify as certify
    from inr_factory.learning.training.trained_run import evaluate as evaluate
    from inr_factory.learning.training.trained_run import open_run as open_run
    from inr_factory.learning.training.trained_run import predict as predict
    from inr_factory.learning.transforms.canonical import Canonicalize as Canonicalize
    from inr_factory.learning.transforms.canonical import canonicalize as canonicalize
    from inr_factory.learning.transforms.compose import Compose as Compose
    from inr_factory.learning.transforms.compose import OneOf as OneOf
    from inr_factory.learning.transforms.compose import RandomApply as RandomApply
    from inr_factory.learning.transforms.compose import parse_transform as parse_transform
    from inr_factory.learning.transforms.coordinate import Reflect as Reflect
    from inr_factory.learning.transforms.coordinate import Rotate2D as Rotate2D
    from inr_factory.learning.transforms.coordinate import Rotate3D as Rotate3D
    from inr_factory.learning.transforms.coordinate import Scale as Scale
    from inr_factory.learning.transforms.coordinate import Translate as Translate
    from inr_factory.learning.transforms.coordinate import reflect as reflect
    from inr_factory.learning.transforms.coordinate import rotate2d as rotate2d
    from inr_factory.learning.transforms.coordinate import rotate3d as rotate3d
    from inr_factory.learning.transforms.coordinate import scale as scale
    from inr_factory.learning.transforms.coordinate import translate as translate
    from inr_factory.learning.transforms.intensity import Brightness as Brightness
    from inr_factory.learning.transforms.intensity import Contrast as Contrast
    from inr_factory.learning.transforms.intensity import Invert as Invert
    from inr_factory.learning.transforms.intensity import MixChannels as MixChannels
    from inr_factory.learning.transforms.intensity import brightness as brightness
    from inr_factory.learning.transforms.intensity import contrast as contrast
    from inr_factory.learning.transforms.intensity import invert as invert
    from inr_factory.learning.transforms.noise import Dropout as Dropout
    from inr_factory.learning.transforms.noise import GaussianNoise as GaussianNoise
    from inr_factory.learning.transforms.noise import MultiplicativeNoise as MultiplicativeNoise
    from inr_factory.learning.transforms.noise import QuantileDropout as QuantileDropout
    from inr_factory.learning.transforms.symmetries import FlipSigns as FlipSigns
    from inr_factory.learning.transforms.symmetries import PermuteNeurons as PermuteNeurons
    from inr_factory.learning.transforms.symmetries import ScaleReLU as ScaleReLU
    from inr_factory.learning.transforms.symmetries import ShiftPhases as ShiftPhases
    from inr_factory.reporting.augmentation_report import augment_report as augment_report
    from inr_factory.reporting.comparison import compare_datasets as compare_datasets
    from inr_factory.reporting.dataset_status import dataset_status as dataset_status
    from inr_factory.reporting.html.page import report_dataset as report_dataset
    from inr_factory.reporting.search_dataset import search as search
    from inr_factory.reporting.show_dataset import show_dataset as show_dataset
    from inr_factory.storage.add_targets import add_targets as add_targets
    from inr_factory.storage.add_targets import dataset_targets as dataset_targets
    from inr_factory.storage.cache_contents import cache as cache
    from inr_factory.storage.dataset_card import write_card as write_card
    from inr_factory.streaming.open_dataset import open_dataset as open  # noqa: F401
    from inr_factory.streaming.stream import stream as stream

# The public names of each module; those in the block above are for type checkers. A test holds both to be the same.
_PUBLIC = {
    "benchmarks.run_benchmark": "benchmark",
    "cli.environment_check": "check_environment",
    "errors": "FactoryError IntegrityError MissingExtraError PartialError ResourceError UsageError",
    "generation.execution.estimate": "estimate",
    "generation.execution.fit_dataset": "fit_dataset",
    "generation.execution.run_settings": "FitReport",
    "generation.fit_arrays": "fit FittedINRs",
    "generation.learned_start": "learn_start",
    "generation.maintenance.merge": "merge_datasets",
    "generation.maintenance.repair": "repair_dataset",
    "generation.maintenance.verify": "verify_dataset",
    "generation.recipe": "builtin_recipes load_recipe Recipe",
    "generation.signals": "Item Signal SignalError Source",
    "inr.batch": "INRBatch",
    "inr.metrics": "psnr",
    "inr.pixel_grid": "pixel_grid",
    "inr.spec": "SirenSpec",
    "interop.export": "export_dataset",
    "interop.hub_exports": "push_export",
    "interop.hub_runs": "load_model pull_run push_run",
    "interop.hugging_face_hub": "push_dataset",
    "interop.import_dataset": "import_dataset",
    "interop.pull_dataset": "pull_dataset",
    "learning.alignment.aligned_dataset": "align_dataset",
    "learning.alignment.mixup": "mix MixUp parse_mixup",
    "learning.alignment.weight_matching": "align",
    "learning.data.dataset": "INRDataset",
    "learning.data.loader": "INRLoader",
    "learning.models.checkpoint": "load_classifier",
    "learning.models.classifier": "build_classifier",
    "learning.models.encoder": "Encoder",
    "learning.training.edit": "edit",
    "learning.training.edited_run": "EditRun",
    "learning.training.embed": "embed",
    "learning.training.pretrain_encoder": "pretrain",
    "learning.training.run_card": "write_run_card",
    "learning.training.sweep": "sweep",
    "learning.training.train_classifier": "train",
    "learning.training.trained_run": "certify evaluate open_run predict TrainedRun",
    "learning.transforms.canonical": "canonicalize Canonicalize",
    "learning.transforms.compose": "Compose OneOf parse_transform RandomApply",
    "learning.transforms.coordinate": "reflect Reflect rotate2d Rotate2D rotate3d Rotate3D scale Scale translate Translate",
    "learning.transforms.intensity": "brightness Brightness contrast Contrast invert Invert MixChannels",
    "learning.transforms.noise": "Dropout GaussianNoise MultiplicativeNoise QuantileDropout",
    "learning.transforms.symmetries": "FlipSigns PermuteNeurons ScaleReLU ShiftPhases",
    "reporting.augmentation_report": "augment_report",
    "reporting.comparison": "compare_datasets",
    "reporting.dataset_status": "dataset_status",
    "reporting.html.page": "report_dataset",
    "reporting.search_dataset": "search",
    "reporting.show_dataset": "show_dataset",
    "storage.add_targets": "add_targets dataset_targets",
    "storage.cache_contents": "cache",
    "storage.dataset_card": "write_card",
    "streaming.open_dataset": "open",
    "streaming.stream": "stream",
}
_HOMES = {name: module for module, names in _PUBLIC.items() for name in names.split()}
_RENAMED = {"open": "open_dataset"}  # public name: name in its module


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from inr_factory.errors import did_you_mean

        raise AttributeError(f"module inr_factory has no {name!r}; {did_you_mean(name, _HOMES)}")
    from importlib import import_module

    value = getattr(import_module(f"inr_factory.{_HOMES[name]}"), _RENAMED.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*_HOMES, "__version__"})
