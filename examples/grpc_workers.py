"""A server of several processes: the channel is made once, before the workers are forked.

pip install 'fastpool[grpc]'
python examples/grpc_workers.py

Gunicorn does the same with `gunicorn --preload --workers 4`, if the channel is made at the top of a
module. The gRPC server runs in a process of its own here, since grpc forbids to fork one.
"""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable

from grpc_shared import METHOD, serve

from fastpool.grpc import shared, stats

WORKERS = 4


def work(greet: Callable[..., bytes]) -> bool:
    """What each worker does: call, by the stub that was made before the fork."""
    answers = [greet(b"%d" % number, timeout=10) for number in range(100)]
    (mine,) = stats()  # this process's own
    return answers[99] == b"hello 99" and mine.connections == 1


def main() -> None:
    # Python 3.12 and later warn of forks with threads about; gRPC's own are ready for it.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    with subprocess.Popen(
        [sys.executable, __file__, "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        target = server.stdout.readline().strip()
        with shared(target) as channel:
            greet = channel.unary_unary(METHOD)
            greet(b"parent", timeout=10)
            workers = []
            for _ in range(WORKERS):
                worker = os.fork()
                if not worker:
                    well = False
                    try:
                        well = work(greet)
                    finally:
                        os._exit(not well)
                workers.append(worker)
            well = [os.waitpid(worker, 0)[1] == 0 for worker in workers]
            print(f"workers that were answered: {sum(well)} of {WORKERS}")
            print(greet(b"parent, on the connection from before", timeout=10).decode())
        server.stdin.close()


def server_process() -> None:
    server, target = serve()
    print(target, flush=True)
    sys.stdin.read()  # until the parent has gone
    server.stop(None)


if __name__ == "__main__":
    server_process() if sys.argv[1:] == ["serve"] else main()
