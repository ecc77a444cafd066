from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import BadSetting, Settings, settings_table

DOCS = Path(__file__).parent.parent / "docs" / "settings.md"
TOPIC = "projects/p/topics/t"
FAN_OUT = {
    "INPUT_BUCKETS": "in-one,in-two",
    "OUTPUT_BUCKET": "out-b",
    "OUTPUT_PREFIX": "{bucket}/",
    "JOBS_TOPIC": TOPIC,
}


def test_defaults_need_no_environment() -> None:
    settings = Settings.from_environment({})
    assert (settings.sam3_model, settings.sam3_device, settings.port) == ("facebook/sam3", "auto", 8080)
    assert settings.input_buckets == ()


def test_both_names_of_the_token_work_and_it_never_shows() -> None:
    for name in ("HF_TOKEN", "HUGGINGFACE_HUB_TOKEN"):
        settings = Settings.from_environment({name: "hf_secret"})
        assert settings.hf_token is not None
        assert settings.hf_token.get_secret_value() == "hf_secret"
        assert "hf_secret" not in repr(settings)


def test_empty_means_unset() -> None:
    assert Settings.from_environment({"PORT": "", "HF_TOKEN": " "}) == Settings.from_environment({})


def test_lists_and_prefixes() -> None:
    settings = Settings.from_environment(
        {
            "INPUT_BUCKETS": "in-one, in-two",
            "OUTPUT_BUCKET": "out-b",
            "OUTPUT_PREFIX": "{bucket}/",
            "RESULTS_TOPIC": TOPIC,
        }
    )
    assert settings.input_buckets == ("in-one", "in-two")
    assert settings.results_topic == TOPIC


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("SAM3_DEVICE", "gpu", "auto, cuda or cpu"),
        ("SAM3_DTYPE", "int8", "bfloat16"),
        ("PORT", "http", "a whole number from 1 to 65535"),
        ("PORT", "70000", "a whole number from 1 to 65535"),
        ("TORCH_NUM_THREADS", "-1", "a whole number from 0"),
        ("MAX_PIXELS", "1e8", "a whole number"),
        ("LOG_LEVEL", "loud", "DEBUG, INFO, WARNING or ERROR"),
        ("RESULTS_TOPIC", "results", "projects/PROJECT/topics/TOPIC"),
        ("JOBS_TOPIC", "jobs", "projects/PROJECT/topics/TOPIC"),
        ("DEFAULT_PROMPTS", "[]", "a JSON list of prompts, or one; prompts: '0 prompts' is not allowed; give 1 to 64"),
        ("DEFAULT_PROMPTS", '["cat"', "a JSON list of prompts, or one; not JSON"),
        ("DEFAULT_PROMPTS", '["cat", 5]', "prompts[1]: 5 is not allowed; a prompt must be text"),
        ("DEFAULT_PROMPTS", '{"boxes": []}', "a JSON list of prompts, or one; prompts[0]"),
        ("READ_TIMEOUT_S", "0", "a whole number from 1 to 3600"),
        ("PUSH_AUTH", "none", "iam or oidc"),
        ("PUSH_SERVICE_ACCOUNT", "pusher", "a service account's e-mail address"),
        ("PUSH_SERVICE_ACCOUNT", "serviceAccount:", "a service account's e-mail address"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "http://host:port or https://host"),
        ("INPUT_BUCKETS", "gs://bucket", "without gs://"),
        ("OUTPUT_BUCKET", "bucket/", "without a slash"),
        ("INPUT_BUCKETS", ",", "bucket names, separated by commas; it names no bucket"),
        ("READ_BUCKETS", ", ,", "it names no bucket"),
    ],
)
def test_a_bad_value_is_one_line_with_name_value_and_what_is_allowed(name: str, value: str, allowed: str) -> None:
    with pytest.raises(BadSetting) as caught:
        Settings.from_environment({name: value, "HF_TOKEN": "hf_secret"})
    line = str(caught.value)
    assert line.startswith(f"{name}: {value!r} is not allowed; allowed: ")
    assert allowed in line
    assert "\n" not in line
    assert "hf_secret" not in line


def wrong_values() -> list[tuple[str, str]]:
    """For each setting that cannot be just any text, what it must refuse: no number, and beyond both ends."""
    schema = Settings.model_json_schema()["properties"]
    found = []
    for field, rule in schema.items():
        if rule.get("type") == "integer":
            found += [(field, "many"), (field, "1.5"), (field, str(rule["minimum"] - 1))]
            found += [(field, str(rule["maximum"] + 1))] if "maximum" in rule else []
        elif rule.get("type") == "boolean":
            found.append((field, "perhaps"))
        elif "enum" in rule or any("pattern" in kind for kind in rule.get("anyOf", ())) or "bucket" in field:
            found.append((field, "no such/value"))
    return [(field.upper(), value) for field, value in found]


@pytest.mark.parametrize(("name", "value"), wrong_values())
def test_every_setting_refuses_what_its_row_does_not_allow(name: str, value: str) -> None:
    with pytest.raises(BadSetting) as caught:
        Settings.from_environment({name: value})
    allowed = next(line for line in settings_table().splitlines() if line.startswith(f"| `{name}` |")).split(" | ")[1]
    assert str(caught.value).startswith(f"{name}: {value!r} is not allowed; allowed: {allowed}")


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"INPUT_BUCKETS": "in-one"}, "OUTPUT_BUCKET"),
        ({"PUSH_AUTH": "oidc", "PUSH_SERVICE_ACCOUNT": "a@b.c"}, "PUSH_AUDIENCE"),
        ({"PUSH_AUTH": "oidc", "PUSH_AUDIENCE": "sam3"}, "PUSH_SERVICE_ACCOUNT"),
        (
            {"EVENT_WAIT_S": "60", "EVENT_TIMEOUT_S": "60"},
            "EVENT_WAIT_S: '60' is not allowed with EVENT_TIMEOUT_S=60; allowed: a whole number from 0 to 59",
        ),
        ({"EVENT_WAIT_S": "600"}, "EVENT_WAIT_S: '600' is not allowed with EVENT_TIMEOUT_S=540"),
        ({"INPUT_BUCKETS": "in-one,in-two", "OUTPUT_BUCKET": "out-b"}, "{bucket}"),
        ({"INPUT_BUCKETS": "both", "OUTPUT_BUCKET": "both"}, "OUTPUT_PREFIX"),
        (FAN_OUT | {"READ_BUCKETS": "pictures"}, "READ_BUCKETS: 'pictures' is not allowed with JOBS_TOPIC; allowed: "),
        (FAN_OUT | {"READ_BUCKETS": "in-one,pictures"}, "(in-two too)"),
        (
            {"INPUT_BUCKETS": "both", "OUTPUT_BUCKET": "both", "OUTPUT_PREFIX": "x/", "INPUT_PREFIX": "x/in/"},
            "OUTPUT_PREFIX",
        ),
    ],
)
def test_settings_that_contradict_each_other(environment: dict[str, str], named: str) -> None:
    with pytest.raises(BadSetting, match="is not allowed") as caught:
        Settings.from_environment(environment)
    assert named in str(caught.value)


@pytest.mark.parametrize("change", [{"READ_BUCKETS": "in-two,out-b,in-one,pictures"}, {"READ_BUCKETS": ""}])
def test_a_service_that_fans_out_may_read_its_inputs(change: dict[str, str]) -> None:
    limits = Settings.from_environment(FAN_OUT | change).limits
    assert {"in-one", "in-two"} <= set(limits.read_buckets)


def test_without_jobs_of_its_own_a_service_may_read_where_it_likes() -> None:
    settings = Settings.from_environment(FAN_OUT | {"READ_BUCKETS": "pictures", "JOBS_TOPIC": ""})
    assert settings.limits.read_buckets == ("pictures",)


def test_outputs_may_lie_beside_inputs() -> None:
    settings = Settings.from_environment(
        {"INPUT_BUCKETS": "both", "OUTPUT_BUCKET": "both", "OUTPUT_PREFIX": "results/"}
    )
    assert settings.output_prefix == "results/"


@pytest.mark.parametrize("change", [{"EVENT_TIMEOUT_S": "1"}, {"EVENT_TIMEOUT_S": "1", "EVENT_WAIT_S": "0"}])
def test_an_event_may_have_less_time_than_it_waits_by_default(change: dict[str, str]) -> None:
    assert Settings.from_environment(change).event_timeout_s == 1


def test_topics_without_input_buckets_have_no_use() -> None:
    topics = {"JOBS_TOPIC": TOPIC, "RESULTS_TOPIC": TOPIC}
    assert Settings.from_environment(topics).unused_topics == ("JOBS_TOPIC", "RESULTS_TOPIC")
    buckets = {"INPUT_BUCKETS": "in-one", "OUTPUT_BUCKET": "out-b"}
    assert Settings.from_environment(topics | buckets).unused_topics == ()
    assert Settings.from_environment({}).unused_topics == ()


@pytest.mark.parametrize("value", ['["cat", {"text": "dog"}]', "cat, and dog", '{"text": "cat"}'])
def test_default_prompts_are_a_list_or_one(value: str) -> None:
    assert Settings.from_environment({"DEFAULT_PROMPTS": value}).default_prompts == value


def test_default_prompts_keep_to_the_limits() -> None:
    with pytest.raises(BadSetting, match="give 1 to 1"):
        Settings.from_environment({"DEFAULT_PROMPTS": '["cat", "dog"]', "MAX_PROMPTS": "1"})


def test_every_setting_is_documented() -> None:
    assert settings_table() in DOCS.read_text()


def test_where_jobs_may_read_and_results_may_go_unless_set() -> None:
    environment = {"INPUT_BUCKETS": "in-one,in-two", "OUTPUT_BUCKET": "out-b", "OUTPUT_PREFIX": "{bucket}/"}
    limits = Settings.from_environment(environment).limits
    assert (limits.read_buckets, limits.write_buckets) == (("in-one", "in-two", "out-b"), ("out-b",))
    limits = Settings.from_environment(environment | {"READ_BUCKETS": "x-1", "WRITE_BUCKETS": "y-1, y-2"}).limits
    assert (limits.read_buckets, limits.write_buckets) == (("x-1",), ("y-1", "y-2"))
    with pytest.raises(BadSetting, match="WRITE_BUCKETS: 'gs://x' is not allowed"):
        Settings.from_environment({"WRITE_BUCKETS": "gs://x"})
