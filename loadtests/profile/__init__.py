"""What each microsecond of a request is spent on: samples of the running router, told by phase and by function.

The router runs as in the benchmark, alone on its core, while wrk keeps it busy. CPU a request is measured without the
profiler; py-spy then says what share of the samples each line had. It stops the process for each sample, so a line's
share is right though everything is slower. The kernel's part shows at the line that called it; `perf`, where it is
there, says how large it is.
"""
