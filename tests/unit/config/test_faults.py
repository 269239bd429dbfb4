"""Each fault, with its line and path: the file is good but for one change."""

import pytest

from tests.unit.config.workbench import Workbench

KEY_A = "a" * 64
KEY_B = "b" * 64

# What is changed: into what, the path of the fault (E and O: the two endpoints), a part of its message, and what its
# line begins at where that is not the change itself.
CASES: dict[str, list[tuple[str, ...]]] = {
    "  body_bytes_max: 64MiB": [
        ("  body_byte_max: 64MiB", "server.body_byte_max", "did you mean 'body_bytes_max'?"),
    ],
    "    api_version: v1": [
        ("    colour: blue", "E.colour", "is not a known key"),
    ],
    "    region: eastus2": [
        ("    proxy: p:1", "E.proxy", "is no URL of a proxy"),
        ("    load: vllm", "E.load", "which the provider openai speaks to"),
        ("    load: ollama", "E.load", "'ollama' is not vllm, sglang or nim"),
        ("    probe: sometimes", "E.probe", "must be true or false"),
        ("    private: yes please", "E.private", "must be true or false"),
        ("    emulator: {seed: 1}", "E.emulator", "`emulated: true` alone"),
        ("    emulator: {head_ms: {mean: 3}}", "E.emulator.head_ms", "{median: number"),
        ("    ca_file: missing.pem", "E.ca_file", "cannot be read (No such file"),
    ],
    '{api_key: "${AZURE_KEY}"}': [
        ("{entra: {scope: x}}", "E.auth.entra", "does not say how: write one of managed_identity, client_secret"),
        ("none", "E.auth", "answers nobody without a credential"),
        ("{}", "E.auth", "{api_key: …}, {bearer: …} or none"),
        ("{api_key: x, bearer: y}", "E.auth", "has both"),
        ("{api_key: ''}", "E.auth.api_key", "is empty"),
        ('{api_key: "a\\r\\nb"}', "E.auth.api_key", "cannot have"),
        ('{api_key: "${UNSET_KEY}"}', "E.auth.api_key", "the environment variable UNSET_KEY is not set, or empty"),
        ('{api_key: "${UNSET-KEY}"}', "E.auth.api_key", "that is no reference"),
        ("{api_key: $AZURE_KEY}", "E.auth.api_key", "is no reference: write ${NAME}, with braces"),
        ('{api_key: "file:missing.txt"}', "E.auth.api_key", "cannot be read"),
    ],
    "    models: [gpt-4o]": [
        ("    limits: {}\n    models: [gpt-4o]", "keys[0].limits", "limits nothing: set rpm, tpm or concurrent"),
        ("    limits: {rpm: 0}\n    models: [gpt-4o]", "keys[0].limits.rpm", "must be above 0"),
        ("    limits: {tpm: 1.5}\n    models: [gpt-4o]", "keys[0].limits.tpm", "must be a whole number"),
        ("    limits: {rps: 1}\n    models: [gpt-4o]", "keys[0].limits.rps", "is not a known key"),
        ("    limits: {rpm: 1, burst_share: 2}\n    models: [gpt-4o]", "keys[0].limits.burst_share", "at most 1"),
        ("    limits: {concurrent: 1, burst_share: 1}\n    models: [gpt-4o]", "keys[0].limits.burst_share", "nothing"),
        ("    limits: {rpm: 1, shadow: [tpm]}\n    models: [gpt-4o]", "keys[0].limits.shadow[0]", "is not set here"),
        ("    limits: {rpm: 1, shadow: [rmp]}\n    models: [gpt-4o]", "keys[0].limits.shadow[0]", "mean 'rpm'?"),
        ("    limits: {rpm: 1, shadow: all}\n    models: [gpt-4o]", "keys[0].limits.shadow", "must be true (all"),
        ("    budget: {}\n    models: [gpt-4o]", "keys[0].budget", "limits nothing: set day_usd or month_usd"),
        ("    budget: {day_usd: 0}\n    models: [gpt-4o]", "keys[0].budget.day_usd", "must be above 0"),
        ("    budget: {day_usd: .inf}\n    models: [gpt-4o]", "keys[0].budget.day_usd", "must be a finite number"),
        ("    weight: 0\n    models: [gpt-4o]", "keys[0].weight", "must be at least 0.01"),
        ("    weight: 101\n    models: [gpt-4o]", "keys[0].weight", "must be at most 100"),
        ("    weight: heavy\n    models: [gpt-4o]", "keys[0].weight", "must be a number"),
        ("    weight: .nan\n    models: [gpt-4o]", "keys[0].weight", "must be"),
        ("    priority: urgent\n    models: [gpt-4o]", "keys[0].priority", "'urgent' is not high, normal or low"),
        ("    <<: {models: [gpt-4o]}", "keys[0]", "merge keys"),
        ("    1: x", "keys[0]", "a key must be text"),
    ],
    ", reveal: none}": [
        (", limits: {rpm: -1}}", "workloads.api.limits.rpm", "must be above 0"),
        (", budget: {month_usd: 1, shadow: [day_usd]}}", "workloads.api.budget.shadow[0]", "is not set here"),
        (", priority: urgent}", "workloads.api.priority", "'urgent' is not high, normal or low"),
        (", zones: [eu]}", "workloads.api.zones[0]", "'eu' is the zone of no endpoint"),
        (", zones: [uss]}", "workloads.api.zones[0]", "did you mean 'us'?"),
        (", zones: us}", "workloads.api.zones", "must be a list"),
        (", zones: []}", "workloads.api.zones", "lists nothing"),
        (", zones: [us, us]}", "workloads.api.zones", "names a zone twice"),
        (", zones: [ord]}", "workloads.api.placement", "has no deployment: no endpoint in ord is at azure"),
        (", max_wait_ms: -1}", "workloads.api.max_wait_ms", "must be at least 0"),
        (", ttft_objective_ms: 0}", "workloads.api.ttft_objective_ms", "must be above 0"),
        (", hedge: {}}", "workloads.api.hedge", "is for internal workloads only: this one is exclusive"),
    ],
    "{rule: exclusive, cloud: azure}": [
        (
            "{rule: exclusive, cloud: azure, from: 2030-01-01}",
            "workloads.api.placement.from",
            "needs `then_rule`: what holds outside this window",
        ),
        (
            "{rule: exclusive, cloud: azure, until: clause-7}",
            "workloads.api.placement.until",
            "needs `then_rule`: what holds outside this window",
        ),
        (
            "{rule: exclusive, cloud: azure, then_rule: {rule: exclusive, cloud: azure}}",
            "workloads.api.placement.then_rule",
            "would never hold: the rule has neither `from` nor `until`",
        ),
        (
            "{rule: exclusive, cloud: azure, from: 2030-01-01, then_rule: {rule: exclusive, cloud: oracel}}",
            "workloads.api.placement.then_rule.cloud",
            "did you mean 'oracle'?",
        ),
        (
            "{rule: exclusive, cloud: azure, from: 2030-01-01, then_rule: {rule: exclusive, cloud: oracle}}",
            "workloads.api.placement",
            "has no deployment: no endpoint is at oracle",
        ),
        (
            "{rule: exclusive, cloud: azure, from: 2030-01-01, then_rule: {rule: exclusive, cluod: azure}}",
            "workloads.api.placement.then_rule.cluod",
            "did you mean 'cloud'?",
        ),
        (
            "{rule: exclusive, cloud: azure, from: 2030-01-01, then_rule: {cloud: azure}}",
            "workloads.api.placement.then_rule.rule",
            "is missing",
        ),
        (
            "{rule: exclusive, cloud: azure, from: 2030-01-01, until: 2030-02-01,"
            " then_rule: {rule: exclusive, cloud: azure, from: 2030-05-01}}",
            "workloads.api.placement.then_rule.from",
            "needs `then_rule`",
        ),
        (
            "{rule: exclusive, cloud: azure, from: 2030-13-01, then_rule: {rule: exclusive, cloud: azure}}",
            "workloads.api.placement.from",
            "'2030-13-01' is no date: write 2031-02-01 (midnight UTC) or 2031-02-01T09:30:00Z",
        ),
        (
            "{rule: exclusive, cloud: azure, from: clause-7, then_rule: {rule: exclusive, cloud: azure}}",
            "workloads.api.placement.from",
            "'clause-7' is no date",
        ),
        (
            "{rule: exclusive, cloud: azure, until: '2031-02-01T09:30:00', then_rule: {rule: exclusive, cloud: azure}}",
            "workloads.api.placement.until",
            "is no date",
        ),
        (
            "{rule: exclusive, cloud: azure, until: 2031, then_rule: {rule: exclusive, cloud: azure}}",
            "workloads.api.placement.until",
            "must be text",
        ),
        (
            "{rule: exclusive, cloud: azure, until: clause-8, then_rule: {rule: exclusive, cloud: azure}}",
            "workloads.api.placement.until",
            "'clause-8' is neither a date nor a condition of this file (did you mean 'clause-7'?)",
        ),
        (
            "{rule: exclusive, cloud: azure, from: 2031-02-01, until: 2031-02-01T00:00:00Z,"
            " then_rule: {rule: exclusive, cloud: azure}}",
            "workloads.api.placement.until",
            "is not after `from`",
        ),
        (
            "{rule: exclusive, cloud: azure, holder: azure}",
            "workloads.api.placement.holder",
            "says nothing to the rule exclusive, which takes `cloud`",
        ),
        (
            "{rule: exclusive, cloud: azure, prefer: fastest}",
            "workloads.api.placement.prefer",
            "'fastest' is not balanced, cost, latency or weighted",
        ),
        ("{rule: first_refusal, then: [coreweave]}", "workloads.api.placement", "needs `holder`"),
        ("{rule: first_refusal, holder: azure}", "workloads.api.placement", "needs `then`"),
        (
            "{rule: first_refusal, holder: azure, then: coreweave}",
            "workloads.api.placement.then",
            "must be a list of clouds, or of lists of clouds that are balanced together",
        ),
        ("{rule: first_refusal, holder: azure, then: []}", "workloads.api.placement.then", "must be a list of clouds"),
        ("{rule: first_refusal, holder: azure, then: [[]]}", "workloads.api.placement.then", "must be a list of clou"),
        ("{rule: first_refusal, holder: azure, then: [[[a]]]}", "workloads.api.placement.then", "must be a list of c"),
        ("{rule: first_refusal, holder: azure, then: [7]}", "workloads.api.placement.then", "must be a list of clouds"),
        (
            "{rule: first_refusal, holder: azure, then: [oracle, [softbank, azure]]}",
            "workloads.api.placement.then",
            "names azure, which is the holder and comes first",
        ),
        (
            "{rule: first_refusal, holder: azure, then: [coreweave, [softbank, coreweave]]}",
            "workloads.api.placement.then",
            "names a cloud twice",
        ),
        (
            "{rule: first_refusal, holder: azure, then: [oracle, [softbnk]]}",
            "workloads.api.placement.then[1][0]",
            "did you mean 'softbank'?",
        ),
        (
            "{rule: first_refusal, holder: azur, then: [oracle]}",
            "workloads.api.placement.holder",
            "did you mean 'azure'?",
        ),
        (
            "{rule: first_refusal, holder: azure, then: [coreweave], holder_attempts: 0}",
            "workloads.api.placement.holder_attempts",
            "must be above 0",
        ),
        (
            "{rule: spread, clouds: [azure], holder_attempts: 2}",
            "workloads.api.placement.holder_attempts",
            "says nothing to the rule spread, which takes `clouds`",
        ),
        ("{rule: exclusive}", "workloads.api.placement", "needs `cloud`"),
        (
            "{rule: exclusive, cloud: azure, clouds: [azure]}",
            "workloads.api.placement.clouds",
            "says nothing to the rule exclusive",
        ),
    ],
    "conditions: [{name: clause-7, declared: 2031-02-01, by: legal}]": [
        ("conditions: [{name: clause-7, declared: 2031-02-01}]", "conditions[0].declared", "needs `by`: who declares"),
        ("conditions: [{name: clause-7, declared: soon, by: x}]", "conditions[0].declared", "'soon' is no date"),
        ("conditions: [{name: clause-7, since: 2031-02-01, by: x}]", "conditions[0].since", "is not a known key"),
        ("conditions: [{declared: 2031-02-01, by: x}]", "conditions[0].name", "is missing"),
        ("conditions: {name: clause-7}", "conditions", "must be a list"),
        ("conditions: [{name: clause-7}, {name: 2031-02-01}]", "conditions[1].name", "reads like a date"),
        (
            "conditions: [{name: clause-7}, {name: clause-7}]",
            "conditions[1].name",
            "'clause-7' is the name of a condition above already",
        ),
    ],
    "health: {open_s: 2, ejection_s: 10}": [
        ("health: {open: 2}", "health.open", "did you mean 'open_s'?"),
        ("health: {open_s: 0}", "health.open_s", "must be above 0"),
        ("health: {open_s: 61}", "health.open_s", "is above open_s_max"),
        ("health: {open_s_max: 1}", "health.open_s_max", "does not go with open_s, which is above open_s_max"),
        ("health: {ejection_s: 400}", "health.ejection_s", "is above ejection_s_max"),
        ("health: {ejected_share_max: 1.5}", "health.ejected_share_max", "must be at most 1"),
        ("health: {success_rate_min: -0.1}", "health.success_rate_min", "must be at least 0"),
        ("health: {success_rate_requests: 0}", "health.success_rate_requests", "must be above 0"),
        ("health: {consecutive_failures: 2.5}", "health.consecutive_failures", "must be a whole number"),
        ("health: {slow_factor: 1}", "health.slow_factor", "must be above 1"),
        ("health: {slow_start_s: -1}", "health.slow_start_s", "must be at least 0"),
        ("health: {probe_every_s: 0}", "health.probe_every_s", "must be above 0"),
        ("health: {probe_timeout_s: never}", "health.probe_timeout_s", "must be a number"),
    ],
    "resilience: {budget_share: 0.2}": [
        ("resilience: {budget_share: 20}", "resilience.budget_share", "must be at most 1"),
        ("resilience: {budget_window_s: 0}", "resilience.budget_window_s", "must be above 0"),
        ("resilience: {budget_floor_per_s: -1}", "resilience.budget_floor_per_s", "must be at least 0"),
        ("resilience: 0.2", "resilience", "must be a mapping"),
    ],
    "aliases:\n": [
        ("models: {gpt-4o: {}}\naliases:\n", "models.gpt-4o", "says nothing"),
        ("models: {gpt-4: {limits: {rpm: 1}}}\naliases:\n", "models.gpt-4", "did you mean 'gpt-4o'?"),
        ("models: {gpt-4o-latest: {limits: {rpm: 1}}}\naliases:\n", "models.gpt-4o-latest", "is an alias"),
        ("models: {gpt-4o: {limits: {}}}\naliases:\n", "models.gpt-4o.limits", "limits nothing"),
        ("models: {gpt-4o: 3}\naliases:\n", "models.gpt-4o", "must be a mapping"),
    ],
    "limits: {concurrency: adaptive}": [
        ("limits: {concurrency: on}", "limits.concurrency", "'on' is not adaptive or off"),
        ("limits: {concurrency_start: 0}", "limits.concurrency_start", "must be above 0"),
        ("limits: {concurrency_min: 2000}", "limits.concurrency_min", "is above concurrency_start"),
        ("limits: {concurrency_start: 2}", "limits.concurrency_start", "which is above concurrency_start"),
        ("limits: {waiting_max: -1}", "limits.waiting_max", "must be at least 0"),
        ("limits: {quota_twin: 1}", "limits.quota_twin", "must be true or false"),
    ],
    "ledger: {dir: ledger}": [
        ("ledger: {durable: true}", "ledger.dir", "is missing"),
        ("ledger: {dir: d, file: e}", "ledger.file", "is not a known key"),
        ("ledger: {dir: d, durable: 1}", "ledger.durable", "must be"),
        ("ledger: {dir: d, store: mysql://h/d}", "ledger.store", "must be sqlite"),
        ("ledger: {dir: d, store: postgresql://h}", "ledger.store", "must be sqlite"),
        ("ledger: {dir: d, store: 'postgresql://h:port/d'}", "ledger.store", "must be sqlite"),
        ("ledger: {dir: d, store: 'postgresql://u:p@ss/word@h/d'}", "ledger.store", "of a password as %2F"),
        ("ledger: {dir: d, store: 'sqlite:///'}", "ledger.store", "names no file"),
        ("ledger: {dir: d, segment_bytes: 1KiB}", "ledger.segment_bytes", "must be at least 64KiB"),
        ("ledger: {dir: d, keep_bytes: 1MiB}", "ledger.keep_bytes", "fewer than 4 segments"),
        ("ledger: {dir: d, segment_bytes: 2GiB}", "ledger.segment_bytes", "fewer than 4 segments"),
        ("ledger: {dir: d, retain_days: 0}", "ledger.retain_days", "must be"),
    ],
    "decision_log: {dir: decisions, keep_bytes: 512MiB}": [
        ("decision_log: {keep_bytes: 512MiB}", "decision_log.dir", "is missing"),
        ("decision_log: {dir: d, folder: e}", "decision_log.folder", "is not a known key"),
        ("decision_log: {dir: d, segment_bytes: 1KiB}", "decision_log.segment_bytes", "must be at least 64KiB"),
        ("decision_log: {dir: d, keep_bytes: 64MiB}", "decision_log.keep_bytes", "times segment_bytes"),
        ("decision_log: {dir: d, keep_bytes: lots}", "decision_log.keep_bytes", "'lots' is not a size"),
        ("decision_log: {dir: d, anchor_every_s: 0}", "decision_log.anchor_every_s", "must be above 0"),
        ("decision_log: {dir: d, anchors: a.jsonl}", "decision_log.anchors", "needs `signing_key`"),
        ("decision_log: {dir: d, signing_key: router.yaml}", "decision_log.signing_key", "needs `anchors`"),
        (
            "decision_log: {dir: d, anchors: d/x/../a, signing_key: router.yaml}",
            "decision_log.anchors",
            "is inside `dir`",
        ),
        ("decision_log: {dir: d, anchors: a, signing_key: no.pem}", "decision_log.signing_key", "is no file"),
    ],
    "    hedge: {after_ms: 800}": [
        ("    hedge: on", "workloads.research.hedge", "must be a mapping"),
        ("    hedge: {after_ms: p99}", "workloads.research.hedge.after_ms", "above 0, or p95"),
        ("    hedge: {after_ms: 0}", "workloads.research.hedge.after_ms", "above 0, or p95"),
        ("    hedge: {after_ms: true}", "workloads.research.hedge.after_ms", "above 0, or p95"),
        ("    hedge: {share_max: 2}", "workloads.research.hedge.share_max", "must be at most 1"),
        ("    hedge: {share_max: 0}", "workloads.research.hedge.share_max", "must be above 0"),
    ],
    "    affinity: true": [
        ("    affinity: maybe", "workloads.internal.affinity", "must be true or false"),
    ],
    "prefer: balanced": [
        ("prefer: cheap", "workloads.internal.placement.prefer", "'cheap' is not balanced, cost, latency or weighted"),
        (
            "prefer: cost",
            "workloads.internal.placement",
            "cannot be by cost: ord/llama-70b has no `price`, and none is known for it",
            "placement: {rule: spread",
        ),
    ],
    "    provider: openai": [
        ("    provider: vertex", "O.auth.bearer", "is not for the provider vertex, which takes google", "{bearer:"),
        (
            "    provider: openai\n    api_version: v1",
            "O.api_version",
            "Azure's alone",
            "api_version: v1\n    zone: ord",
        ),
        ("    provider: opnai", "O.provider", "did you mean 'openai'?"),
    ],
    "  admin: 127.0.0.1:9090": [
        ("  admin: 127.0.0.1:9090\n  workers: many", "server.workers", "or auto", "workers"),
        ("  admin: 127.0.0.1:9090\n  workers: true", "server.workers", "a whole number", "workers"),
        ("  admin: 127.0.0.1:9090\n  workers: 257", "server.workers", "from 1 to 256", "workers"),
        ("  admin: 127.0.0.1:9090\n  admin: 127.0.0.1:1", "server.admin", "stands here twice", ":1\n"),
    ],
    "tpm: 1000": [
        ("tpm: many", "E.deployments[0].tpm", "must be a whole number"),
        ("tpm: 0", "E.deployments[0].tpm", "must be above 0"),
        ("tpm: true", "E.deployments[0].tpm", "must be a whole number"),
        ("tpm: ", "E.deployments[0].tpm", "is empty"),
    ],
    "tpm: 1000, operations": [
        ("concurrent: 0, operations", "E.deployments[0].concurrent", "must be above 0"),
        ("ttft_objective_ms: 0, operations", "E.deployments[0].ttft_objective_ms", "must be above 0"),
        ("price: 3, operations", "E.deployments[0].price", "must be a mapping"),
        (
            "price: {prompt_usd_per_mtok: 1}, operations",
            "E.deployments[0].price.completion_usd_per_mtok",
            "is missing",
        ),
        (
            "price: {prompt_usd_per_mtok: -1, completion_usd_per_mtok: 1}, operations",
            "E.deployments[0].price.prompt_usd_per_mtok",
            "must be at least 0",
        ),
        (
            "price: {prompt_usd_per_mtok: 1e9, completion_usd_per_mtok: 1}, operations",
            "E.deployments[0].price.prompt_usd_per_mtok",
            "must be at most 1e+06",
        ),
        (
            "price: {prompt_usd_per_mtok: 1, completion_usd_per_mtok: free}, operations",
            "E.deployments[0].price.completion_usd_per_mtok",
            "must be a number",
        ),
        (
            "price: {flat_usd_per_month: 100, cached_usd_per_mtok: 1}, operations",
            "E.deployments[0].price.prompt_usd_per_mtok",
            "is missing",
        ),
        ("price: {}, operations", "E.deployments[0].price.prompt_usd_per_mtok", "is missing"),
        (
            "price: {flat_usd_per_month: 0}, operations",
            "E.deployments[0].price.flat_usd_per_month",
            "must be above 0",
        ),
    ],
    "tier: 1": [
        ("tier: -1", "E.deployments[1].tier", "must be at least 0"),
        (
            "tier: 1, price: {flat_usd_per_month: 100}",
            "E.deployments[1].price.flat_usd_per_month",
            "is for `kind: provisioned` alone",
        ),
    ],
    "kind: provisioned": [
        ("kind: rented", "E.deployments[0].kind", "'rented' is not standard or provisioned"),
    ],
    "64MiB": [
        ("64 megs", "server.body_bytes_max", "'64 megs' is not a size"),
        ("2GiB", "server.body_bytes_max", "above buffered_bytes_max"),
        ("300MiB\n  workers: 4", "server.body_bytes_max", "a worker's share of buffered_bytes_max (1/4)"),
        ("64MiB\n  workers: 0", "server.workers", "must be a whole number from 1", "workers"),
    ],
    "connect_s: 5": [
        ("connect_s: 0", "timeouts.connect_s", "must be above 0"),
        ("connect_s: .inf", "timeouts.connect_s", "finite"),
    ],
    "{idle_s: 30}": [
        ("{idle_s: soon}", "E.timeouts.idle_s", "must be a number"),
    ],
    "[inference.example.jp]": [
        ("inference.example.jp", "clouds.softbank.hosts", "must be a list"),
        ("[]", "clouds.softbank.hosts", "lists nothing"),
        ("['*.jp']", "clouds.softbank.hosts[0]", "two labels"),
        ("['a.*.jp']", "clouds.softbank.hosts[0]", "only as `*.` at the left"),
        ("['https://example.jp']", "clouds.softbank.hosts[0]", "is not a host name"),
        ("[a.openai.azure.com]", "clouds.softbank.hosts[0]", "a host of the cloud 'azure' already"),
        ("['*.azure.com']", "clouds.softbank.hosts[0]", "a host of the cloud 'azure' already"),
    ],
    "    cloud: coreweave\n": [
        ("", "O.cloud", "is missing", "  ord:"),
    ],
    "{model: gpt-4o, name: llama-70b}": [
        ("{name: llama-70b}", "O.deployments[0].model", "is missing"),
        (
            "{model: gpt-4o, name: llama-70b, quota_pool: pool-a}",
            "O.deployments",
            "share a quota_pool with endpoint 'eastus2', which is at another cloud",
            "    deployments:\n      - {model: gpt-4o, name: llama",
        ),
    ],
    "127.0.0.1:8080": [
        ("localhost", "server.listen", "'localhost' is no address"),
        ("127.0.0.1:70000", "server.listen", "is no address"),
        ("'::1:8080'", "server.listen", "is no address"),
    ],
    "127.0.0.1:9090": [
        ("127.0.0.1:8080", "server.admin", "is the address of `listen`", "  admin"),
        ("0.0.0.0:9090", "server.admin", "needs `admin_token`"),
    ],
    "    cloud: azure\n": [
        ("    cloud: azur\n", "E.cloud", "did you mean 'azure'?"),
    ],
    "softbank: {hosts: [inference.example.jp]}": [
        (
            "azure: {hosts: [contoso.azure-api.net]}",
            "clouds.azure.hosts[0]",
            "API Management, which may front any cloud",
        ),
    ],
    "https://contoso.openai.azure.com": [
        ("https://contoso.azure-api.net", "E.base_url", "'contoso.azure-api.net' is not a host of the cloud 'azure'"),
        ("https://evilopenai.azure.com", "E.base_url", "is not a host of"),
        ("https://contoso.openai.azure.com.evil.org", "E.base_url", "is not a host of"),
        ("https://openai.azure.com", "E.base_url", "is not a host of"),
        ("https://api.openai.com", "E.base_url", "is not a host of"),
        ("http://contoso.openai.azure.com", "E.base_url", "must be https"),
        ("https://10.0.0.1", "E.base_url", "needs `private: true`"),
        ("https://localhost", "E.base_url", "needs `private: true`"),
        ("https://169.254.169.254", "E.base_url", "is not an address that can be dialled"),
        ("https://[64:ff9b::a9fe:a9fe]", "E.base_url", "is not an address that can be dialled"),
        ("https://2130706433", "E.base_url", "IP address in its usual form"),
        ("https://127.1", "E.base_url", "IP address in its usual form"),
        ("https://0.0.0.0", "E.base_url", "can be dialled"),
        ("https://[::ffff:127.0.0.1]", "E.base_url", "needs `private"),
        ("https://u:p@contoso.openai.azure.com", "E.base_url", "holds user information"),
        ("https://contoso.openai.azure.com/?a=b", "E.base_url", "has a query"),
        ("https://contoso.openai.azure.com/#a", "E.base_url", "has a query"),
        ("https://contoso.openai.azure.com/openai/deployments/gpt-4o", "E.base_url", "write https://HOST alone"),
        ("https://contoso.openai.azure.com/v1", "E.base_url", "or with /openai/v1"),
        ("https://contoso.openai.azure.com/a/../b", "E.base_url", "segment"),
        ("contoso.openai.azure.com", "E.base_url", "is not a URL"),
        ("https://contoso.openai.azure.com:99999", "E.base_url", "is not a URL"),
        (
            "https://contoso.openai.azure.com\n    emulated: true",
            "E.base_url",
            "is not a loopback address, as an emulated endpoint's must be",
            "base_url: https://contoso",
        ),
    ],
    "https://api.inference.wandb.ai/v1": [
        (
            "http://127.0.0.1:9/v1\n    emulated: true\n    private: false\n    emulator: {sed: 1}",
            "O.emulator.sed",
            "did you mean 'seed'?",
            "emulator",
        ),
    ],
    "api_version: v1": [
        ("api_version: 2023-13-01", "E.api_version", "'2023-13-01' is not an api-version"),
        ("api_version: preview", "E.api_version", "v1 asks for previews by itself"),
    ],
    "{x-team: one}": [
        ("{authorization: x}", "E.headers.authorization", "is a credential"),
        ("{Api-Key: x}", "E.headers.Api-Key", "is a credential"),
        ("{Connection: x}", "E.headers.Connection", "the router's own"),
        ("{content-length: '3'}", "E.headers.content-length", "the router's own"),
        ("{x_team: one}", "E.headers.x_team", "is no header name"),
        ("{'x team': one}", "E.headers.x team", "is no header name"),
        ('{x-team: "a\\r\\nb: c"}', "E.headers.x-team", "line end"),
        ("{x-ms-spillover-deployment: x}", "E.headers.x-ms-spillover-deployment", "never sent"),
        ("{x-forwarded-for: x}", "E.headers.x-forwarded-for", "never sent"),
        ("{x-team: a, X-Team: b}", "E.headers.X-Team", "stands here twice"),
        ("{x-0: a, x-1: a, x-2: a, x-3: a, x-4: a, x-5: a, x-6: a, x-7: a}", "E.headers", "Azure takes 7"),
    ],
    "name: gpt-4o-std": [
        ("name: gpt-4o-ptu", "E.deployments[1].name", "the name of deployments[0]", "tier: 1"),
        ("name: 'gpt 4o'", "E.deployments[1].name", "is no model name"),
    ],
    "[chat]": [
        ("[chatt]", "E.deployments[0].operations[0]", "did you mean 'chat'?"),
        ("[moderations]", "E.deployments[0].operations", "azure_openai v1 has no such operation"),
        ("[chat, chat]", "E.deployments[0].operations", "names an operation twice"),
        ("[]", "E.deployments[0].operations", "lists nothing"),
    ],
    "gpt-4o-latest: gpt-4o": [
        ("gpt-4o-latest: gpt-4oo", "aliases.gpt-4o-latest", "did you mean 'gpt-4o'?"),
        ("llama-70b: gpt-4o", "aliases.llama-70b", "is the name of a model"),
        ("a: gpt-4o\n  b: a", "aliases.b", "is an alias itself", "  b: a"),
    ],
    "cloud: azure}": [
        ("cloud: azur}", "workloads.api.placement.cloud", "did you mean 'azure'?"),
        ("cloud: oracle}", "workloads.api.placement", "has no deployment: no endpoint is at oracle"),
    ],
    "clouds: [azure, coreweave]": [
        ("cloud: azure", "workloads.internal.placement", "needs `clouds`", "placement: {rule: spread"),
        ("clouds: [azure, azure]", "workloads.internal.placement.clouds", "a cloud twice"),
    ],
    "rule: exclusive": [
        ("rule: exclusiv", "workloads.api.placement.rule", "did you mean 'exclusive'?"),
    ],
    "reveal: upstream": [
        ("reveal: all", "workloads.internal.reveal", "'all' is not none or upstream"),
    ],
    "workload: api": [
        ("workload: apii", "keys[0].workload", "did you mean 'api'?"),
    ],
    "name: evaluation": [
        ("name: acme", "keys[1].name", "the name of keys[0]", "  - name: acme\n    workload: internal"),
    ],
    KEY_A: [
        ("sk-ir-clear", "keys[0].sha256", "is no SHA-256"),
    ],
    KEY_B: [
        (KEY_A.upper(), "keys[1].sha256", "is that of keys[0] already"),
    ],
    "    models: [gpt-4o]\n": [
        ("", "keys[0].models", "lists nothing, so this key can do nothing; ['*'] allows all", "- name: acme"),
    ],
    "models: [gpt-4o]": [
        ("models: [gpt-5]", "keys[0].models[0]", "'gpt-5' is served by no deployment"),
        (
            "models: [gpt-4o, llama-70b]",
            "keys[0].models[1]",
            "'llama-70b' has no deployment at azure, where the workload api must stay",
        ),
        ("models: gpt-4o", "keys[0].models", "must be a list"),
        ("models: [4]", "keys[0].models[0]", "must be text"),
        ("models: ['*', gpt-4o]", "keys[0].models", "it stands alone"),
        ("models: [gpt-4o-latest]", "keys[0].models[0]", "is an alias"),
    ],
}


def _full(path: str) -> str:
    head, dot, rest = path.partition(".")
    return {"E": "endpoints.eastus2", "O": "endpoints.ord"}.get(head, head) + dot + rest


def test_a_list_that_is_none_is_not_said_to_be_empty_too(bench: Workbench) -> None:
    for wrong in ("models: gpt-4o", "models: [4]", "models:"):
        _, faults = bench.broken("models: [gpt-4o]", wrong)
        assert len(faults) == 1, [str(fault) for fault in faults]


FLAT = [
    pytest.param(old, new, _full(path), message, (*at, new or old)[0], id=f"{path}-{number}")
    for old, changes in CASES.items()
    for number, (new, path, message, *at) in enumerate(changes)
]


@pytest.mark.parametrize(("old", "new", "path", "message", "at"), FLAT)
def test_one_change_gives_its_fault(bench: Workbench, old: str, new: str, path: str, message: str, at: str) -> None:
    text, faults = bench.broken(old, new)

    found = [fault for fault in faults if fault.path == path and message in fault.message]
    assert found, [str(fault) for fault in faults]
    line = text.count("\n", 0, text.index(at)) + 1
    assert found[0].line == line, str(found[0])
    assert str(found[0]).startswith(f"{bench.file}:{line}: {path}: ")


@pytest.mark.parametrize(("old", "new", "path", "message", "at"), FLAT)
def test_one_mistake_is_not_named_in_other_places(
    bench: Workbench, old: str, new: str, path: str, message: str, at: str
) -> None:
    """Whatever follows from a fault (a model that now nobody serves, a workload that now is unknown) is not said."""
    _, faults = bench.broken(old, new)

    top = path.partition(".")[0].partition("[")[0]
    assert {fault.path.partition(".")[0].partition("[")[0] for fault in faults} == {top}, [str(f) for f in faults]
    assert len(faults) <= 2, [str(fault) for fault in faults]
