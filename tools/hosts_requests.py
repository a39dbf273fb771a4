"""requests' own tests on our Adapter.

    python tools/hosts_requests.py

in an environment with requests, pytest and fastpool; see hosts_http.py.
"""

from __future__ import annotations

import sys

from hosts_http import Suite, main

REQUESTS = Suite(
    host="requests",
    needs=[
        "attrs", "blinker", "brotlicffi", "cffi", "click", "decorator", "flasgger", "flask",
        "httpbin>=0.10", "itsdangerous", "jinja2", "jsonschema", "markupsafe", "mistune",
        "pycparser", "pysocks>=1.7", "pytest-httpbin>=2.1", "pytest-mock", "pyyaml", "six",
        "trustme>=1.2", "werkzeug",
    ],
    files=["tests/test_adapters.py", "tests/test_lowlevel.py", "tests/test_requests.py"],
    left_out=["test_connect_timeout", "test_total_timeout_connect"],  # ask for a real network
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(REQUESTS))
