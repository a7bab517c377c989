"""Measures what decoding gains: as a second loss of a classifier, and as pre-training beside contrast, by linear probes.

    python pipelines/studies/study_decoding.py --dataset inrs/fashion_mnist --work /tmp/study_decoding

Trains on `--labels` objects of each class, in equal numbers of steps of 64 objects. Every result is a line of results.jsonl
in --work, and lines that exist are not made again, so the study resumes. Prints all lines.
"""

import argparse
import json
import shutil
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch

from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.loader import INRLoader
from inr_factory.learning.models.classifier import build_classifier
from inr_factory.learning.models.contrastive import build_contrastive
from inr_factory.learning.models.decoder import build_decoder, build_decoding
from inr_factory.learning.models.normalizer import Normalizer
from inr_factory.learning.option_strings import parse_model
from inr_factory.learning.training.classification import ClassifierTrainer, evaluate_model
from inr_factory.learning.training.contrastive import ContrastiveTrainer
from inr_factory.learning.training.decoding import DecodingTrainer, reconstruction_psnr
from inr_factory.learning.training.probes import features_of, linear_accuracy, neighbour_accuracy
from inr_factory.learning.training.run_config import PretrainConfig, TrainConfig
from inr_factory.learning.training.run_data import plain_batches
from inr_factory.learning.transforms.compose import parse_transform

CHANGES = "rotate2d:degrees=10+translate:max_shift=0.1+scale:low=0.9,high=1.1,per_axis=true"
BATCH = 64


def classify(data: dict[str, Any], model: str, decode: float | None, seed: int, epochs: int, out: Path) -> Any:
    name, options = parse_model(model)
    training, canonical = data["train"], True
    normalizer = Normalizer.fit(training.spec, plain_batches(training, canonical))
    classifier = build_classifier(name, training.spec, 10, normalizer, seed, canonical, **options)
    first = next(plain_batches(training, canonical))
    decoder = None if decode is None else build_decoder(training.spec, classifier.encoder.features, first, seed)
    config = TrainConfig(epochs=epochs, seed=seed, decode=decode, **data["schedule"])
    loader = INRLoader(training, BATCH, seed=seed)
    trainer = ClassifierTrainer(classifier, loader, data["val"], config, out, {}, decoder=decoder)
    history = trainer.fit().history
    test = evaluate_model(classifier, data["test"])
    return {"test": test.accuracy, "test_loss": test.loss, "val_psnr": history[-1].get("val_psnr")}


def pretrain(data: dict[str, Any], model: str, how: str, seed: int, epochs: int, out: Path) -> Any:
    name, options = parse_model(model)
    contrast = how == "contrast"
    training, canonical = data["train2" if contrast else "train"], True
    normalizer = Normalizer.fit(training.spec, plain_batches(data["train"], canonical))
    build: Any = build_contrastive if contrast else build_decoding
    encoder = build(name, training.spec, normalizer, seed=seed, canonical=canonical, **options)
    if not contrast:
        encoder.decoder.standardize(next(plain_batches(training, canonical)))
    if how != "untrained":
        objective: Any = "contrast" if contrast else "decode"
        config = PretrainConfig(
            epochs=epochs, seed=seed, objective=objective, positives="views", probe_epochs=10**6, **data["schedule"]
        )
        rows = {"views_per_object": 2, "grouped": True} if contrast else {}
        loader = INRLoader(training, (1 + contrast) * BATCH, seed=seed, **rows)
        transform = parse_transform(CHANGES) if how == "decode, changed" else None
        kind: Any = ContrastiveTrainer if contrast else DecodingTrainer
        kind(encoder, loader, data["known"], data["val"], transform, config, out, {}).fit()
    known, test = features_of(encoder, data["known"]), features_of(encoder, data["test"])
    psnr = None if contrast else reconstruction_psnr(encoder, encoder.decoder, data["test"])
    return {"linear": linear_accuracy(*known, *test), "neighbours": neighbour_accuracy(*known, *test), "psnr": psnr}


def study(dataset: Path, work: Path, labels: int, epochs: int, models: list[str], parts: str, seeds: list[int]) -> None:
    torch.set_num_threads(1)
    results = work / "results.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    lines = results.read_text().splitlines() if results.exists() else []
    made = {json.loads(line)["name"] for line in lines}
    data: dict[str, Any] = {
        "train": INRDataset(dataset, "train", views=1, labels_per_class=labels, check=False),
        "schedule": {"learning_rate": 5e-3, "schedule": "cosine", "device": "cpu", "tensorboard": False},
    }
    data["known"] = INRLoader(data["train"], 500, shuffle=False, drop_last=False)
    for split, count in (("val", 50), ("test", 500)):
        rows = INRDataset(dataset, split, views=1, labels_per_class=count, check=False)
        data[split] = INRLoader(rows, 500, shuffle=False, drop_last=False)
    for seed, model, part in product(seeds, models, parts.split(";")):
        name = f"{model}; {part}; seed {seed}; {epochs} epochs"
        if name in made:
            continue
        if part == "contrast" and "train2" not in data:
            data["train2"] = INRDataset(dataset, "train", views=2, labels_per_class=labels, check=False)
        out, begin = work / "run", time.process_time()
        shutil.rmtree(out, ignore_errors=True)
        if part.startswith("classify"):
            weight = part.partition(" ")[2]
            result = classify(data, model, float(weight) if weight else None, seed, epochs, out)
        else:
            result = pretrain(data, model, part, seed, epochs, out)
        line = json.dumps({"name": name, **result, "cpu_seconds": round(time.process_time() - begin)})
        with results.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="a set of images with two views")
    parser.add_argument("--work", type=Path, required=True, help="folder for results")
    parser.add_argument("--labels", type=int, default=300, help="objects of each class")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--models", nargs="+", default=["parity"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    every = "classify;classify 1;decode;contrast;decode, changed;untrained"
    parser.add_argument("--parts", default=every, help="separated by semicolons")
    options = parser.parse_args()
    study(options.dataset, options.work, options.labels, options.epochs, options.models, options.parts, options.seeds)
