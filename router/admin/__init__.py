"""The control plane: health, state, metrics and the few verbs that change a running router.

It asks and tells a `ControlledRouter` and knows nothing of how requests are served.
"""
