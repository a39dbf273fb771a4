"""urllib3's own tests of pools, managers and proxies on our classes.

    python tools/hosts_urllib3.py

in an environment with urllib3, pytest and fastpool; see hosts_http.py.
"""

from __future__ import annotations

import sys

from hosts_http import Suite, main

DROPPED = "a response that is dropped gives its connection back; theirs keeps the slot for ever"
QUEUE_CLASS = "wants an object of its QueueCls as `pool.pool`"
URLLIB3 = Suite(
    host="urllib3",
    needs=[
        "aiofiles", "anyio>=4.8", "attrs", "blinker", "click", "exceptiongroup", "flask", "h11",
        "h2>=4.1", "hpack", "httpx>=0.28", "hypercorn>=0.15", "hyperframe", "idna",
        "itsdangerous", "jinja2", "markupsafe", "outcome", "priority", "pysocks>=1.7",
        "pytest-socket>=0.7", "quart>=0.20", "quart-trio>=0.12", "sniffio", "sortedcontainers",
        "trio>=0.27", "trustme>=1.2", "werkzeug", "wsproto",
    ],
    files=[
        *(f"test/test_{name}.py" for name in (
            "connectionpool", "poolmanager", "proxymanager", "queue_monkeypatch",
        )),
        *(f"test/with_dummyserver/test_{name}.py" for name in (
            "connection", "connectionpool", "poolmanager", "proxy_poolmanager", "chunked_transfer",
        )),
        "test/contrib/test_socks.py",
    ],
    # These ask the network for addresses that nobody has.
    left_out=["source_address_error", "connect_timeout", "total_applies_connect"],
    expected={
        "test_default_queuecls_uses_current_lifoqueue": QUEUE_CLASS,
        "test_queuecls_override_is_preserved": QUEUE_CLASS,
        "test_for_double_release": DROPPED,
        "test_release_conn_parameter": DROPPED,
    },
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(URLLIB3))
