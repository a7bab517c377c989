#!/bin/bash
# Runs the ARM wheel of DIST under emulation, in a Debian 12 below FOLDER, and compares its shards with those of this machine.
#
#     sudo apt-get install debootstrap qemu-user-static
#     sudo PATH="$PWD/.venv/bin:$PATH" pipelines/release/try_arm.sh dist ../arm           # half an hour, 1.5 GB
#     sudo PATH="$PWD/.venv/bin:$PATH" pipelines/release/try_arm.sh dist ../arm tests     # and the tests of the C code: an hour more
#
# torch 2.10 is the last one whose ARM wheel comes without CUDA.
set -euo pipefail
repository=$(realpath "$(dirname "$0")/../..")
dist=$(realpath "$1")
folder=$(realpath -m "$2")
root=$folder/root

emulated() { # its mounts end with it
    unshare --mount env HOME=/root LC_ALL=C.UTF-8 PATH=/venv/bin:/usr/bin:/bin:/usr/sbin:/sbin PYTHONPATH= sh -ec '
        cd "$0"; for name in dev proc sys; do mount --rbind "/$name" "$name"; done; exec chroot . "$@"' "$root" "$@"
}

if [ ! -e "$root/venv/bin/pip" ]; then
    debootstrap --arch=arm64 --variant=minbase --include=python3-venv,ca-certificates bookworm "$root"
    emulated python3 -m venv /venv
fi
rm -f "$root"/opt/*.whl
cp "$dist"/inr_factory-*_aarch64.whl "$root/opt/"
sed 's/^torch==.*/torch==2.10.0/' "$repository/constraints.txt" >"$root/opt/constraints.txt"
emulated sh -ec 'pip install --no-compile --only-binary :all: -c /opt/constraints.txt /opt/inr_factory-*.whl pytest pytest-timeout hypothesis
    pip install --no-compile --force-reinstall --no-deps /opt/inr_factory-*.whl' # another build of the same version
rm -rf "$root/try" "$folder/set"
mkdir -p "$root/try"
emulated inr-factory doctor
emulated inr-factory fit digits --limit 12 --backend local --out /try/set
emulated inr-factory verify /try/set
emulated inr-factory train /try/set --epochs 1 --out /try/run
inr-factory fit digits --limit 12 --backend local --out "$folder/set"
for shard in "$folder"/set/data/*.h5; do cmp "$shard" "$root/try/set/data/$(basename "$shard")"; done
echo "same bytes as the shards of this machine"
if [ "${3:-}" = tests ]; then
    cp -r "$repository/tests" "$repository/pyproject.toml" "$root/try/"
    emulated sh -c 'cd /try && python -m pytest -q -o timeout=3000 -o filterwarnings=default \
        tests/generation/fitting/test_fused_cpu.py tests/learning/alignment/test_linear_assignment.py \
        tests/learning/models/test_norm_pools.py tests/learning/models/test_set_attention.py tests/learning/transforms/test_neuron_ops.py'
fi
