"""Load as users make it, with Locust: `make loadtest`, `make soak`, or `locust -f loadtests/locust/locustfile.py`.

`users` says who asks what, `client` how, `checks` what a right answer is, `shapes` how many ask at a time, `limits`
what must hold; `hooks` ties them to Locust. `__main__` starts clouds and router around it and `outage` breaks them.
"""
