"""The rule of devices: four kinds of names, and one line for every other."""

import pytest
import torch

from inr_factory.errors import ResourceError, UsageError
from inr_factory.inr.device import choose_device


@pytest.fixture
def gpus(monkeypatch):
    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


def test_auto_is_a_gpu_where_torch_sees_one(gpus):
    gpus(0)
    assert choose_device() == choose_device("cpu") == torch.device("cpu")
    gpus(2)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
    assert choose_device(torch.device("cuda:1")) == choose_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["mps", "meta", "cup", "cuda:", "cuda:x", "cpu:0", "", "cuda:-1", "cuda:99999999999"])
def test_other_names_are_refused_in_one_line(name, gpus):
    gpus(1)
    with pytest.raises(UsageError, match=f"must be auto, cpu, cuda or cuda:N, got '{name}'$"):
        choose_device(name)


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_gpu_that_torch_does_not_see_is_a_resource_error(name, count, gpus):
    gpus(count)
    with pytest.raises(ResourceError, match=f"device {name} .* torch sees {count or 'no'} GPU; use device cpu"):
        choose_device(name)
