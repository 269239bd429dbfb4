"""How the guard reads its counts and what it says of them."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from loadtests.bench.processes import BenchError
from loadtests.guard import baseline, launcher
from loadtests.guard.baseline import Finding
from loadtests.guard.counting import METHODS, Opcodes, read_callgrind
from loadtests.guard.scenes import Cost

OPCODES = Opcodes()

DUMP = """\
version: 1
positions: line
events: Ir
summary: 47

ob=(1) /usr/bin/python
fl=(1) ???
fn=(1) outer
0 10
+2 5
cfn=(2) inner
calls=3 0
0 900
cfn=(3) inner'2
calls=1 0
* 800

fn=(2)
0 20
-1 4

fn=(3)
0 8
"""


def finding(before: float, now: float, **now_by_function: float) -> Finding:
    return Finding(OPCODES, "json-1k", Cost(before, {"serve": before}), Cost(now, now_by_function or {"serve": now}))


class TestCallgrind:
    def test_a_functions_own_cost_leaves_out_what_it_calls(self) -> None:
        assert read_callgrind(DUMP) == Counter({"outer": 15, "inner": 32})

    def test_a_sum_that_is_not_the_summary_is_no_count(self) -> None:
        with pytest.raises(BenchError, match="says 48"):
            read_callgrind(DUMP.replace("47", "48"))


class TestFinding:
    @pytest.mark.parametrize(
        ("now", "grown", "stale"),
        [(1006.9, False, False), (1007.1, True, False), (905, False, False), (895, False, True)],
    )
    def test_growth_beyond_the_tolerance_is_told_from_noise_and_from_a_baseline_gone_stale(
        self, now: float, grown: bool, stale: bool
    ) -> None:
        found = finding(1000, now)
        assert (found.grown, found.stale) == (grown, stale)
        assert (len(found.lines()) > 1) == (grown or stale)

    def test_a_small_count_may_grow_by_a_timer(self) -> None:
        assert not finding(100, 102).grown
        assert finding(100, 103).grown

    def test_the_functions_that_changed_most_come_first(self) -> None:
        found = finding(1000, 1100, serve=1010, read=5, settle=85)
        assert [name for name, _ in found.changes()] == ["settle", "serve", "read"]
        assert found.lines()[1].split() == ["+85.0", "settle"]

    def test_a_function_that_is_gone_is_a_change(self) -> None:
        assert finding(1000, 400, place=400).changes() == [("serve", -1000), ("place", 400)]


class TestBaseline:
    def test_what_is_written_is_read_again(self, tmp_path: Path) -> None:
        file = tmp_path / "hot-path.json"
        baseline.write({OPCODES: {"json-1k": Cost(1000.0, {"serve": 900.0, "rare": 4.0})}}, file)
        assert baseline.read(file) == {"opcodes": {"json-1k": Cost(1000.0, {"serve": 900.0})}}

    def test_one_method_leaves_the_others_counts(self, tmp_path: Path) -> None:
        file = tmp_path / "hot-path.json"
        for method in METHODS:
            baseline.write({method: {"json-1k": Cost(7.0, {"serve": 7.0})}}, file)
        assert set(baseline.read(file)) == {method.name for method in METHODS}

    def test_instructions_of_another_build_are_not_compared_and_opcodes_are(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "hot-path.json"
        baseline.write({}, file)
        there = baseline.versions() | {"build": "3.11.99, another compiler"}
        monkeypatch.setattr(baseline, "versions", lambda: there)
        opcodes, instructions = METHODS
        assert baseline.differing(opcodes, file) == ""
        assert "another compiler" in baseline.differing(instructions, file)

    def test_each_scene_is_compared_with_itself(self) -> None:
        now = {"json-1k": Cost(2.0, {}), "new": Cost(9.0, {})}
        assert [found.scene for found in baseline.compared(OPCODES, {"json-1k": Cost(2.0, {})}, now)] == ["json-1k"]


COUNTED = """
import sys
sys.path.insert(0, sys.argv[2])
import runpy
counter = runpy.run_path(sys.argv[1], run_name="launcher")["OpcodeCounter"]()

def short():
    return 1

def long(n):
    total = 0
    for number in range(n):
        total += number

def play(n):
    long(n)
    short()

counter.begin()
for n in (10, 30):
    play(n)
    print(counter.take())
"""


def test_opcodes_are_counted_by_function_and_exactly(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(COUNTED)
    command = [sys.executable, "-P", str(program), launcher.__file__, str(tmp_path)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    ten, thirty = (Counter[str](eval(line)) for line in lines)
    assert ten["program.py:short"] == thirty["program.py:short"] == 2  # LOAD_CONST, RETURN_VALUE; a call is no opcode
    a_turn = (thirty["program.py:long"] - ten["program.py:long"]) / 20
    assert a_turn == 7  # FOR_ITER, STORE_FAST, LOAD_FAST, LOAD_FAST, BINARY_OP, STORE_FAST, JUMP_BACKWARD
