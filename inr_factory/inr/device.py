"""The device on which something is computed: the one rule of `--device` and of `device=`."""

import re

import torch

from inr_factory.errors import ResourceError, UsageError


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """Return the device of a name.

    Args:
        name: "auto" (a GPU if torch sees one, else the CPU), "cpu", "cuda" or "cuda:N".

    Returns:
        The torch device; "cuda" leaves open which GPU.

    Raises:
        UsageError: for another name.
        ResourceError: for a GPU that torch does not see.
    """
    text = str(name)
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text):
        raise UsageError(f"device must be auto, cpu, cuda or cuda:N, got {text!r}")
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(text)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ResourceError(
                f"device {text} was requested, but torch sees {count or 'no'} GPU; use device cpu or auto"
            )
    return device
