"""stamina tries again, from outside; the policy inside bounds each try and what there is at once.

pip install stamina
python examples/calls_stamina.py
"""

import asyncio
import logging

import stamina

from fastpool.calls import CallPolicy, DeadlineExceeded, Limit

policy = CallPolicy(timeout=0.05, limit=Limit(4))  # seconds for one try: stamina makes the others


def worth_it(error: Exception) -> bool:
    """What was cut off or broke off is; what was refused here would be refused again."""
    return isinstance(error, (ConnectionError, DeadlineExceeded))


class Server:
    """Every first question hangs, every second one is answered."""

    def __init__(self) -> None:
        self.asked = self.busy = self.busiest = 0

    async def answer(self, question: int) -> int:
        self.asked += 1
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            if self.asked % 2:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            return 2 * question
        finally:
            self.busy -= 1


async def main() -> None:
    logging.getLogger("stamina").setLevel(logging.ERROR)  # it reports each retry
    server = Server()

    @stamina.retry(on=worth_it, attempts=50, timeout=30, wait_initial=0.001, wait_max=0.01)
    @policy
    async def ask(question: int) -> int:
        return await server.answer(question)

    answers = await asyncio.gather(*(ask(number) for number in range(20)))
    assert answers == [2 * number for number in range(20)]
    print(f"{len(answers)} answers, {server.busiest} questions at once")
    print(f"some were asked again: {server.asked > 20}")


if __name__ == "__main__":
    asyncio.run(main())
