"""event-loop: the child of a coroutine has a loop that does not run, and tasks that never go on."""

import asyncio

from show import in_child


async def main():
    task = asyncio.create_task(asyncio.sleep(0.01, "done"))
    print("in a child:", in_child(asyncio.get_running_loop))
    print("in the process:", await task)


asyncio.run(main())
