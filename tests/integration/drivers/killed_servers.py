"""Real servers that tests kill: PostgreSQL, MariaDB, Redis, SSH, LDAP, HTTP.

Each has a folder of its own and a port of loopback that stays the same when it is started again.
One that is not installed is NotRun with the name of the Debian package that has it.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench import servers
from bench.measure import NotRun

SYSTEM = "/usr/sbin:/usr/local/sbin:/sbin"  # where Debian keeps servers; often not in a user's PATH


def program(name: str, package: str) -> str:
    """The path of a server's program."""
    found = shutil.which(name) or shutil.which(name, path=SYSTEM)
    if found is None:
        raise NotRun(f"{name} is not installed (Debian: apt-get install {package})")
    return found


class Server:
    """A child process that can be killed and started again; ready once its port answers."""

    user: str | None = None  # whom it runs as, where it refuses root

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = servers.free_port()
        self.process: subprocess.Popen[bytes]
        if os.geteuid() != 0:
            self.user = None
        elif self.user is not None:
            self.lend(folder, self.user)
        self.command = self.prepare()

    def lend(self, folder: Path, user: str) -> None:
        try:
            shutil.chown(folder, user, user)
        except LookupError:
            raise NotRun(f"{type(self).__name__} refuses root, and there is no user {user}")

    def prepare(self) -> list[str]:
        """What the server needs in its folder; the command line that runs it."""
        raise NotImplementedError

    def run(self, *command: str) -> None:
        """Run a program as the server's user, to its end."""
        done = subprocess.run(command, capture_output=True, text=True, user=self.user, cwd="/")
        if done.returncode:
            raise NotRun(f"{Path(command[0]).name} failed: {done.stderr.strip()[-200:]}")

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        with log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self.user,
                cwd="/", start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 40
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "log").read_text(errors="replace")[-300:]
                raise NotRun(f"{type(self).__name__} did not start: {said}")
            if self.answers():
                return
            time.sleep(0.02)

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def kill(self) -> None:
        """The process and its children, at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """For good."""
        self.kill()

    def restart(self) -> None:
        """Kills it, and starts it again on the same port."""
        self.kill()
        self.start()


class PostgreSQL(Server):
    """A cluster that trusts loopback; its user is postgres."""

    user = "postgres"

    def prepare(self) -> list[str]:
        programs = servers.postgresql_programs()
        data = str(self.folder / "data")
        self.run(
            str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"
        )  # fmt: skip
        settings = ["fsync=off", "deadlock_timeout=50ms", "shared_buffers=8MB"]
        options = [word for setting in settings for word in ("-c", setting)]
        where = ["-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        return [str(programs / "postgres"), "-D", data, *where, *options]

    def answers(self) -> bool:
        """Its port is open before it has recovered."""
        asks = [str(servers.postgresql_programs() / "pg_isready"), "-q", "-h", "127.0.0.1"]
        return subprocess.run([*asks, "-p", str(self.port)]).returncode == 0

    def kill(self) -> None:
        """Its children are sessions of their own, and end when their parent is gone."""
        super().kill()
        (self.folder / "data/postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """At once, clients or not, and with its children."""
        self.process.send_signal(signal.SIGQUIT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.kill()


class MariaDB(Server):
    """Without accounts: everybody is root."""

    user = "mysql"

    def prepare(self) -> list[str]:
        data = self.folder / "data"
        data.mkdir()
        if self.user:
            self.lend(data, self.user)
        return [
            program("mariadbd", "mariadb-server"), "--no-defaults", f"--datadir={data}",
            f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={data}/socket",
            "--skip-grant-tables", "--skip-log-bin", "--innodb-buffer-pool-size=8M",
            "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0",
        ]  # fmt: skip


class Redis(Server):
    """Keeps nothing on disk."""

    def prepare(self) -> list[str]:
        return [
            program("redis-server", "redis-server"), "--port", str(self.port), "--bind",
            "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.folder),
        ]  # fmt: skip


class SSH(Server):
    """Lets in whoever runs the tests, with ``key``."""

    def prepare(self) -> list[str]:
        sshd = program("sshd", "openssh-server")
        keygen = program("ssh-keygen", "openssh-client")
        self.login = getpass.getuser()
        self.key = self.folder / "key"
        for key in (self.key, self.folder / "host"):
            self.run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on it
        config = self.folder / "config"
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.folder}/host\n"
            f"AuthorizedKeysFile {self.folder}/key.pub\nPidFile none\nStrictModes no\n"
            "UsePAM no\nPermitRootLogin yes\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
        )
        return [sshd, "-D", "-e", "-f", str(config)]

    def kill(self) -> None:
        """Those who serve a connection are sessions of their own."""
        for pid in self.connections():
            os.kill(pid, signal.SIGKILL)
        super().kill()

    def connections(self) -> list[int]:
        """The processes that serve one each."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


class LDAP(Server):
    """An empty directory, ``dc=test``, whose ``admin`` has the password "secret"."""

    def prepare(self) -> list[str]:
        slapd = program("slapd", "slapd")
        (self.folder / "data").mkdir()
        config = self.folder / "config"
        config.write_text(
            "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n"
            f"pidfile {self.folder}/pid\ndatabase mdb\nsuffix dc=test\nrootdn cn=admin,dc=test\n"
            f"rootpw secret\ndirectory {self.folder}/data\ndbnosync\n"
        )
        return [slapd, "-d", "0", "-h", f"ldap://127.0.0.1:{self.port}", "-f", str(config)]


HTTP_SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        cut = self.path == "/cut"
        head = "HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % (20 if cut else 2)
        self.wfile.write(head.encode() + b"ok")
        self.close_connection = cut
    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class HTTP(Server):
    """The standard library's, which keeps connections open; ``/cut`` ends in mid-answer."""

    def prepare(self) -> list[str]:
        return [sys.executable, "-c", HTTP_SERVER, str(self.port)]


@contextmanager
def running(kind: type[Server]) -> Iterator[Server]:
    """A server of this kind until the block ends."""
    with tempfile.TemporaryDirectory(prefix="fastpool-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = kind(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
