"""A small good file, and a way to load what becomes of it."""

from pathlib import Path

import pytest

from router.config.faults import ConfigError, Fault
from router.config.load import load
from router.config.snapshot import Snapshot

ENVIRON = {"AZURE_KEY": "canary-azure-0123456789", "CW_KEY": "canary-coreweave-0123456789"}

GOOD = """\
server:
  listen: 127.0.0.1:8080
  admin: 127.0.0.1:9090
  body_bytes_max: 64MiB
timeouts: {connect_s: 5}
health: {open_s: 2, ejection_s: 10}
resilience: {budget_share: 0.2}
limits: {concurrency: adaptive}
decision_log: {dir: decisions, keep_bytes: 512MiB}
ledger: {dir: ledger}
clouds:
  softbank: {hosts: [inference.example.jp]}
conditions: [{name: clause-7, declared: 2031-02-01, by: legal}]
endpoints:
  eastus2:
    cloud: azure
    provider: azure_openai
    region: eastus2
    zone: us
    base_url: https://contoso.openai.azure.com
    api_version: v1
    auth: {api_key: "${AZURE_KEY}"}
    timeouts: {idle_s: 30}
    headers: {x-team: one}
    deployments:
      - {model: gpt-4o, name: gpt-4o-ptu, kind: provisioned, tier: 0, tpm: 1000, operations: [chat]}
      - {model: gpt-4o, name: gpt-4o-std, tier: 1, rpm: 60, quota_pool: pool-a}
  ord:
    cloud: coreweave
    provider: openai
    zone: ord
    base_url: https://api.inference.wandb.ai/v1
    auth: {bearer: "${CW_KEY}"}
    deployments:
      - {model: gpt-4o, name: llama-70b}
      - {model: llama-70b, name: llama-70b-own}
aliases:
  gpt-4o-latest: gpt-4o
workloads:
  api: {placement: {rule: exclusive, cloud: azure}, reveal: none}
  internal:
    placement: {rule: spread, clouds: [azure, coreweave], prefer: balanced}
    reveal: upstream
    affinity: true
  research:
    placement:
      rule: first_refusal
      holder: azure
      then: [coreweave]
      until: clause-7
      then_rule: {rule: spread, clouds: [coreweave]}
    zones: [us, ord]
    hedge: {after_ms: 800}
keys:
  - name: acme
    workload: api
    sha256: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    models: [gpt-4o]
  - name: evaluation
    workload: internal
    sha256: "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
    models: ["*"]
"""


class Workbench:
    """Writes files and loads them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "router.yaml"

    def load(self, text: str = GOOD, environ: dict[str, str] | None = None, wall: float | None = None) -> Snapshot:
        self.file.write_text(text, encoding="utf-8")
        return load(self.file, ENVIRON if environ is None else environ, wall)

    def faults(self, text: str, environ: dict[str, str] | None = None) -> tuple[Fault, ...]:
        with pytest.raises(ConfigError) as caught:
            self.load(text, environ)
        return caught.value.faults

    def broken(self, old: str, new: str) -> tuple[str, tuple[Fault, ...]]:
        """The good file with one change, and its faults."""
        assert GOOD.count(old) == 1, f"{old!r} must stand once in the good file"
        text = GOOD.replace(old, new)
        return text, self.faults(text)
