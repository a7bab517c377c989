"""What all tests of sources share: no network, and a tiny official set."""

import socket
from pathlib import Path
from typing import Any

import pytest
from support.images import FOLDERS, IDX_FILES, put


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test of this file may reach the network."""

    def refuse(*_: Any, **__: Any) -> None:
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(params=FOLDERS)
def tiny(request, tmp_path) -> tuple[str, Path]:
    """A name and a data root with 7 + 3 images in torchvision's layout."""
    for name, content in IDX_FILES.items():
        put(tmp_path / FOLDERS[request.param] / "raw" / name, content)
    return request.param, tmp_path


@pytest.fixture
def cache(tmp_path_factory, monkeypatch):
    """A sample cache for one test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("INR_FACTORY_CACHE", str(folder))
    return folder
