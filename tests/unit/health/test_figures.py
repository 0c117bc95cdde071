"""What is read of vLLM's page of metrics."""

from hypothesis import given
from hypothesis import strategies as st
from rackserve.health.figures import read

LABELS = '{engine="0",model_name="small"}'
PAGE = f"""# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.76440320012e+09
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{LABELS} 3.0
vllm:num_requests_waiting{LABELS} 2.0
vllm:num_requests_waiting_by_reason{{engine="0",model_name="small",reason="capacity"}} 7.0
vllm:kv_cache_usage_perc{LABELS} 0.25
vllm:prompt_tokens_total{LABELS} 100.0
vllm:prompt_tokens_cached_total{LABELS} 55.0
vllm:generation_tokens_total{LABELS} 40.0
vllm:iteration_tokens_total_bucket{{engine="0",le="1.0",model_name="small"}} 9.0
vllm:iteration_tokens_total_count{LABELS} 12.0
vllm:num_preemptions_total{LABELS} 0.0
vllm:prefix_cache_queries_total{LABELS} 99.0
"""


def test_figures_of_a_page() -> None:
    found = read(PAGE.encode())
    assert found.started == 1764403200.12
    assert found.marks == (100, 40, 12, 0.25, 3, 2, 0, 99)
    assert (found.running, found.waiting, found.counts_tokens) == (3, 2, True)


def test_engine_cores_of_one_process_are_added_up() -> None:
    second = PAGE.replace('engine="0"', 'engine="1"').replace("process_start_time_seconds 1.76440320012e+09\n", "")
    found = read((PAGE + second).encode())
    assert found.marks == (200, 80, 24, 0.5, 6, 4, 0, 198)
    assert found.started == 1764403200.12


def test_a_page_whose_first_line_is_a_figure_and_whose_last_has_no_end_is_read_too() -> None:
    assert read(b"vllm:generation_tokens_total 7").marks[1] == 7


def test_each_figure_that_a_step_changes_changes_the_marks() -> None:
    before = read(PAGE.encode()).marks
    for line in (" 100.0", " 40.0", " 12.0", " 0.25", " 3.0", " 2.0", " 99.0"):
        assert read(PAGE.replace(line, " 123.0", 1).encode()).marks != before, line


def test_what_the_api_server_counts_by_itself_moves_nothing() -> None:
    before = read(PAGE.encode())
    after = read(
        (PAGE + 'http_requests_total{handler="/metrics",status="2xx"} 5.0\nvllm:cpu_seconds_total 8\n').encode()
    )
    assert before == after


def test_a_value_that_is_no_number_is_no_figure() -> None:
    """NaN would differ from itself and so look like progress."""
    assert read(PAGE.replace(" 40.0", " NaN").encode()).marks[1] is None
    assert read(PAGE.replace(" 40.0", " +Inf").encode()).marks[1] is None
    assert read(PAGE.replace(" 40.0", " many").encode()).marks[1] is None


@given(st.binary(max_size=400))
def test_any_bytes_are_a_page_without_figures_or_with_some(page: bytes) -> None:
    assert read(page).counts_tokens is False
    read(page + PAGE.encode() + page)
