"""Damage: ways to damage a set, and what is wrong with one."""

import json
import shutil

from inr_factory.errors import IntegrityError, UsageError
from inr_factory.generation.maintenance.integrity_check import check_manifest, check_shards
from inr_factory.generation.maintenance.repair import SET_ASIDE
from inr_factory.storage.manifest import MANIFEST, ORIGIN
from inr_factory.storage.manifest_file import load_manifest
from support.tiny_recipes import files

SHARD = "data/train-view001-00001.h5"


def kept(out):
    """Every file of a set but for what was set aside."""
    return {name: content for name, content in files(out).items() if not name.startswith(SET_ASIDE)}


def faults_of(out):
    manifest = load_manifest(out)
    return check_manifest(out, manifest) + check_shards(out, manifest)


def named(out):
    """What is wrong with a set, as verify or a reader reports it."""
    try:
        return [fault.reason for fault in faults_of(out)]
    except (IntegrityError, UsageError) as error:
        return [str(error)]


def alter(out, change):
    """Edit the manifest's JSON."""
    fields = json.loads((out / MANIFEST).read_text())
    change(fields)
    (out / MANIFEST).write_text(json.dumps(fields))


def cut(out):
    (out / SHARD).write_bytes((out / SHARD).read_bytes()[:-1])


def flip(out):
    content = bytearray((out / SHARD).read_bytes())
    content[len(content) // 2] ^= 4
    (out / SHARD).write_bytes(content)


def swap(out):
    shutil.copy(out / "data/train-view000-00001.h5", out / SHARD)


SHARD_DAMAGE = {"cut": cut, "flip": flip, "swap": swap, "delete": lambda out: (out / SHARD).unlink()}


RECORD_DAMAGE = {
    "no manifest": lambda out: (out / MANIFEST).unlink(),
    "half a manifest": lambda out: (out / MANIFEST).write_bytes((out / MANIFEST).read_bytes()[:3000]),
    "an endless manifest": lambda out: (out / MANIFEST).write_text("[" * 100_000),
    "another class": lambda out: alter(out, lambda fields: fields["classes"].__setitem__(3, "eight")),
    "fewer views": lambda out: alter(out, lambda fields: fields["recipe"].update(views=1)),
    "more views": lambda out: alter(out, lambda fields: fields["recipe"].update(views=9)),
    "another sha256": lambda out: alter(out, lambda fields: fields["shards"][2].update(sha256="0" * 64)),
    "another median": lambda out: alter(out, lambda fields: fields["shards"][2]["psnr"].update(median=99.5)),
    "a shard in another's place": lambda out: alter(out, lambda fields: fields["shards"][2].update(view=1)),
    "a shard twice": lambda out: alter(out, lambda fields: fields["shards"].append(fields["shards"][0])),
    "no entry": lambda out: alter(out, lambda fields: fields["shards"].pop()),
    "a broken origin": lambda out: (out / ORIGIN).write_text("{"),
}
