# INR Factory for CPUs, installed from a wheel. README.md has the commands.
FROM python:3.12-slim-bookworm

ARG EXTRAS=all
# An index of torch builds without CUDA. If it is empty, torch comes from pip's own index, with gigabytes of CUDA libraries.
ARG TORCH_INDEX=
ARG VERSION=unknown
ARG REVISION=unknown

LABEL org.opencontainers.image.title="inr-factory" \
      org.opencontainers.image.description="Data sets of implicit neural representations, and networks that read weights (CPU)" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="python:3.12-slim-bookworm"

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib

COPY constraints.txt dist/*.whl /opt/inr-factory/

# The package itself comes from the wheels alone: by its name, pip chooses the one for this processor. Its version is theirs.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --constraint /opt/inr-factory/constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch torchvision \
    && pip install --no-cache-dir --no-index --no-deps --find-links /opt/inr-factory inr-factory \
    && pip install --no-cache-dir --constraint /opt/inr-factory/constraints.txt "inr-factory[${EXTRAS}]" \
    && pip check \
    && inr-factory version

RUN useradd --create-home --uid 1000 inr \
    && mkdir /work \
    && chown inr:inr /work
USER 1000:1000
WORKDIR /work

ENTRYPOINT ["inr-factory"]
CMD ["--help"]
