"""A plugin for pytest: our Adapter under every name that requests' HTTPAdapter has in its modules.

Loaded by its name before requests' conftest imports anything.
"""

from __future__ import annotations

import sys

import requests.adapters

from fastpool.contrib.requests import Adapter


def put_in_place() -> None:
    theirs = requests.adapters.HTTPAdapter
    for module_name, module in list(sys.modules.items()):
        if module_name == "requests" or module_name.startswith("requests."):
            if getattr(module, "HTTPAdapter", None) is theirs:
                module.HTTPAdapter = Adapter  # type: ignore[attr-defined]


put_in_place()
