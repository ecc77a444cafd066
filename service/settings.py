"""Every setting of the service: one table of name, type, default and meaning, read from the environment once."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from service.core.events import Rules
from service.core.naming import BUCKET_NAME, BUCKET_RULE, expand_prefix
from service.core.prompts import Limits, parse_defaults

# gunicorn's Arbiter.WORKER_BOOT_ERROR: the one status of a worker that ends the whole server instead of a restart.
FAILED_START = 3
# A stop, in seconds from SIGTERM to the end; Cloud Run kills after 10:
# https://cloud.google.com/run/docs/container-contract
STOP_S = 9
# What is kept of them for writing what the model has just finished, and, when pulling, for giving the rest back.
WRITE_S = 3
GIVE_BACK_S = 1

_MIB = 1024 * 1024
_SHOWN = 200  # characters of a long value in a message
_ALIASES = {"HF_TOKEN": ("HUGGINGFACE_HUB_TOKEN",)}
_BUCKET = re.compile(BUCKET_NAME)

TopicName = Annotated[str, Field(pattern=r"^projects/[^/]+/topics/[^/]+$")]
_TOPIC = "projects/PROJECT/topics/TOPIC"
Address = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s.]+$")]


class BadSetting(Exception):
    """A setting that stops the start; its text is one line naming the variable, the value and what is allowed."""


def _row(default: Any, meaning: str, allowed: str = "", ge: int | None = None, le: int | None = None) -> Any:
    span = f"a whole number from {ge}" + ("" if le is None else f" to {le}")
    return Field(default=default, description=meaning, json_schema_extra={"allowed": allowed or span}, ge=ge, le=le)


class Settings(BaseModel):
    """What the environment asks for. A field `name` is the variable `NAME`; an empty variable counts as unset."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    hf_token: SecretStr | None = _row(
        None, "Hugging Face token for the gated checkpoint (`HUGGINGFACE_HUB_TOKEN` works too)", "a token"
    )
    sam3_model: str = _row(
        "facebook/sam3",
        "Checkpoint: a Hugging Face repository, a folder on this machine or in a bucket, or `embedded` "
        "(a tiny model that ships with the code)",
        "a repository, a folder, gs://bucket/prefix or embedded",
    )
    sam3_revision: str | None = _row(
        None,
        "Pins the checkpoint: a commit, tag or branch of a repository, or the revision that a folder has in results",
        "a commit, tag, branch or revision",
    )
    sam3_cache_dir: str | None = _row(
        None,
        "Keeps what was fetched from gs://; unset: a temporary folder, given up once the weights are on a GPU",
        "a folder",
    )
    sam3_engine: Literal["transformers", "sam3"] = _row(
        "transformers",
        "Code that runs the model: transformers, or Meta's own `sam3` package with its `sam3.pt` (extra `official`)",
        "transformers or sam3",
    )
    sam3_device: Literal["auto", "cuda", "cpu"] = _row(
        "auto", "Where the model runs; `auto` takes a GPU when there is one", "auto, cuda or cpu"
    )
    sam3_dtype: Literal["auto", "float32", "bfloat16", "float16"] = _row(
        "auto",
        "Precision; `auto` is float32 on a CPU and bfloat16 or float16 on a GPU",
        "auto, float32, bfloat16 or float16",
    )
    sam3_compile: bool = _row(
        False,
        "Compile the vision encoder at the start (torch.compile; needs a C++ compiler and a minute or more)",
        "true or false",
    )
    sam3_prompt_batch: int = _row(0, "Prompts that share one forward; 0 chooses 8 on a GPU and 4 on a CPU", ge=0, le=64)
    sam3_image_batch: int = _row(
        0, "Images in one forward of the vision encoder; 0 chooses 4 on a GPU and 1 on a CPU", ge=0, le=64
    )
    batch_join_ms: int = _row(
        3, "Milliseconds that an idle model waits for requests that are being decoded, to join them", ge=0, le=1000
    )
    text_cache_bytes: int = _row(
        64 * _MIB, "Features of phrases that stay encoded, least recently used out first", ge=0
    )
    mask_memory_bytes: int = _row(
        1024 * _MIB, "Mask logits of finished prompts; while there are more, no further event is begun", ge=1
    )
    torch_num_threads: int = _row(0, "CPU threads of torch; 0 leaves the choice to torch", ge=0, le=1024)

    port: int = _row(8080, "Port of the HTTP server", ge=1, le=65535)
    web_threads: int = _row(
        32, "Requests handled at a time; keep it a few above the platform's concurrency", ge=2, le=1000
    )
    queue_size: int = _row(
        16, "Requests, and as many events, that wait for the model or run; one more is answered 429", ge=1, le=1000
    )
    request_timeout_s: int = _row(
        300, "Seconds after which a request is given up with 503; keep it below the platform's timeout", ge=1, le=3600
    )
    read_timeout_s: int = _row(
        20,
        "Seconds that a request's head may take; a body or answer has as many and one more for each 64 KiB",
        ge=1,
        le=3600,
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _row(
        "INFO", "Least severity that is logged", "DEBUG, INFO, WARNING or ERROR"
    )
    google_cloud_project: str | None = _row(
        None,
        "Project of the traces that log lines belong to; unset: lines name a trace by its id alone",
        "a project id",
    )
    otel_exporter_otlp_endpoint: Annotated[str, Field(pattern=r"^https?://[^/]+")] | None = _row(
        None,
        "Where traces are sent, by OTLP over HTTP (extra `tracing`); OpenTelemetry's other variables work too",
        "http://host:port or https://host",
    )

    max_prompts: int = _row(64, "Prompts in one request or sidecar", ge=1, le=1000)
    max_prompt_chars: int = _row(1000, "Characters in one prompt", ge=1, le=100_000)
    max_boxes: int = _row(16, "Exemplar boxes of one prompt", ge=0, le=100)
    max_pixels: int = _row(100_000_000, "Width × height of an image", ge=1, le=1_000_000_000)
    max_body_bytes: int = _row(32 * _MIB, "Bytes of a request; Cloud Run itself refuses more than 32 MiB", ge=1024)
    max_total_instances: int = _row(1000, "Instances in the answer of `/segment`, over all prompts", ge=1)
    max_response_bytes: int = _row(28 * _MIB, "Bytes of the answer of `/segment`", ge=1024)
    max_object_bytes: int = _row(64 * _MIB, "Bytes of an image in a bucket", ge=1024)
    max_sidecar_bytes: int = _row(_MIB, "Bytes of a sidecar", ge=64)

    input_buckets: tuple[str, ...] = _row(
        (), "Buckets whose uploads are segmented; none turns events off", "bucket names, separated by commas"
    )
    input_prefix: str = _row("", "Only objects whose name begins so", "the beginning of an object name")
    output_bucket: str | None = _row(None, "Bucket of the results; needed with `INPUT_BUCKETS`", "a bucket name")
    output_prefix: str = _row(
        "",
        "Beginning of a result's name; `{bucket}` in it becomes the input bucket",
        "the beginning of an object name",
    )
    read_buckets: tuple[str, ...] = _row(
        (),
        "Buckets that a job's image and an `image_uri` may lie in, with `JOBS_TOPIC` all input buckets among them; "
        "unset: the input buckets and the output bucket",
        "bucket names, separated by commas",
    )
    write_buckets: tuple[str, ...] = _row(
        (),
        "Buckets that the `output` of a job or sidecar may lie in; unset: the output bucket",
        "bucket names, separated by commas",
    )
    default_prompts: str | None = _row(
        None, "Prompts of an image that has none of its own and none in its folders", "a JSON list of prompts, or one"
    )
    jobs_topic: TopicName | None = _row(
        None, "Topic of jobs; a folder's `_prompts.json` needs it to reach the images that are there already", _TOPIC
    )
    results_topic: TopicName | None = _row(None, "Topic of the results messages; unset: no messages", _TOPIC)
    dead_letter_topic: TopicName | None = _row(
        None, "Topic for events that cannot be read; unset: they are answered 400", _TOPIC
    )
    push_auth: Literal["iam", "oidc"] = _row(
        "iam",
        "Who checks the tokens of pushes: `iam`, the platform before they come here (Cloud Run); `oidc`, this service",
        "iam or oidc",
    )
    push_audience: str | None = _row(
        None, "The audience of the tokens; needed with `oidc`", "the audience as set there"
    )
    push_service_account: Address | None = _row(
        None,
        "The account whose tokens may push; needed with `oidc`; unset with `iam`: whoever the platform lets in",
        "a service account's e-mail address",
    )
    event_wait_s: int = _row(
        240, "Seconds that an event may wait for a place in the queue; below `EVENT_TIMEOUT_S`", ge=0, le=600
    )
    event_timeout_s: int = _row(
        540, "Seconds that an event has from its arrival to its answer; keep it below the ack deadline", ge=1, le=600
    )

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings; BadSetting names the first variable that is wrong, and never shows a token."""
        found = {field: _lookup(env, field.upper()) for field in cls.model_fields}
        try:
            return cls.model_validate({field: value for field, value in found.items() if value})
        except ValidationError as error:
            raise BadSetting(_explain(error, found)) from None

    @classmethod
    def or_exit(cls) -> Settings:
        """Read this process's environment; a bad setting is one line on stderr and the end of it (FAILED_START)."""
        try:
            return cls.from_environment(os.environ)
        except BadSetting as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(FAILED_START) from None

    @property
    def unused_topics(self) -> tuple[str, ...]:
        """The variables of topics that have no use, as events are off."""
        topics = ("jobs_topic", "results_topic", "dead_letter_topic")
        return () if self.input_buckets else tuple(name.upper() for name in topics if getattr(self, name))

    @property
    def limits(self) -> Limits:
        """What one request may ask for, with the defaults of READ_BUCKETS and WRITE_BUCKETS."""
        outputs = (self.output_bucket,) if self.output_bucket else ()
        return Limits(
            self.max_prompts,
            self.max_prompt_chars,
            self.max_boxes,
            read_buckets=self.read_buckets or tuple(dict.fromkeys((*self.input_buckets, *outputs))),
            write_buckets=self.write_buckets or outputs,
        )

    @property
    def rules(self) -> Rules:
        """Where inputs come from and outputs go."""
        return Rules(self.input_buckets, self.input_prefix, self.output_bucket or "", self.output_prefix)

    @field_validator("input_buckets", "read_buckets", "write_buckets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = tuple(part.strip() for part in value.split(",") if part.strip())
        if not names:
            raise ValueError("it names no bucket")
        return names

    @field_validator("input_buckets", "output_bucket", "read_buckets", "write_buckets")
    @classmethod
    def _named_like_buckets(cls, value: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        for name in (value,) if isinstance(value, str) else value or ():
            if not _BUCKET.fullmatch(name):
                raise ValueError(f"{name!r} is no bucket name ({BUCKET_RULE}; without gs:// and without a slash)")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _default_prompts_can_be_read(self) -> Settings:
        if self.default_prompts is None:
            return self
        try:
            parse_defaults(self.default_prompts, self.limits)
        except ValueError as error:
            value = self.default_prompts
            shown = repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")
            raise ValueError(
                f"DEFAULT_PROMPTS: {shown} is not allowed; allowed: a JSON list of prompts, or one; {error}"
            ) from None
        return self

    @model_validator(mode="after")
    def _oidc_is_told_whom_to_expect(self) -> Settings:
        for name, what in (("push_audience", "the audience"), ("push_service_account", "the e-mail address")):
            if self.push_auth == "oidc" and not getattr(self, name):
                raise ValueError(
                    f"{name.upper()}: '' is not allowed with PUSH_AUTH=oidc; allowed: {what} of the tokens"
                )
        return self

    @model_validator(mode="after")
    def _waiting_leaves_time_for_work(self) -> Settings:
        """What an event waits is part of its time. The default gives way to a shorter EVENT_TIMEOUT_S by itself."""
        if "event_wait_s" in self.model_fields_set and self.event_wait_s >= self.event_timeout_s:
            raise ValueError(
                f"EVENT_WAIT_S: '{self.event_wait_s}' is not allowed with EVENT_TIMEOUT_S={self.event_timeout_s}; "
                f"allowed: a whole number from 0 to {self.event_timeout_s - 1}"
            )
        return self

    @model_validator(mode="after")
    def _own_jobs_may_be_read(self) -> Settings:
        """A folder's prompts make a job for each image in an input bucket; a refused job is a dead letter."""
        missing = [bucket for bucket in self.input_buckets if bucket not in self.read_buckets]
        if self.jobs_topic and self.read_buckets and missing:
            raise ValueError(
                f"READ_BUCKETS: {','.join(self.read_buckets)!r} is not allowed with JOBS_TOPIC; "
                f"allowed: bucket names with all INPUT_BUCKETS among them ({', '.join(missing)} too)"
            )
        return self

    @model_validator(mode="after")
    def _outputs_have_a_place(self) -> Settings:
        if self.input_buckets and not self.output_bucket:
            raise ValueError("OUTPUT_BUCKET: '' is not allowed with INPUT_BUCKETS; allowed: a bucket name")
        if len(self.input_buckets) > 1 and "{bucket}" not in self.output_prefix:
            raise _bad_prefix(self.output_prefix, "a prefix with {bucket} in it, as there are several INPUT_BUCKETS")
        return self

    @model_validator(mode="after")
    def _outputs_are_no_inputs(self) -> Settings:
        """Everything under the output prefix is ignored as input, so it must leave room for inputs."""
        if self.output_bucket not in self.input_buckets:
            return self
        for bucket in self.input_buckets:
            if self.input_prefix.startswith(expand_prefix(self.output_prefix, bucket)):
                raise _bad_prefix(
                    self.output_prefix,
                    "a prefix such as results/ that is no beginning of INPUT_PREFIX (OUTPUT_BUCKET is an input bucket)",
                )
        return self


def _bad_prefix(value: str, allowed: str) -> ValueError:
    return ValueError(f"OUTPUT_PREFIX: {value!r} is not allowed; allowed: {allowed}")


def variable(env: Mapping[str, str], name: str) -> str:
    """The variable that sets `NAME` here, itself or another name for it; "" when none does."""
    return next((each for each in (name, *_ALIASES.get(name, ())) if env.get(each, "").strip()), "")


def _lookup(env: Mapping[str, str], name: str) -> str:
    return env.get(variable(env, name), "").strip()


def _explain(error: ValidationError, found: Mapping[str, str]) -> str:
    first = error.errors()[0]
    if not first["loc"]:
        return str(first["ctx"]["error"])
    field = str(first["loc"][0])
    info = Settings.model_fields[field]
    shown = "a value" if info.annotation == SecretStr | None else repr(found[field])
    reason = f"; {first['ctx']['error']}" if first["type"] == "value_error" else ""
    return f"{field.upper()}: {shown} is not allowed; allowed: {_allowed(info)}{reason}"


def _allowed(info: FieldInfo) -> str:
    extra = info.json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["allowed"])


def settings_table() -> str:
    """The Markdown table of every setting, as docs/settings.md shows it."""
    rows = [
        f"| `{name.upper()}` | {_allowed(info)} | {_shown(info.default)} | {info.description} |"
        for name, info in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | allowed | default | meaning |", "|---|---|---|---|", *rows]) + "\n"


def _shown(default: object) -> str:
    return "–" if default in (None, "", ()) else f"`{default}`"
