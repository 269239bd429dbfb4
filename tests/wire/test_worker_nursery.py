"""Later workers are copies of a process without a loop; each test runs one that asks for some, and says what came."""

import subprocess
import sys

START = """
import asyncio, os, signal, socket, time
from router.transport.listening import close_sockets, open_sockets
from router.supervisor.nursery import make_nursery

def become(index, line, listeners):
    channel = socket.socket(fileno=line)
    own = [socket.socket(fileno=each) for each in listeners]
    channel.sendall(f"{index} {len(own)} {own[0].getsockname()[1] == PORT}".encode())
    return len(channel.recv(10))

sockets = open_sockets("127.0.0.1", 0, 2)
PORT = sockets[0][0].getsockname()[1]
nursery = make_nursery(sockets, become)
"""


def said(program: str) -> list[str]:
    run = subprocess.run([sys.executable, "-c", START + program], capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_a_worker_gets_its_place_channel_and_listeners_and_its_end_is_told() -> None:
    program = """
async def main():
    for index in (1, 0):
        child, line = await nursery.bear(index, sockets[index])
        print(line.recv(100).decode(), child.returncode)
        line.sendall(b"abc"[: index + 1])
        print(await child.wait(), child.returncode)
        line.close()
    child, line = await nursery.bear(0, sockets[0])
    child.kill()
    print(await child.wait())
    child.kill()
    nursery.close()
asyncio.run(main())
"""
    assert said(program) == ["1 1 True None", "2 2", "0 1 True None", "1 1", "-9"]


def test_who_is_there_lives_on_without_it_and_nobody_new_comes() -> None:
    program = """
async def main():
    child, line = await nursery.bear(0, sockets[0])
    os.kill(nursery.pid, signal.SIGKILL)
    while nursery.alive:
        await asyncio.sleep(0.01)
    line.recv(100)
    line.sendall(b"x")
    print(await child.wait())
    try:
        await nursery.bear(0, sockets[0])
    except OSError:
        print("nobody")
asyncio.run(main())
"""
    assert said(program) == ["255", "nobody"]


def test_one_that_hangs_is_given_up() -> None:
    program = """
import router.supervisor.nursery as module
module.BIRTH_S = 0.2
async def main():
    os.kill(nursery.pid, signal.SIGSTOP)
    try:
        await nursery.bear(0, sockets[0])
    except TimeoutError:
        print("given up", nursery.alive)
asyncio.run(main())
"""
    assert said(program) == ["given up False"]


def test_it_ends_with_its_supervisor_and_holds_no_port() -> None:
    program = """
close_sockets(sockets)
for _ in range(100):
    try:
        socket.create_connection(("127.0.0.1", PORT), 1)
    except ConnectionRefusedError:
        print("refused")
        break
    time.sleep(0.05)  # it is a copy that has only begun, and closes them first
nursery.line.close()
print(os.waitstatus_to_exitcode(os.waitpid(nursery.pid, 0)[1]))
"""
    assert said(program) == ["refused", "0"]
