"""Policy as data: how bad a hazard is, what to do about it, and which libraries are known.

What a caller passes to `warmfork.audit(policy=...)` goes over this. A key is a code, or `code:library`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

SEVERITY = {
    "thread": "unsafe",
    "native-thread": "unsafe",
    "native-thread:handled": "info",  # its own fork handlers ended it, or make it anew in the child
    "thread:handled": "info",
    "thread:green": "info",
    # It prints that it does without threads in the child from then on, and that works.
    "native-thread:tokenizers": "warning",
    "lock": "unsafe",
    "lock:alone": "warning",  # no thread but this one: it holds the lock itself, or nobody ever lets go
    "lock:reset": "info",  # made anew in the child by who owns it
    "event-loop": "unsafe",
    "event-loop:idle": "warning",
    "epoll": "warning",
    "executor": "unsafe",
    "executor:processes": "warning",
    "pending-signal": "unsafe",
    "signal-mask": "warning",
    "signal-wakeup-fd": "warning",
    "timer": "warning",
    "socket": "unsafe",
    "socket:listening": "info",  # what a pre-forking server is made of
    "socket:own": "info",
    "socket:inherited": "info",
    "socket:datagram": "info",
    "socket:unconnected": "info",
    "socket:client": "unsafe",
    "database": "unsafe",
    "database:memory": "info",  # a copy of its own for each child
    "file-lock": "warning",
    "unflushed-buffer": "warning",
    "shared-memory": "warning",
    "shared-memory:meant": "info",  # nothing else can be meant by it
    "child-process": "warning",
    "child-process:tracker": "info",
    "gpu": "unsafe",
    "gpu:drm": "warning",
    "io-uring": "unsafe",
    "inotify": "warning",
    "random-state": "warning",
    "env-snapshot": "info",
    "gc": "info",
    "gc:much": "warning",
    "atexit": "info",
    "privileged-fd": "warning",
    "unseen": "unsafe",
}

FIX = {
    "thread": "stop and join it before forking, or start it in each child",
    "native-thread": "do not use the library before forking; use it in each child",
    "lock": "release it before forking, or make it anew in each child (os.register_at_fork)",
    "event-loop": "close the loop before forking, and make a new one in each child",
    "epoll": "close it before forking: a child that changes its set changes the parent's",
    "executor": "shut it down before forking, and make a new one in each child",
    "pending-signal": "unblock and handle the signal before forking: the child does not get it",
    "signal-mask": "unblock it before forking, or in each child: children inherit the mask",
    "signal-wakeup-fd": "call signal.set_wakeup_fd(-1) in each child: its signals would wake up the parent",
    "timer": "set the timer in each child: it is not inherited",
    "socket": "close it before forking; connect in each child",
    "database": "close it before forking; connect in each child",
    "file-lock": "lock in each child: a POSIX lock is not inherited, and a flock is shared with the parent",
    "unflushed-buffer": "flush it before forking: each process would write the same bytes",
    "shared-memory": "map it in each child, unless sharing is what you want",
    "child-process": "wait for it before forking: only its own parent can",
    "gpu": "do not touch the GPU before forking, or start children with the spawn method",
    "io-uring": "make the ring in each child",
    "inotify": "watch in each child: an event is seen by whoever reads first",
    "random-state": "seed the generator in each child: they would all draw the same numbers",
    "env-snapshot": "read os.environ where the value is used, if children are to have values of their own",
    "gc": "gc.disable() before, gc.freeze() just before forking, gc.enable() in the child",
    "atexit": "end children with os._exit(), or unregister the callbacks in them",
    "privileged-fd": "close it before forking, or in each child that has no need of it",
    "unseen": "audit where /proc is mounted and readable; until then nothing is known",
}


class Library(NamedTuple):
    """How to recognise who owns a native thread."""

    name: str
    path: re.Pattern[str] | None  # of the library that the thread waits in
    comm: re.Pattern[str] | None  # the kernel's name of the thread
    fix: str


def _library(name: str, path: str | None, comm: str | None, fix: str) -> Library:
    return Library(name, re.compile(path) if path else None, re.compile(comm) if comm else None, fix)


LIBRARIES = (
    _library("openblas", r"openblas", None, "nothing to do: its fork handlers end and restart the threads"),
    _library(
        "libgomp",
        r"libgomp",
        None,
        "run no OpenMP code before forking (threadpoolctl.threadpool_limits(1), OMP_NUM_THREADS=1): GNU OpenMP "
        "hangs in children of a process that has used it",
    ),
    _library("libomp", r"lib(i)?omp", None, "run no OpenMP code before forking"),
    _library("mkl", r"libmkl", None, "run no MKL code before forking (MKL_NUM_THREADS=1)"),
    _library("tbb", r"libtbb", None, "run no TBB code before forking"),
    _library(
        "grpc",
        r"grpc|cygrpc",
        r"^(grpc|event_engine|timer_manager|resolver|lifeguard)",
        "close all channels before forking, and make them in each child",
    ),
    _library("librdkafka", r"rdkafka|confluent", r"^rdk:", "make producers and consumers in each child"),
    _library("zeromq", r"libzmq|/zmq/", r"^ZMQbg", "make the zmq.Context in each child"),
    _library("polars", r"polars", r"^(polars|async-executor)", "use polars in children only, or start them with spawn"),
    _library("duckdb", r"duckdb", None, "connect in each child"),
    _library(
        "tokenizers",
        r"tokenizers",
        None,
        "set TOKENIZERS_PARALLELISM=false, or use the tokenizer in each child only",
    ),
    _library("opencv", r"cv2|opencv", None, "call cv2.setNumThreads(0) before any operation"),
    _library("arrow", r"libarrow|pyarrow", None, "use pyarrow in each child only, or pyarrow.set_cpu_count(1)"),
    _library("torch", r"libtorch|libc10|/torch/", r"^pt_", "use torch in each child only, or torch.set_num_threads(1)"),
    _library("tensorflow", r"tensorflow", r"^tf_", "use tensorflow in children only"),
    _library("jax", r"jaxlib|xla_", None, "use jax in children only: it does not survive a fork"),
    _library("cuda", r"libcuda|libcudart", r"^cuda", "touch no GPU before forking"),
    _library("mongo", r"mongoc", None, "connect in each child"),
    _library("gevent", r"gevent", None, "start gevent's thread pool in each child"),
    _library("libuv", r"uvloop|libuv", r"^libuv", "make the loop in each child"),
    _library("io_uring", None, r"^iou-", "make the ring in each child"),
    _library("jemalloc", r"jemalloc", r"^jemalloc", "set MALLOC_CONF=background_thread:false"),
)

# Python threads, by the module of what they run.
THREAD_FIX = {
    "pymongo": "make the MongoClient in each child",
    "opentelemetry": "set up the provider in each child (gunicorn's post_fork, celery's worker_process_init)",
    "loguru": "add enqueue=True sinks in each child",
    "apscheduler": "start the scheduler in one process, after forking",
    "fsspec": "use the file system in children only, or call fsspec.asyn.reset_lock() and clear instances in each",
    "multiprocessing": "close and join the queue or pool before forking",
    "concurrent": "shut the executor down before forking, and make a new one in each child",
    "sentry_sdk": "call sentry_sdk.init() in each child",
    "ddtrace": "nothing to do where ddtrace restarts its threads; otherwise start the tracer in each child",
    "watchdog": "start the observer in each child",
    "gevent": "start gevent's thread pool in each child",
    "logging": "stop the QueueListener before forking, and start it in each child",
    "grpc": "close all channels before forking, and make them in each child",
}


class Kind(NamedTuple):
    """A class whose instances are looked for, and when one of them is a hazard."""

    name: str  # module:Class
    code: str
    is_open: Callable[[Any], object]  # a true value; a string among them says more
    fix: str = ""


def counted(count: int, thing: str) -> str:
    """`1 thread`, `2 threads`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _sqlalchemy(pool: Any) -> object:
    count = pool.checkedin() + pool.checkedout() if hasattr(pool, "checkedin") else 0
    return count and counted(count, "connection")


def _sqlite(connection: Any) -> object:
    connection.total_changes  # raises ProgrammingError when it is closed  # noqa: B018
    return True


def _mongo(client: Any) -> object:
    return getattr(client, "_opened", getattr(getattr(client, "_topology", None), "_opened", True))


def _pool(pool: Any) -> object:
    return getattr(pool, "_state", None) == "RUN" and counted(len(getattr(pool, "_pool", ())), "worker")


def _threads(executor: Any) -> object:
    alive = [t for t in getattr(executor, "_threads", ()) if t.is_alive()]
    return bool(alive) and not getattr(executor, "_shutdown", False) and counted(len(alive), "thread")


def _processes(executor: Any) -> object:
    running = getattr(executor, "_executor_manager_thread", None)
    return running is not None and counted(len(getattr(executor, "_processes", None) or ()), "worker")


def _duckdb(connection: Any) -> object:
    connection.query_progress()  # raises when it is closed
    return True


def _grpc(channel: Any) -> object:
    channel._channel.check_connectivity_state(False)  # raises when it is closed
    return True


_NEW_CLIENT = "make it in each child"
KINDS = (
    Kind("sqlite3:Connection", "database", _sqlite),
    Kind("psycopg2.extensions:connection", "database", lambda c: c.closed == 0),
    Kind("psycopg:BaseConnection", "database", lambda c: not c.closed),
    Kind("psycopg_pool.base:BasePool", "database", lambda p: not p.closed),
    Kind("pymysql.connections:Connection", "database", lambda c: c.open),
    Kind("MySQLdb.connections:Connection", "database", lambda c: c.open),
    Kind("mysql.connector.abstracts:MySQLConnectionAbstract", "database", lambda c: c._socket),
    Kind("mariadb:Connection", "database", lambda c: c.open),
    Kind("pyodbc:Connection", "database", lambda c: not c.closed),
    Kind("oracledb:Connection", "database", lambda c: c.is_healthy()),
    Kind("asyncpg.connection:Connection", "database", lambda c: not c.is_closed()),
    Kind("asyncpg.pool:Pool", "database", lambda p: not p._closed and p._initialized),
    Kind("redis.connection:AbstractConnection", "database", lambda c: c._sock),
    Kind("pymongo:MongoClient", "database", _mongo, _NEW_CLIENT),
    Kind("cassandra.cluster:Session", "database", lambda s: not s.is_shutdown, _NEW_CLIENT),
    Kind("sqlalchemy.pool:Pool", "database", _sqlalchemy, "call engine.dispose(close=False) in each child"),
    Kind("duckdb:DuckDBPyConnection", "database", _duckdb),
    Kind("lmdb:Environment", "database", lambda e: e.path(), "open it in each child: lmdb forbids forking"),
    Kind("h5py:File", "database", lambda f: f.id.valid, "open it in each child"),
    Kind("plyvel:DB", "database", lambda d: not d.closed),
    Kind("neo4j:Driver", "database", lambda d: not d._closed, _NEW_CLIENT),
    Kind("grpc._channel:Channel", "socket", _grpc, "close all channels before forking, and make them in each child"),
    Kind("concurrent.futures:ThreadPoolExecutor", "executor", _threads),
    Kind("concurrent.futures:ProcessPoolExecutor", "executor", _processes),
    Kind("multiprocessing.pool:Pool", "executor", _pool),
    Kind("asyncio:AbstractEventLoop", "event-loop", lambda loop: not loop.is_closed()),
    Kind("random:Random", "random-state", lambda r: True),
    Kind("numpy.random:Generator", "random-state", lambda r: True),
    Kind("numpy.random:RandomState", "random-state", lambda r: True),
)


def severity_of(code: str, case: str = "", policy: Mapping[str, str] | None = None) -> str:
    """How bad it is, `ignore` among the answers; the caller's policy first, the more special key first."""
    for table in (policy or {}, SEVERITY):
        for key in (f"{code}:{case}", code):
            if key in table:
                return table[key]
    return "unsafe"
