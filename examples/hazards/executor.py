"""executor: the pool believes in workers that do not exist in a child."""

from concurrent.futures import ThreadPoolExecutor

from show import in_child

pool = ThreadPoolExecutor(max_workers=1)
print("in the process:", pool.submit(pow, 2, 10).result())
print("in a child:", in_child(lambda: pool.submit(pow, 2, 10).result()))
