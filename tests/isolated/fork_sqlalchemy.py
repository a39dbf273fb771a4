"""A child of fork opens connections of its own; what its parent had lent it can only drop."""

import os
import sys
import tempfile
import warnings

try:
    from sqlalchemy import create_engine, event, text
except ImportError:
    sys.exit(0)

from fastpool.contrib.sqlalchemy import FastQueuePool

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads

made = []
with tempfile.TemporaryDirectory() as folder:
    engine = create_engine(
        f"sqlite:///{folder}/base", poolclass=FastQueuePool, pool_size=2, max_overflow=0
    )
    event.listen(engine, "connect", lambda connection, record: made.append(id(connection)))
    lent, idle = engine.connect(), engine.connect()
    idle.close()
    before = list(made)

    child = os.fork()
    if not child:
        code = 1
        try:
            with engine.connect() as one, engine.connect() as two:  # there are two slots again
                assert one.execute(text("select 1")).scalar() == 1
                assert two.execute(text("select 2")).scalar() == 2
            assert len(made) == 4 and made[:2] == before
            lent.close()
            assert engine.pool.checkedin() == 2 and engine.pool.checkedout() == 0
            engine.dispose()
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    assert lent.execute(text("select 3")).scalar() == 3
    lent.close()
    with engine.connect() as again:
        assert again.execute(text("select 4")).scalar() == 4
    assert made == before
    engine.dispose()
    assert engine.pool.checkedout() == 0
