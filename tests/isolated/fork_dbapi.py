"""A child of fork opens connections of its own, and sends nothing over those of its parent."""

import os
import sys
import warnings

from fastpool.contrib.dbapi import Pool
from integration.dbapi.recorded import Driver

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads

driver = Driver()
pool = Pool(driver, maxsize=3)
lent, idle = pool.connect(), pool.connect()
idle.close()
with pool.connect() as block:
    child = os.fork()
    if not child:
        code = 1
        try:
            with pool.connect() as one, pool.connect() as two, pool.connect() as three:
                assert {one.number, two.number, three.number} == {2, 3, 4}
            lent.close()
            block.__exit__(None, None, None)
            idle.close()
            assert driver.made[0].calls == [] and driver.made[1].calls == ["rollback"]
            assert driver.open() == [0, 1, 2, 3, 4] and pool.fastpool.stats().idle == 3
            assert pool.close()
            assert driver.open() == [0, 1]
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

assert driver.made[1].calls == ["rollback", "commit"]
lent.cursor().execute("select 1")
lent.close()
assert driver.made[0].calls == ["select 1", "rollback"]
with pool.connect() as again:
    assert again.number in (0, 1)
assert len(driver.made) == 2
assert pool.close() and driver.open() == []
