"""database: a child that lets its parent's transaction go undoes half of it, under the parent's hands."""

import os
import sqlite3
import tempfile

from show import in_child

folder = tempfile.TemporaryDirectory()
path = os.path.join(folder.name, "data.db")
db = sqlite3.connect(path)
db.execute("pragma cache_size = 1")  # so that a transaction reaches the file before it is committed
db.execute("create table t (number, text)")


def insert(numbers):
    db.executemany("insert into t values (?, ?)", [(n, "x" * 500) for n in numbers])


insert(range(1000))
db.commit()
insert(range(1000, 2000))  # the transaction is open
in_child(db.close)  # as any child does that ends in the ordinary way
insert(range(2000, 3000))
try:
    db.commit()
    print("the parent commits")
except sqlite3.OperationalError as error:
    print("the parent commits:", error)
try:
    rows = sqlite3.connect(path).execute("select count(*), count(distinct number) from t").fetchone()
    problems = sqlite3.connect(path).execute("pragma integrity_check").fetchone()[0]
    print("in the file are", rows[0], "rows; sqlite's own check says:", problems.splitlines()[-1])
except sqlite3.DatabaseError as error:
    print("the file:", error)
