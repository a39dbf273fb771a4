"""A plugin for pytest: our managers and pools under every name that urllib3's have in its modules.

Loaded by its name before urllib3's conftest imports anything.
"""

from __future__ import annotations

import sys

import urllib3
import urllib3.contrib.socks as theirs_socks

import fastpool.contrib.urllib3 as ours
import fastpool.contrib.urllib3.socks as ours_socks

NAMES = {
    urllib3: [name for name in ours.__all__ if hasattr(urllib3, name)],
    theirs_socks: ours_socks.__all__,
}


def put_in_place() -> None:
    instead = {
        id(getattr(host, name)): getattr(ours if host is urllib3 else ours_socks, name)
        for host, names in NAMES.items()
        for name in names
    }
    for module_name, module in list(sys.modules.items()):
        if module_name == "urllib3" or module_name.startswith("urllib3."):
            for name, value in list(vars(module).items()):
                if id(value) in instead:
                    setattr(module, name, instead[id(value)])


put_in_place()
