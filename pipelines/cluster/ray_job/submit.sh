#!/bin/sh
# Fits a set as a job of a running Ray cluster, again until the set is whole, and says whether it is.
set -eu
: "${RAY_API_SERVER_ADDRESS:?the address of the dashboard, for example http://head:8265}"
: "${OUT:?the folder of the set, on a file system that all nodes share}"
RECIPE="${RECIPE:-fashion_mnist_10view}"
DATA_ROOT="${DATA_ROOT:-data}"
ATTEMPTS="${ATTEMPTS:-5}"

attempt=1
while [ "$attempt" -le "$ATTEMPTS" ]; do
    ray job submit -- inr-factory fit "$RECIPE" --out "$OUT" --data-root "$DATA_ROOT" ||
        echo "attempt $attempt: the launcher ended with $?; the set decides" >&2
    if inr-factory status "$OUT"; then break; fi
    attempt=$((attempt + 1))
done
inr-factory status "$OUT" >/dev/null
inr-factory verify "$OUT"
