"""redis-py's own tests of pools with our pools in the place of its own.

    python tools/hosts_redis.py [--stock] [--all]

in an environment with redis-py, pytest and fastpool.  The tests come from the source distribution
of the version that is installed.  A failure that EXPECTED does not name makes the exit code 1, as
does one that it names and that passes.  --stock: redis-py's own pools, as a control.  --all: also
the tests of pipelines, messages, Sentinel, forks, maintenance notices and the client-side cache.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import servers
from bench.measure import NotRun
from suites import Outcome, all_failed, installed, run, source, told

FILES = [
    "tests/test_connection_pool.py",
    "tests/test_max_connections_error.py",
    "tests/test_asyncio/test_connection_pool.py",
]
MORE = [
    "tests/maint_notifications/test_async_maint_notifications_handling.py",
    "tests/maint_notifications/test_maint_notifications.py",
    "tests/maint_notifications/test_maint_notifications_handling.py",
    "tests/test_cache.py",
    "tests/test_multiprocessing.py",
    "tests/test_pipeline.py",
    "tests/test_pubsub.py",
    "tests/test_sentinel.py",
    "tests/test_asyncio/test_pipeline.py",
    "tests/test_asyncio/test_sentinel.py",
]
PORT = 6379  # three of the tests connect there whatever they are told
NEEDS = "pytest-asyncio>=0.24"
RECORDER = "replaces redis-py's recorder, which is asked only while OpenTelemetry is on"
#: What fails, and why.  By the name of the test function.
EXPECTED = {
    "test_connection_pool_records_create_time_on_new_connection": RECORDER,
    "test_blocking_connection_pool_records_create_time_and_wait_time": RECORDER,
    "test_blocking_connection_pool_records_only_wait_time_for_existing_connection": RECORDER,
}
INSIDE = "puts connections of its own, mostly mocks, into private lists of the host's pool"
QUEUE = "reads the host's private queue: pool.pool"
#: The same of MORE.
EXPECTED_OF_MORE = {
    "test_async_pool_update_config_wires_existing_connections": INSIDE,
    "test_async_pool_update_oss_handler_wires_existing_connections": INSIDE,
    "test_async_update_config_on_oss_pool_updates_oss_handler": INSIDE,
    "test_async_pool_applies_and_cleans_up_moving_notification": INSIDE,
    "test_async_pool_moving_with_disabled_relaxed_timeout_preserves_timeouts": INSIDE,
    "test_async_migrated_after_moving_does_not_clear_moving_state": INSIDE,
    "test_async_overlapping_moving_cleanup_only_reverts_latest_notification": INSIDE,
    "test_async_moving_without_target_marks_for_reconnect_on_delayed_run": INSIDE,
    "test_async_moving_notifications_only_update_matching_address_connections": INSIDE,
    "test_async_moving_migrating_migrated_failed_over_state_transitions": INSIDE,
    "test_async_concurrent_moving_notification_handling_is_deduplicated": INSIDE,
    "test_blocking_pool_locks_get_only_during_maintenance": INSIDE,
    "test_update_oss_handler_wires_existing_connections": INSIDE,
    "test_update_config_on_oss_pool_updates_oss_handler": INSIDE,
    "test_pool_get_connection_handles_pending_push_after_reconnect": INSIDE,
    "test_moving_related_notifications_handling_integration": QUEUE,
    "test_moving_none_notifications_handling_integration": QUEUE,
    "test_overlapping_moving_notifications": QUEUE,
    "test_moving_migrating_migrated_moved_state_transitions": QUEUE,
}

#: Of MORE, what asks for a cluster, or for sentinels at fixed ports: not run.
ELSEWHERE = [
    "shard_channel", "pubsub_shard", "generator_handles_concurrent_mapping_changes",
    "test_get_sentinels", "test_get_master_addr_by_name", "test_redis_master_usage",
    "test_sentinel_commands_with_strict_redis_client",
    "test_himport_prepare_set_survives_reconnect",
]  # fmt: skip


@contextmanager
def server() -> Iterator[int]:
    """Of our own, at the port of the tests if nobody has it, with the commands that they use."""
    try:
        with servers.redis("--enable-debug-command", "yes", port=PORT) as port:
            yield port
    except NotRun:
        with servers.redis("--enable-debug-command", "yes") as port:
            yield port


def tested(tests: Path, needs: Path, files: list[str], stock: bool) -> Outcome:
    """These files, before a server of their own."""
    with server() as port:
        return run(
            tests, files, "--timeout=120", "-o", "addopts=",
            f"--redis-url=redis://127.0.0.1:{port}/0", "-k", f"not ({' or '.join(ELSEWHERE)})",
            *([] if stock else ["-p", "hosts_redis_plugin"]), path=[needs],
        )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stock", action="store_true", help="redis-py's own pools")
    parser.add_argument("--all", action="store_true", help="more of its tests")
    asked = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="fastpool-hosts-") as name:
            (folder := Path(name, "source")).mkdir()
            tests = source("redis", folder)
            shutil.rmtree(tests / "redis")  # the installed one is tested
            needs = installed(NEEDS)
            outcome = tested(tests, needs, FILES + (MORE if asked.all else []), asked.stock)
    except NotRun as reason:
        print(f"redis-py: NOT RUN: {reason}")
        return 0
    which = "its own pools" if asked.stock else "our pools"
    expected = {} if asked.stock else EXPECTED | (EXPECTED_OF_MORE if asked.all else {})
    good = told(f"redis-py {metadata.version('redis')}, {which}", outcome, expected)
    good &= all_failed([outcome], expected)
    return 0 if good or asked.stock else 1


if __name__ == "__main__":
    sys.exit(main())
