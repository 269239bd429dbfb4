"""From the names that people know (a key's, a model's or its alias's) to the plan that a request would get."""

from collections.abc import Iterable, Mapping

from router.config.allowances import as_written
from router.config.faults import suggest
from router.config.snapshot import Snapshot
from router.model.limits import UNLIMITED
from router.model.operation import CHAT, OPERATIONS
from router.placement import explain, make_plan, written


class UnknownNameError(LookupError):
    """A name that the configuration does not have. Its text names what is near."""


def explain_request(
    snapshot: Snapshot, key_name: str, model: str, operation: str = "", refusals: Mapping[str, str] | None = None
) -> dict[str, object]:
    """What would become of a request, as plain JSON values; `explain` of placement says what of them means what.

    `operation`, where it is empty, is chat if the model is served for that, else the first it is served for.
    `allowed`: whether the key may use the model; where it may not, its requests are answered 404 and sent nowhere.
    `limits`: what its key, all keys of its workload and all who ask for the model may use; empty: anything.
    Raises UnknownNameError.
    """
    key = next((each for each in snapshot.keys.values() if each.name == key_name), None)
    if key is None:
        raise _no_key(snapshot, key_name)
    fleet = tuple(snapshot.deployments.values())
    canonical = snapshot.aliases.get(model, model)
    models = dict.fromkeys(deployment.model for deployment in fleet)
    if canonical not in models:
        raise _unknown("model", model, (*models, *snapshot.aliases))
    if operation and operation not in OPERATIONS:
        raise _unknown("operation", operation, OPERATIONS)
    served = {name for each in fleet if each.model == canonical for name in each.operations}
    operation = operation or next(name for name in (CHAT.name, *OPERATIONS) if name in served)
    workload = snapshot.workloads[key.workload]
    plan = make_plan(workload.permit, workload.period.rule, canonical, operation, fleet)
    return {
        "config_version": snapshot.version,
        "key": key.name,
        "workload": workload.name,
        "asked": model,
        "model": canonical,
        "operation": operation,
        "allowed": key.may_use(canonical),
        "limits": {
            "key": as_written(key.limits),
            "workload": as_written(workload.limits),
            "model": as_written(snapshot.model_limits.get(canonical, UNLIMITED)),
        },
        **explain(plan, workload.period, workload.schedule, refusals),
    }


def _no_key(snapshot: Snapshot, name: str) -> UnknownNameError:
    ended = [key.expires_at for key in (*snapshot.file_keys, *snapshot.stored_keys) if key.name == name]
    if ended:
        return UnknownNameError(f"the key {name!r} has ended at {written(max(ended))}")
    return _unknown("key", name, {key.name for key in snapshot.keys.values()})


def _unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    names = sorted(known)
    hint = suggest(name, names) or f"; there is {', '.join(names)}" if names else "; there is none"
    return UnknownNameError(f"no {kind} is named {name!r}{hint}")
