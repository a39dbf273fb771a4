"""For pytest, by `-p`: in SQLAlchemy's own tests QueuePool and AsyncAdaptedQueuePool are ours."""

import sqlalchemy
import sqlalchemy.pool
import sqlalchemy.pool.impl

from fastpool.contrib.sqlalchemy import AsyncFastQueuePool, FastQueuePool

for module in (sqlalchemy, sqlalchemy.pool, sqlalchemy.pool.impl):
    module.QueuePool = FastQueuePool
    module.AsyncAdaptedQueuePool = AsyncFastQueuePool
