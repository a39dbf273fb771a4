"""A forked child of a program with a debug socket has one of its own; the parent's is its own."""

import json
import os
import tempfile
import warnings

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads
folder = tempfile.mkdtemp()
os.environ["XDG_RUNTIME_DIR"] = folder
os.environ["FASTPOOL_DEBUG_SOCKET"] = "1"

from fastpool import FastPool  # noqa: E402  the variable comes first
from fastpool.debug import serve  # noqa: E402
from fastpool.debug._address import parse  # noqa: E402


def pid_at(address: str) -> int:
    with parse(address).connected(60) as client, client.makefile("rb") as lines:
        client.sendall(b'{"get": "pools"}\n')
        seen = json.loads(lines.readline())
        assert [pool["name"] for pool in seen["pools"]] == ["both"], seen
        return seen["pid"]


def default(pid: int) -> str:
    return f"unix:{folder}/fastpool/{pid}.sock"


pool = FastPool(2, factory=object, name="both")
parent = os.getpid()
explicit = serve(f"unix:{folder}/s")
with serve("tcp:127.0.0.1:0", token="t") as tcp:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert pid_at(default(os.getpid())) == os.getpid()
            assert pid_at(f"unix:{folder}/s.{os.getpid()}") == os.getpid()
            assert explicit.address == f"unix:{folder}/s.{os.getpid()}"
            assert pid_at(default(parent)) == parent
            explicit.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert pid_at(default(parent)) == parent
assert pid_at(f"unix:{folder}/s") == parent
pool.close()
