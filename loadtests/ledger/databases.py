"""A PostgreSQL for a measurement, with the settings that Debian's package starts with."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgres() -> Iterator[str]:
    """Its URL, while it runs. Raises FileNotFoundError where there is none on this machine."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        raise FileNotFoundError("there is no PostgreSQL here: apt-get install postgresql")
    # It refuses to run as root.
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="ledger-pg-"))
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    data, quiet = str(folder / "data"), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    subprocess.run(
        [*as_user, str(programs[-1] / "initdb"), "--auth=trust", "--username=postgres", "-D", data],
        check=True,
        **quiet,  # type: ignore[call-overload]
    )
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}"]
    server = subprocess.Popen([*as_user, str(programs[-1] / "postgres"), "-D", data, *options], **quiet)  # type: ignore[call-overload]
    try:
        ready = [str(programs[-1] / "pg_isready"), "-q", "-h", str(folder)]
        while subprocess.run(ready, check=False).returncode:
            if server.poll() is not None:
                raise RuntimeError("PostgreSQL did not start")
            time.sleep(0.05)
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)
