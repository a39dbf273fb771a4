"""tenacity decides when to try again; the policy inside keeps the time, the breaker and the limit.

pip install tenacity
python examples/calls_tenacity.py
"""

import logging
import sys
from collections.abc import Iterator

from tenacity import RetryCallState, retry, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_random_exponential

from fastpool.calls import CallPolicy, CircuitBreaker, CircuitOpen, Limit

breaker = CircuitBreaker("stock", min_calls=4, open_for=0.2)
policy = CallPolicy(timeout=1.0, breaker=breaker, limit=Limit(10))

jittered = wait_random_exponential(multiplier=0.001, max=0.01)


def wait(state: RetryCallState) -> float:
    """As tenacity would; but when the breaker is open, until it lets a probe through."""
    assert state.outcome is not None
    error = state.outcome.exception()
    return error.retry_after + 0.01 if isinstance(error, CircuitOpen) else jittered(state)


def answers() -> Iterator[Exception | int]:
    """What the server says: down for four calls, then up."""
    yield from [ConnectionResetError("down")] * 4
    while True:
        yield 42


server = answers()
sent = 0


# Reading the stock does no harm, however often it is done.
@retry(
    retry=retry_if_exception_type((ConnectionError, CircuitOpen)),
    wait=wait,
    stop=stop_after_delay(10),
    reraise=True,
)
@policy
def stock(article: str) -> int:
    global sent
    sent += 1
    answer = next(server)
    if isinstance(answer, Exception):
        raise answer
    return answer


def main() -> None:
    logging.basicConfig(stream=sys.stdout, format="%(message)s")  # the breaker says what it does
    print(f"stock: {stock('tea')}, sent {sent} times, breaker {breaker.state}")
    print(f"refused meanwhile: {policy.stats().refused}, opened: {breaker.stats().opened}")


if __name__ == "__main__":
    main()
