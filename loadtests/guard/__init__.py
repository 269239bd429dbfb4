"""The regression guard: what a request costs, counted and not timed, so that a busy machine says the same.

Two counts: the opcodes that Python executes, which need nothing but Python and repeat exactly, and the instructions of
the whole process under valgrind, which see C code too. Neither is CPU time; `make bench` measures that.
"""
