"""Shard files for tests: written whole, and every way in which a file is no shard."""

import json

import h5py
import numpy as np

from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.storage.manifest import Quarantined
from inr_factory.storage.shards import write_shard

SPEC = SirenSpec(2, 1, hidden_dim=4, omega_0=7.0, output_bias=0.5)


KEY = ("train", 1, 2)


QUARANTINE = (Quarantined(object_id="broken", view=1, reason="below 20 dB", psnr=12.5),)


ATTRIBUTES = {"fingerprint": "0123456789abcdef", "engine": "reference"}


def columns_of(rows, object_ids=None):
    """Every column that a shard has, and a fact, each row with numbers of its own."""
    number = np.arange(rows)
    return {
        "weights": initialize(SPEC, range(rows)).flatten().numpy(),
        "label": number % 3,
        "object_id": np.array(object_ids or [f"train-{row}" for row in range(rows)], dtype=object),
        "view": np.full(rows, 1),
        "seed": 2**62 + number,
        "psnr": 40 + number / 8,
        "loss": 0.5 ** (number + 1),
        "steps": 100 + number,
        "status": number % 2,
        "height": 8 + number,
        "scale": 0.1 + number,
    }


def write(root, rows=5, quarantine=QUARANTINE, **kinds):
    return write_shard(root, KEY, SPEC, columns_of(rows, **kinds), quarantine, ATTRIBUTES)


def replace_column(file, name, **how):
    values = how.pop("data", file[name][:])
    del file[name]
    file.create_dataset(name, data=values, **how)


def external_storage(file):
    secret = file.filename + ".secret"
    with open(secret, "wb") as stranger:
        stranger.write(bytes(20))
    del file["label"]
    file.create_dataset("label", (5,), "<i4", external=[(secret, 0, 20)])


def virtual_storage(file):
    del file["label"]
    layout = h5py.VirtualLayout((5,), "<i4")
    layout[:] = h5py.VirtualSource("other.h5", "label", (5,), "<i4")
    file.create_virtual_dataset("label", layout)


def soft_link(file):
    del file["label"]
    file["label"] = h5py.SoftLink("/steps")


def external_link(file):
    del file["label"]
    file["label"] = h5py.ExternalLink("other.h5", "/label")


def huge_claim(file):
    del file["weights"]
    shape = (2**40, SPEC.num_parameters)
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    h5py.h5d.create(file.id, b"weights", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple(shape), create)


def variable_length(file):
    values = [text.decode() for text in file["object_id"][:]]
    replace_column(file, "object_id", data=values, dtype=h5py.string_dtype())


def attribute(name, value):
    def change(file):
        file.attrs[name] = value

    return change


def text_attribute(name, value):
    def change(file):
        file.attrs.create(name, value.encode(), dtype=h5py.string_dtype("utf-8", len(value)))

    return change


SPEC_FIELDS = SPEC.to_dict()


NEVER_A_SHARD = {
    "chunks": (lambda file: replace_column(file, "weights", chunks=(1, 4)), "weights is not contiguous"),
    "filter": (lambda file: replace_column(file, "label", compression="gzip"), "label is not contiguous"),
    "external storage": (external_storage, "label is not contiguous"),
    "virtual storage": (virtual_storage, "label is not contiguous"),
    "soft link": (soft_link, "label is a link to another file"),
    "external link": (external_link, "label is a link to another file"),
    "variable length": (variable_length, "object_id has the type object"),
    "huge claim": (huge_claim, "weights claims .* bytes, the file has"),
    "group": (lambda file: file.create_group("more"), "more is not a data set"),
    "one value": (lambda file: file.create_dataset("height2", data=np.int32(3)), "columns differ in length"),
    "another length": (lambda file: replace_column(file, "label", data=np.zeros(4, "<i4")), "columns differ in length"),
    "no values": (lambda file: file.create_dataset("more", data=h5py.Empty("<i4")), "is not a shard"),
    "no column": (lambda file: file.pop("psnr"), "it has no column psnr"),
    "wider column": (lambda file: replace_column(file, "label", data=np.zeros((5, 2), "<i4")), "label has the shape"),
    "other type": (lambda file: replace_column(file, "psnr", dtype="<f8"), "column psnr is <f8, expected <f4"),
    "byte order": (lambda file: replace_column(file, "height", dtype=">i4"), "column height is >i4, expected <i4 or <f8"),
    "ids that are numbers": (lambda file: replace_column(file, "object_id", data=np.zeros(5, "<i4")), "object_id is <i4, expected .S4"),
    "compound": (lambda file: file.create_dataset("more", data=np.zeros(5, "i4,f4")), "more has the type"),
    "narrower weights": (lambda file: replace_column(file, "weights", data=np.zeros((5, 9), "<f4")), "its spec has D"),
    "other version": (attribute("format_version", 2), "has format version 2, this program reads 1"),
    "no version": (lambda file: file.attrs.pop("format_version"), "has format version None"),
    "no spec": (lambda file: file.attrs.pop("spec"), "'spec'"),
    "no key": (lambda file: file.attrs.pop("block"), "'block'"),
    "odd key": (attribute("view", -1), "its split, view and block are"),
    "odd split": (text_attribute("split", "trian"), "its split, view and block are"),
    "spec that is no JSON": (text_attribute("spec", "{"), "is not a shard"),
    "spec of another INR": (text_attribute("spec", json.dumps({**SPEC_FIELDS, "hidden_dim": 8})), "its spec has D"),
    "endless spec": (text_attribute("spec", json.dumps({**SPEC_FIELDS, "num_hidden": 10**12})), "num_hidden"),
    "odd quarantine": (text_attribute("quarantine", "[3]"), "is not a shard"),
    "text of variable length": (attribute("engine", "reference"), "attribute engine is not"),
    "array for a number": (attribute("format_version", [1]), "attribute format_version is not"),
    "edited attribute": (text_attribute("engine", "refe"), "the checksum of its attributes"),
    "edited spec": (text_attribute("spec", json.dumps({**SPEC_FIELDS, "omega_0": 30})), "the checksum of its attributes"),
}  # fmt: skip
