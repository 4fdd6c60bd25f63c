"""Behind PgBouncer in transaction mode, every transaction may get another session; skipped where it is not installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from batchkit.errors import RowsHeld, StoreUnavailable
from batchkit.store.engine import Store, TransactionLimits
from tests.factories import add_workload
from tests.flows.support import wait_until
from tests.surroundings.cut_postgres import CutPostgres

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
UPDATE = "UPDATE workloads SET created_at = created_at"

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed (apt-get install pgbouncer)")


def _free_port():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def pooled_url(postgres_url):
    """Start PgBouncer in front of the test's database, with fewer sessions than connections; yield the URL through it."""
    port = _free_port()
    with CutPostgres(postgres_url) as line, TemporaryDirectory() as name:
        folder = Path(name)
        url = make_url(line.url)
        users = folder / "users.txt"
        users.write_text('"postgres" ""\n')
        config = folder / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n{url.database} = host=127.0.0.1 port={url.port} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = any\nauth_file = {users}\npool_mode = transaction\n"
            "default_pool_size = 2\n"
        )
        # PgBouncer refuses to run as root.
        folder.chmod(0o755)
        assert PROGRAM is not None
        process = subprocess.Popen(
            [PROGRAM, "-u", "nobody", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

        def answers():
            with closing(socket.socket()) as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        try:
            assert wait_until(answers)
            yield url.set(port=port).render_as_string(hide_password=False)
        finally:
            process.terminate()
            process.wait()


def test_limits_and_statements_hold_from_transaction_to_transaction(pooled_url, postgres_url):
    """Prepared statements are found in every session, and limits belong to the transaction, not to the session."""
    limits = TransactionLimits(lock_seconds=0.3, idle_seconds=30, statement_seconds=1)
    store, direct = Store(pooled_url, limits=limits), Store(postgres_url)
    with store.write() as connection:
        add_workload(connection, "held")
    for _ in range(10):
        with store.read() as one, store.read() as two:
            for connection in (one, two):
                assert connection.execute(text("SELECT count(*) FROM workloads")).scalar_one() == 1
    with direct.write() as holder:
        holder.execute(text(UPDATE))
        with pytest.raises(RowsHeld, match="held by session"), store.write() as connection:
            connection.execute(text(UPDATE))
    with pytest.raises(StoreUnavailable, match="statement timeout"), store.write() as connection:
        connection.execute(text("SELECT pg_sleep(5)"))
    with store.read() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "0"
    store.close()
    direct.close()
