"""The real libraries that have hurt people: what each leaves behind must be found, and those that are safe must not be
called unsafe. All in a venv of their own."""

import os
import re
import subprocess

import pytest
from audit_harness import ROOT, of, run, unsafe
from conftest import make_venv

pytestmark = pytest.mark.timeout(300, func_only=True)  # the venv is made by whoever comes first

# name: (code, severity, what the library's name or path must have in it, program)
HAZARDS = {
    "grpcio channel": ("socket", "unsafe", "grpc", """
import grpc
channel = grpc.insecure_channel("127.0.0.1:1")
"""),
    "grpcio threads": ("native-thread", "info", "grpc", """
import grpc
channel = grpc.insecure_channel("127.0.0.1:1")
try: channel.unary_unary("/a/b")(b"", timeout=0.2)
except grpc.RpcError: pass
"""),
    "librdkafka producer": ("native-thread", "unsafe", "rdkafka", """
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
"""),
    "ZeroMQ context": ("native-thread", "unsafe", "zeromq", """
import zmq
context = zmq.Context(); push = context.socket(zmq.PUSH)
"""),
    "pymongo client": ("database", "unsafe", "MongoClient", """
import pymongo
client = pymongo.MongoClient("127.0.0.1", 1, serverSelectionTimeoutMS=100)
try: client.admin.command("ping")
except pymongo.errors.ServerSelectionTimeoutError: pass
"""),
    "pymongo threads": ("thread", "unsafe", "pymongo_server_monitor", """
import pymongo
client = pymongo.MongoClient("127.0.0.1", 1, serverSelectionTimeoutMS=100)
try: client.admin.command("ping")
except pymongo.errors.ServerSelectionTimeoutError: pass
"""),
    "fsspec's loop thread": ("thread", "unsafe", "fsspecIO", """
import fsspec.asyn
loop = fsspec.asyn.get_loop()
"""),
    "fsspec's loop": ("event-loop", "unsafe", "another thread", """
import fsspec.asyn
loop = fsspec.asyn.get_loop()
"""),
    "OpenMP after first use": ("native-thread", "unsafe", "libgomp", """
import numpy
from sklearn.cluster import KMeans
KMeans(2, n_init=1).fit(numpy.random.rand(5000, 4))
"""),
    "OpenCV": ("native-thread", "unsafe", "opencv", """
import cv2, numpy
cv2.setNumThreads(4)
for _ in range(3): cv2.GaussianBlur(numpy.random.rand(2000, 2000).astype("f4"), (31, 31), 0)
"""),
    "polars": ("native-thread", "unsafe", "polars", """
import polars
polars.DataFrame({"a": range(100000)}).group_by("a").len()
"""),
    "duckdb threads": ("native-thread", "unsafe", "duckdb", """
import duckdb
db = duckdb.connect(); db.execute("set threads = 4")
db.execute("select sum(i) from range(1000000) t(i)").fetchall()
"""),
    "duckdb": ("database", "unsafe", "DuckDBPyConnection", """
import duckdb
db = duckdb.connect()
"""),
    "tokenizers": ("native-thread", "warning", "tokenizers", """
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
words = Tokenizer(models.WordLevel(unk_token="u")); words.pre_tokenizer = pre_tokenizers.Whitespace()
words.train_from_iterator(["a b c"] * 100, trainers.WordLevelTrainer(special_tokens=["u"]))
words.encode_batch(["a b c d"] * 10000)
"""),
    "loguru with enqueue": ("thread", "unsafe", "loguru-writer", """
from loguru import logger
logger.add(sys.stderr, enqueue=True)
"""),
    "OpenTelemetry span exporter": ("thread", "info", "Otel", """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
provider = TracerProvider(); provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
"""),
    "OpenTelemetry metric exporter": ("thread", "info", "Otel", """
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
provider = MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())])
"""),
    "multiprocessing.Queue feeder": ("thread", "unsafe", "QueueFeederThread", """
import multiprocessing
queue = multiprocessing.Queue(); queue.put(1)
"""),
    "gevent's thread pool": ("thread", "unsafe", "gevent", """
import gevent
gevent.get_hub().threadpool.spawn(int).get()
"""),
    "gevent's hub": ("event-loop", "warning", "gevent", """
import gevent
gevent.sleep(0)
"""),
    "uvloop": ("event-loop", "warning", "uvloop.Loop", """
import uvloop
loop = uvloop.new_event_loop()
"""),
    "APScheduler": ("thread", "unsafe", "APScheduler", """
from apscheduler.schedulers.background import BackgroundScheduler
scheduler = BackgroundScheduler(); scheduler.start()
"""),
    "SQLAlchemy pool": ("database", "unsafe", "sqlalchemy.pool", """
import sqlalchemy, tempfile
file = tempfile.NamedTemporaryFile(); engine = sqlalchemy.create_engine("sqlite:///" + file.name)
with engine.connect() as connection: connection.execute(sqlalchemy.text("create table t (a)"))
report = warmfork.audit(); file.close(); tell(report)
"""),
    "boto3 session": ("socket", "unsafe", "botocore", """
import boto3, http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"<ListAllMyBucketsResult/>"
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
read, write = os.pipe()
server = os.fork()
if server == 0:
    http_server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    os.write(write, str(http_server.server_port).encode()); http_server.handle_request(); os._exit(0)
url = "http://127.0.0.1:" + os.read(read, 9).decode()
session = boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
client = session.client("s3", endpoint_url=url); client.list_buckets()
report = warmfork.audit(); os.kill(server, 9); os.waitpid(server, 0); tell(report)
"""),
    "numpy's legacy generator": ("random-state", "warning", "numpy.random.mtrand._rand", "import numpy.random\n"),
}  # fmt: skip


# Pools spin for a while after their work; a busy thread shows no library, and this machine may be a busy one.
IDLE = """
import os, time
def busy():
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/syscall") as file:
            if int(task) != os.getpid() and file.read().startswith("running"): return True
deadline = time.monotonic() + 60
while busy():
    assert time.monotonic() < deadline
    time.sleep(0.01)
"""


def need(python, program):
    """Skips what the sample of libraries does not have."""
    names = sorted(set(re.findall(r"^(?:import|from) (\w+)", program, re.MULTILINE)))
    look = "import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if u.find_spec(n) is None])"
    done = subprocess.run([python, "-c", look, *names], capture_output=True, text=True, check=True)
    if done.stdout.strip():
        pytest.skip(f"make soak: {done.stdout.strip()} is not in the sample")


@pytest.mark.parametrize("name", HAZARDS)
def test_found(libraries, name):
    code, severity, told, program = HAZARDS[name]
    need(libraries, program)
    report = run(libraries, f"{program}\n{IDLE}\ntell()\n", timeout=200)
    found = [f for f in of(report, code) if f["severity"] == severity and told in str(f)]
    assert found, "\n".join(map(str, report["findings"]))


CLEAN = {
    "numpy": "import numpy\n",
    "numpy after use": "import numpy\nnumpy.random.rand(500, 500) @ numpy.random.rand(500, 500)\n",
    "pandas": "import pandas\npandas.DataFrame({'a': [1]}).describe()\n",
    "scikit-learn": "import sklearn.ensemble, sklearn.linear_model\n",
    "matplotlib": "import matplotlib; matplotlib.use('Agg')\nimport matplotlib.pyplot as p\np.plot([1, 2]); p.close()\n",
    "Django, set up": """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
                   DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})
django.setup()
from django.contrib.auth.models import User
""",
    "Flask app": "import flask\napp = flask.Flask('app')\n@app.route('/')\ndef index(): return 'hello'\n",
    "boto3 client, not connected": "import boto3\nclient = boto3.client('s3', region_name='us-east-1', "
                                   "aws_access_key_id='a', aws_secret_access_key='b')\n",
    "duckdb, imported": "import duckdb\n",
    "grpc, imported": "import grpc\n",
    "grpcio channel, closed": "import grpc\nchannel = grpc.insecure_channel('127.0.0.1:1'); channel.close()\n",
    "duckdb, closed": "import duckdb\ndb = duckdb.connect(); db.close()\n",
    "SQLAlchemy engine, disposed": """
import sqlalchemy, tempfile
folder = tempfile.TemporaryDirectory(); engine = sqlalchemy.create_engine(f"sqlite:///{folder.name}/data")
with engine.connect() as connection: connection.execute(sqlalchemy.text("create table t (a)"))
engine.dispose(); report = warmfork.audit(); folder.cleanup(); tell(report)
""",
    "loguru, without enqueue": "from loguru import logger\nlogger.info('hello')\n",
    "uvloop, closed": "import asyncio, uvloop\nuvloop.run(asyncio.sleep(0))\n",
    "celery app": "import celery\napp = celery.Celery('app', broker='memory://')\n@app.task\ndef add(a, b): return a + b\n",
}


@pytest.mark.parametrize("name", CLEAN)
def test_clean(libraries, name):
    need(libraries, CLEAN[name])
    report = run(libraries, CLEAN[name] + "\ntell()\n", timeout=200)
    assert not unsafe(report) and report["safe"]


@pytest.mark.skipif(not os.environ.get("WARMFORK_AUDIT_TORCH"), reason="make soak: torch takes gigabytes to install")
def test_torch_after_an_operation():
    """Its CPU build, too, hangs in children once it has used its threads."""
    torch = make_venv(ROOT / "tests/audit/requirements-torch.txt")
    program = "import torch\ntorch.set_num_threads(4)\n(torch.rand(1000, 1000) @ torch.rand(1000, 1000)).sum()\ntell()\n"
    report = run(torch, program, timeout=250)
    assert [f for f in of(report, "native-thread") if f["severity"] == "unsafe"], report["findings"]
    assert any("torch" in f["message"] for f in of(report, "random-state"))
