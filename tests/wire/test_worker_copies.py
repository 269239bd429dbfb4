"""The first workers are copies of a process without a loop; each test runs one, which makes some and says what came."""

import subprocess
import sys
import textwrap

START = """
import asyncio, os, signal, socket, sys, threading, time
from router.supervisor.copies import make_copies
from router.transport.listening import open_sockets
sockets = open_sockets("127.0.0.1", 0, 2)
"""


def _said(program: str) -> list[str]:
    code = START + textwrap.dedent(program)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_a_copy_ends_with_its_own_status_and_without_the_ends_of_what_it_was_copied_from() -> None:
    said = _said("""
        import atexit
        atexit.register(print, "the end", os.getpid())
        print("not twice")
        def become(index, line, listeners):
            return 7 + index
        async def main():
            for copy in make_copies(sockets, become):
                print(await copy.wait(), copy.returncode)
        asyncio.run(main())
    """)
    assert said[:3] == ["not twice", "7 7", "8 8"]
    assert len(said) == 4


def test_how_a_copy_was_killed_is_told_as_of_any_process() -> None:
    said = _said("""
        def become(index, line, listeners):
            time.sleep(20.0)
            return 0
        async def main():
            first, second = make_copies(sockets, become)
            first.kill()
            os.kill(second.pid, signal.SIGTERM)  # for the supervisor alone
            print(await first.wait(), second.returncode)
            second.kill()
            print(await second.wait())
        asyncio.run(main())
    """)
    assert said == ["-9 None", "-9"]


def test_an_error_of_ours_is_shown_and_is_the_copys_alone() -> None:
    said = _said("""
        os.dup2(1, 2)
        def become(index, line, listeners):
            return 1 // index
        async def main():
            for copy in make_copies(sockets, become):
                print(await copy.wait())
        asyncio.run(main())
    """)
    assert any("ZeroDivisionError" in line for line in said)
    assert said[-2:] == ["1", "1"]


def test_a_copy_holds_its_own_listeners_alone_and_hears_when_the_supervisor_is_gone() -> None:
    """An end of a channel that another copy kept open would keep its worker for ever."""
    said = _said("""
        def become(index, line, listeners):
            mine = [os.readlink(f"/proc/self/fd/{fd}") for fd in (line, *listeners)]
            held = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2
                    and os.path.exists(f"/proc/self/fd/{fd}")]
            held = [what for what in held if what.startswith("socket:")]
            socket.socket(fileno=line).recv(1)  # ends at the end of all the supervisor's ends
            return 0 if sorted(held) == sorted(mine) else 5
        copies = make_copies(sockets, become)
        copies[0].line.close()
        async def main():
            print(await copies[0].wait(), copies[1].returncode)
            copies[1].line.close()
            print(await copies[1].wait())
        asyncio.run(main())
    """)
    assert said == ["0 None", "0"]


def test_where_a_thread_runs_nothing_is_copied() -> None:
    said = _said("""
        threading.Thread(target=time.sleep, args=(0.5,)).start()
        print(make_copies(sockets, lambda *_: 0))
    """)
    assert said == ["[]"]
