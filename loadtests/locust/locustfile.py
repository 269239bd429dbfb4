"""`locust -f loadtests/locust/locustfile.py --host http://127.0.0.1:8080`, in the folder of the checkout."""

# mypy: disable-error-code="no-untyped-call"

from locust import events

from loadtests.locust.hooks import add_options, start
from loadtests.locust.users import ApiUser, InternalUser, LeavingUser

__all__ = ["ApiUser", "InternalUser", "LeavingUser"]

events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(start)
