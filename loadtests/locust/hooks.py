"""What ties the load test to Locust: options, the guard, the shape, the progress line, the verdict."""

# mypy: disable-error-code="no-untyped-call"

import sys
import time
from argparse import Namespace
from collections import deque
from pathlib import Path
from typing import Any, Final

import flask
import gevent  # type: ignore[import-untyped]
import orjson
from locust import LoadTestShape, runners
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner
from locust.stats import RequestStats

from loadtests.locust import limits
from loadtests.locust.checks import WrongAnswerError
from loadtests.locust.host import why_not
from loadtests.locust.limits import Figures, Statistic
from loadtests.locust.shapes import SHAPES, Plan, Totals, plan
from loadtests.locust.summary import summary, with_verdicts

USERS: Final = 20
SECONDS: Final = 60
SPAWN_RATE: Final = 50.0
PROGRESS_S: Final = 1.0
PROGRESS_OF_S: Final = 5.0
REPORT_S: Final = 1.0
_ALLOWING: Final = "yes_i_may_load"


def add_options(parser: LocustArgumentParser) -> None:
    add = parser.add_argument
    key = {"is_secret": True, "include_in_web_ui": False, "default": ""}
    add(
        "--api-key",
        env_var="LOADTEST_API_KEY",
        help="Key of ApiUser and LeavingUser; better as $LOADTEST_API_KEY",
        **key,
    )
    add("--internal-key", env_var="LOADTEST_INTERNAL_KEY", help="Key of InternalUser; as $LOADTEST_INTERNAL_KEY", **key)
    add("--chat-model", env_var="LOADTEST_CHAT_MODEL", default="gpt-4o", help="Asked for chat and responses")
    add(
        "--embedding-model", env_var="LOADTEST_EMBEDDING_MODEL", default="text-embedding-3-small", help="For embeddings"
    )
    add("--think-s", type=float, default=0.3, help="Mean seconds between a user's requests, half to one and a half")
    add("--timeout-s", type=float, default=60.0, help="Longest silence of an answer, in seconds")
    add("--shape", choices=("none", *SHAPES), default="none", help="How many users there are: -u at most, for -t")
    add("--limits", default="", help="What must hold, in place of the shape's own: 'errors=0.01 TTFT.p99=2000'")
    add(
        "--yes-i-may-load",
        metavar="HOST",
        default="",
        help="Needed for any host but loopback",
        include_in_web_ui=False,
    )
    add("--summary", metavar="FILE", default="", help="Write figures and verdicts to FILE, as JSON")
    add("--progress", action="store_true", help="Say each second, in a line, how it goes")


class Test:
    """One run: what its events need to know of each other."""

    def __init__(self, environment: Environment, runner: Runner) -> None:
        self.environment, self.runner = environment, runner
        self.options: Namespace = environment.parsed_options or Namespace()
        self.leads = not isinstance(runner, WorkerRunner)
        # Cores that the busiest process of Locust takes now, and took at most.
        self.generator_cpu_now = self.generator_cpu = 0.0
        self.plan: Plan | None = None
        self.limits = self._limits()
        self._began = 0.0
        self._allowed: str = getattr(self.options, _ALLOWING)
        self.check_host()
        if self.leads and self.options.shape != "none":
            self._set_shape()

    def check_host(self) -> None:
        """Ends the program where the host may not be loaded."""
        # A worker is told by its master, whose page cannot change it.
        allowed = self._allowed if self.leads else getattr(self.options, _ALLOWING)
        if why := why_not(self.environment.host or "", allowed):
            sys.exit(why)

    def refuse_form(self) -> tuple[dict[str, object], int] | None:
        """Turns away a form of the web page that names a host which the command line does not allow.

        A run that is edited begins with no event; and any page that the operator's browser opens can send this form.
        """
        form = flask.request.form
        why = why_not(form.get("host", ""), self._allowed)
        if _ALLOWING in form:
            why = f"--{_ALLOWING.replace('_', '-')} is for the command line alone"
        return ({"success": False, "message": why, "host": self.environment.host}, 403) if why else None

    def watch(self) -> None:
        """Notes how busy Locust is, and says how it goes."""
        before = time.perf_counter(), time.process_time()
        seen: deque[Totals] = deque(maxlen=int(PROGRESS_OF_S / PROGRESS_S) + 1)
        while True:
            gevent.sleep(PROGRESS_S)
            now = time.perf_counter(), time.process_time()
            self.generator_cpu_now = self._busiest((now[1] - before[1]) / (now[0] - before[0]))
            before = now
            if self.runner.state not in ("running", "spawning"):
                continue
            self.generator_cpu = max(self.generator_cpu, self.generator_cpu_now)
            seen.append(totals(self.runner.stats))
            if self.options.progress:
                print(progress(self.runner, seen[-1].since(seen[0]), (len(seen) - 1) * PROGRESS_S), flush=True)

    def finish(self) -> None:
        """Judges, writes, and sets the exit code."""
        figures = self.figures()
        verdicts = limits.judged(self.limits, figures)
        kept = all(verdict.kept for verdict in verdicts)
        self.environment.process_exit_code = 0 if kept else 1
        for verdict in verdicts:
            print(f"{'kept  ' if verdict.kept else 'BROKEN'} {verdict.what:<24} {verdict.limit:>12}  {verdict.figure}")
        if self.options.summary:
            document = summary(self.options.shape, figures, verdicts, self.generator_cpu, self.plan)
            Path(self.options.summary).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        if self.options.html_file and (report := Path(self.options.html_file)).exists():
            report.write_text(with_verdicts(report.read_text("utf-8"), verdicts), "utf-8")

    def figures(self) -> Figures:
        stats = self.runner.stats
        rows = [
            Statistic(one.method or "", one.name, one.num_requests, one.num_failures, dict(one.response_times))
            for one in stats.entries.values()
        ]
        errors: dict[str, int] = {}
        for error in stats.errors.values():
            text = error.error if isinstance(error.error, str) else repr(error.error)
            errors[text] = errors.get(text, 0) + error.occurrences
        # A user's code that raised has judged nothing: what it was answered cannot count as right.
        for raised in self.runner.exceptions.values():
            errors[f"{WrongAnswerError.__name__}(a user raised {raised['msg']!r})"] = raised["count"]
        if self.plan is None:
            return Figures(rows, errors)
        return Figures(rows, errors, self.plan.windows, self.plan.knee)

    def _busiest(self, own: float) -> float:
        if isinstance(self.runner, MasterRunner):
            return max((client.cpu_usage for client in self.runner.clients.values()), default=0.0) / 100
        return own

    def _limits(self) -> dict[str, float]:
        try:
            own = self.options.limits
            return limits.read_limits(own) if own else dict(limits.LIMITS[self.options.shape])
        except limits.LimitsError as error:
            sys.exit(f"--limits: {error}")

    def _set_shape(self) -> None:
        test = self

        class Shape(LoadTestShape):
            use_common_options = True

            def reset_time(self) -> None:
                """Of each start: the web page can start again, with other numbers."""
                super().reset_time()
                options = test.options
                test.plan = plan(options.shape, options.num_users or USERS, options.run_time or SECONDS)

            def tick(self) -> tuple[int, float] | None:
                assert test.plan is not None
                users = test.plan.users(self.get_run_time(), totals(test.runner.stats), test.generator_cpu_now)
                return None if users is None else (users, max(SPAWN_RATE, users / 2))

        self.environment.shape_class = Shape()
        self.environment.shape_class.runner = self.runner


def start(environment: Environment, runner: Runner, **_: Any) -> None:
    """Of Locust's `init`: ends the program where it may not or cannot run."""
    # Windows of some seconds need figures that are not three seconds old, and a ramp a CPU figure of its own step.
    runners.WORKER_REPORT_INTERVAL, runners.CPU_MONITOR_INTERVAL = REPORT_S, REPORT_S
    test = Test(environment, runner)

    def check_host(**_: Any) -> None:  # it can be changed in the web page
        test.check_host()

    def finish(**_: Any) -> None:
        test.finish()

    environment.events.test_start.add_listener(check_host)
    if environment.web_ui is not None and environment.web_ui.app is not None:
        environment.web_ui.app.before_request(test.refuse_form)
    if test.leads:
        environment.events.quitting.add_listener(finish)
        gevent.spawn(test.watch)


def totals(stats: RequestStats) -> Totals:
    return Totals(stats.total.num_requests, stats.total.num_failures, dict(stats.total.response_times))


def progress(runner: Runner, recent: Totals, seconds: float) -> str:
    """One line. `recent`: what these last seconds brought."""
    p50, p99 = (limits.percentile(recent.times, share) or 0 for share in (0.5, 0.99))
    total = runner.stats.total
    return (
        f"{runner.user_count} users · {recent.requests / (seconds or 1):.0f} requests/s · p50 {p50:.0f} ms · "
        f"p99 {p99:.0f} ms · {total.num_failures} of {total.num_requests} failed"
    )
