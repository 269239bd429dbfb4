"""What an engine's page says of its load: all spellings, summed over engines, and unknown where it says nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from router.health.engine import ENGINES, EngineLoad, read_gauges

VLLM = """\
# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 12673.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 8.0
vllm:num_requests_running{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"} 5.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 2.0
vllm:num_requests_waiting{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 99.0
vllm:kv_cache_usage_perc{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.75
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="m"} 0.0
"""
SGLANG = """\
sglang:num_running_reqs{engine_type="unified",model_name="qwen {a} \\"b\\" }",tp_rank="0"} 3.0
sglang:num_queue_reqs{engine_type="unified",model_name="qwen"} 4
sglang:token_usage{model_name="qwen"} 2.5e-01 1395066363000
"""


def test_vllm() -> None:
    assert read_gauges(VLLM, "vllm", 7.0) == EngineLoad(13.0, 2.0, 0.5, 7.0)
    old = VLLM.replace("kv_cache_usage_perc", "gpu_cache_usage_perc")
    assert read_gauges(old, "vllm").kv_used == 0.5
    assert read_gauges(old.replace("\n", "\r\n"), "vllm").running == 13.0


def test_sglang() -> None:
    assert read_gauges(SGLANG, "sglang") == EngineLoad(3.0, 4.0, 0.25)
    assert read_gauges(SGLANG.replace("sglang:", "sglang_"), "sglang") == EngineLoad(3.0, 4.0, 0.25)


def test_nim_has_had_both_names() -> None:
    assert read_gauges(VLLM, "nim") == EngineLoad(13.0, 2.0, 0.5)
    assert read_gauges(VLLM.replace("vllm:", ""), "nim") == EngineLoad(13.0, 2.0, 0.5)


def test_two_spellings_on_one_page_are_not_added_up() -> None:
    both = VLLM + VLLM.replace("kv_cache_usage_perc", "gpu_cache_usage_perc").replace("0.75", "0.95")
    assert read_gauges(both, "vllm").kv_used == 0.5


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("page", ["", "<html>404</html>", "vllm:num_requests_running", "\0"])
def test_what_is_not_said_is_unknown(engine: str, page: str) -> None:
    assert read_gauges(page, engine) == EngineLoad()


@pytest.mark.parametrize("value", ["NaN", "-1", "+Inf", "many"])
def test_what_is_no_count_is_unknown(value: str) -> None:
    load = read_gauges(VLLM.replace(" 8.0", f" {value}"), "vllm")
    assert (load.running, load.waiting, load.kv_used) == (None, 2.0, 0.5)


names = st.sampled_from([name for engine in ENGINES.values() for name in engine.running + engine.waiting])
labels = st.dictionaries(st.from_regex(r"[a-z][a-z_]{0,7}", fullmatch=True), st.text(max_size=12), max_size=3)
values = st.one_of(st.integers(0, 10_000), st.floats(0, 1e6))


@given(st.lists(st.tuples(names, labels, values), max_size=12), st.sampled_from(list(ENGINES)))
def test_reads_what_the_reference_parser_reads(lines: list[tuple[str, dict[str, str], float]], engine: str) -> None:
    page = "".join(f"{name}{_labels(labels)} {value!r}\n" for name, labels, value in lines)
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]

    load = read_gauges(page, engine)

    for wanted, got in ((ENGINES[engine].running, load.running), (ENGINES[engine].waiting, load.waiting)):
        by_name = {name: [sample.value for sample in samples if sample.name == name] for name in wanted}
        expected = next((found for found in by_name.values() if found), [])
        assert got is None if not expected else got is not None and math.isclose(got, sum(expected))


@given(st.text(max_size=300), st.sampled_from(list(ENGINES)))
def test_never_raises(page: str, engine: str) -> None:
    read_gauges(page, engine)


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    escaped = {
        name: text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"') for name, text in labels.items()
    }
    return "{" + ",".join(f'{name}="{text}"' for name, text in escaped.items()) + "}"
