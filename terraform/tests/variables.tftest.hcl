# Bad values are refused, each by the variable that is wrong.

mock_provider "google" {
  source = "./tests/mocks"
}

mock_provider "google" {
  alias  = "billing"
  source = "./tests/mocks"
}

variables {
  project_id = "my-project"
  region     = "us-central1"
}

run "the_largest_and_smallest_are_allowed" {
  command = plan
  variables {
    project_id                = "abc-12"
    image                     = "us-central1-docker.pkg.dev/p/r/sam3-service:1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    name                      = "abcdefghijklmnopqrst"
    min_instances             = 100
    max_instances             = 100
    concurrency               = 250
    pull_instances            = { uploads = 100, jobs = 1 }
    default_prompts           = [for number in range(64) : "cup ${number}"]
    results_subscriptions     = { long = join("", [for number in range(256) : "x"]) }
    alert_backlog_age_s       = 604800
    soft_delete_days          = 90
    delete_inputs_after_days  = 1
    delete_outputs_after_days = 1
    job_publishers            = ["group:a@example.com", "principalSet:iam.googleapis.com/x"]
    budget                    = { billing_account = "012345-6789AB-CDEF01", monthly = 1, currency = "EUR" }
  }
}

run "the_smallest_are_allowed" {
  command = plan
  variables {
    name                  = "abc"
    model_revision        = "1"
    hf_token_secret       = "t"
    hf_token_version      = "1"
    min_instances         = 0
    max_instances         = 1
    soft_delete_days      = 0
    concurrency           = 1
    input_buckets         = ["abc"]
    results_subscriptions = { a = "" }
    labels                = { a = "" }
    alert_backlog_age_s   = 60
  }
}

run "a_region_may_have_two_digits" {
  command = plan
  variables {
    region = "europe-west10"
  }
  expect_failures = [check.region] # and not var.region
}

run "ten_is_a_version_too" {
  command = plan
  variables {
    hf_token_version = "10"
  }
}

run "project_number" {
  command = plan
  variables {
    project_id = "123456789012"
  }
  expect_failures = [var.project_id]
}

run "image_without_tag" {
  command = plan
  variables {
    image = "us-central1-docker.pkg.dev/p/r/sam3-service"
  }
  expect_failures = [var.image]
}

run "image_latest" {
  command = plan
  variables {
    image = "us-central1-docker.pkg.dev/p/r/sam3-service:latest"
  }
  expect_failures = [var.image]
}

run "image_short_digest" {
  command = plan
  variables {
    image = "us-central1-docker.pkg.dev/p/r/sam3-service@sha256:0123"
  }
  expect_failures = [var.image]
}

run "image_with_scheme" {
  command = plan
  variables {
    image = "https://us-central1-docker.pkg.dev/p/r/sam3-service:1"
  }
  expect_failures = [var.image]
}

run "region_zone" {
  command = plan
  variables {
    region = "us-central1-a"
  }
  expect_failures = [var.region]
}

run "region_multi" {
  command = plan
  variables {
    region = "EU"
  }
  expect_failures = [var.region]
}

run "name_too_long" {
  command = plan
  variables {
    name = "abcdefghijklmnopqrstu"
  }
  expect_failures = [var.name]
}

run "name_upper" {
  command = plan
  variables {
    name = "Sam3"
  }
  expect_failures = [var.name]
}

run "model_word" {
  command = plan
  variables {
    model = "sam3"
  }
  expect_failures = [var.model]
}

run "model_bucket_alone" {
  command = plan
  variables {
    model = "gs://my-project-sam3-service-models"
  }
  expect_failures = [var.model]
}

run "model_elsewhere" {
  command = plan
  variables {
    model = "gs://elsewhere/sam3"
  }
  expect_failures = [var.model]
}

run "model_revision_empty" {
  command = plan
  variables {
    model_revision = ""
  }
  expect_failures = [var.model_revision]
}

run "secret_path" {
  command = plan
  variables {
    hf_token_secret = "projects/p/secrets/s"
  }
  expect_failures = [var.hf_token_secret]
}

run "secret_version_zero" {
  command = plan
  variables {
    hf_token_version = "0"
  }
  expect_failures = [var.hf_token_version]
}

run "accelerator_unknown" {
  command = plan
  variables {
    accelerator = "nvidia-t4"
  }
  expect_failures = [var.accelerator]
}

run "image_flavour_unknown" {
  command = plan
  variables {
    image_flavour = "cu124"
  }
  expect_failures = [var.image_flavour]
}

run "min_instances_negative" {
  command = plan
  variables {
    min_instances = -1
  }
  expect_failures = [var.min_instances]
}

run "min_instances_fraction" {
  command = plan
  variables {
    min_instances = 0.5
  }
  expect_failures = [var.min_instances]
}

run "min_instances_many" {
  command = plan
  variables {
    min_instances = 101
    max_instances = 101
  }
  expect_failures = [var.min_instances]
}

run "max_instances_zero" {
  command = plan
  variables {
    max_instances = 0
  }
  expect_failures = [var.max_instances]
}

run "max_instances_fraction" {
  command = plan
  variables {
    max_instances = 1.5
  }
  expect_failures = [var.max_instances]
}

run "max_instances_many" {
  command = plan
  variables {
    max_instances = 101
  }
  expect_failures = [var.max_instances]
}

run "max_instances_below_min" {
  command = plan
  variables {
    max_instances = 2
    min_instances = 3
  }
  expect_failures = [var.max_instances]
}

run "concurrency_zero" {
  command = plan
  variables {
    concurrency = 0
  }
  expect_failures = [var.concurrency]
}

run "concurrency_fraction" {
  command = plan
  variables {
    concurrency = 1.5
  }
  expect_failures = [var.concurrency]
}

run "concurrency_many" {
  command = plan
  variables {
    concurrency = 251
  }
  expect_failures = [var.concurrency]
}

run "pull_unknown_topic" {
  command = plan
  variables {
    pull_instances = { results = 1 }
  }
  expect_failures = [var.pull_instances]
}

run "pull_zero" {
  command = plan
  variables {
    pull_instances = { jobs = 0 }
  }
  expect_failures = [var.pull_instances]
}

run "pull_fraction" {
  command = plan
  variables {
    pull_instances = { jobs = 1.5 }
  }
  expect_failures = [var.pull_instances]
}

run "pull_many" {
  command = plan
  variables {
    pull_instances = { jobs = 101 }
  }
  expect_failures = [var.pull_instances]
}

run "input_bucket_url" {
  command = plan
  variables {
    input_buckets = ["gs://photos"]
  }
  expect_failures = [var.input_buckets]
}

run "input_bucket_twice" {
  command = plan
  variables {
    input_buckets = ["photos", "photos"]
    output_prefix = "{bucket}/"
  }
  expect_failures = [var.input_buckets]
}

run "input_prefix_slash" {
  command = plan
  variables {
    input_prefix = "/in"
  }
  expect_failures = [var.input_prefix]
}

run "output_bucket_url" {
  command = plan
  variables {
    output_bucket = "gs://results"
  }
  expect_failures = [var.output_bucket]
}

run "output_prefix_slash" {
  command = plan
  variables {
    output_prefix = "/out"
  }
  expect_failures = [var.output_prefix]
}

run "output_prefix_of_several" {
  command = plan
  variables {
    output_prefix = "results/"
    input_buckets = ["photos", "scans"]
  }
  expect_failures = [var.output_prefix]
}

run "output_prefix_over_inputs" {
  command = plan
  variables {
    output_prefix = "in/"
    input_buckets = ["photos"]
    output_bucket = "photos"
    input_prefix  = "in/"
  }
  expect_failures = [var.output_prefix]
}

run "output_prefix_hides_all_inputs" {
  command = plan
  variables {
    output_prefix = ""
    input_buckets = ["photos"]
    output_bucket = "photos"
  }
  expect_failures = [var.output_prefix]
}

run "model_bucket_url" {
  command = plan
  variables {
    model_bucket = "gs://models"
  }
  expect_failures = [var.model_bucket]
}

run "read_bucket_url" {
  command = plan
  variables {
    read_buckets = ["gs://archive"]
  }
  expect_failures = [var.read_buckets]
}

run "write_bucket_path" {
  command = plan
  variables {
    write_buckets = ["archive/old"]
  }
  expect_failures = [var.write_buckets]
}

run "default_prompt_empty" {
  command = plan
  variables {
    default_prompts = ["cup", " "]
  }
  expect_failures = [var.default_prompts]
}

run "default_prompts_many" {
  command = plan
  variables {
    default_prompts = [for number in range(65) : "cup ${number}"]
  }
  expect_failures = [var.default_prompts]
}

run "delete_inputs_zero" {
  command = plan
  variables {
    delete_inputs_after_days = 0
  }
  expect_failures = [var.delete_inputs_after_days]
}

run "delete_inputs_fraction" {
  command = plan
  variables {
    delete_inputs_after_days = 1.5
  }
  expect_failures = [var.delete_inputs_after_days]
}

run "delete_inputs_of_others" {
  command = plan
  variables {
    delete_inputs_after_days = 30
    input_buckets            = ["photos"]
  }
  expect_failures = [var.delete_inputs_after_days]
}

run "delete_outputs_zero" {
  command = plan
  variables {
    delete_outputs_after_days = 0
  }
  expect_failures = [var.delete_outputs_after_days]
}

run "delete_outputs_fraction" {
  command = plan
  variables {
    delete_outputs_after_days = 1.5
  }
  expect_failures = [var.delete_outputs_after_days]
}

run "delete_outputs_of_others" {
  command = plan
  variables {
    delete_outputs_after_days = 30
    output_bucket             = "results"
  }
  expect_failures = [var.delete_outputs_after_days]
}

run "soft_delete_short" {
  command = plan
  variables {
    soft_delete_days = 6
  }
  expect_failures = [var.soft_delete_days]
}

run "soft_delete_fraction" {
  command = plan
  variables {
    soft_delete_days = 7.5
  }
  expect_failures = [var.soft_delete_days]
}

run "soft_delete_long" {
  command = plan
  variables {
    soft_delete_days = 91
  }
  expect_failures = [var.soft_delete_days]
}

run "results_subscription_name" {
  command = plan
  variables {
    results_subscriptions = { Failed = "" }
  }
  expect_failures = [var.results_subscriptions]
}

run "results_subscription_filter" {
  command = plan
  variables {
    results_subscriptions = { long = join("", [for number in range(257) : "x"]) }
  }
  expect_failures = [var.results_subscriptions]
}

run "service_account_member" {
  command = plan
  variables {
    service_account = "serviceAccount:workers@my-project.iam.gserviceaccount.com"
  }
  expect_failures = [var.service_account]
}

run "service_account_person" {
  command = plan
  variables {
    service_account = "ann@example.com"
  }
  expect_failures = [var.service_account]
}

run "invoker_everybody" {
  command = plan
  variables {
    invokers = ["allUsers"]
  }
  expect_failures = [var.invokers]
}

run "invoker_anybody_with_an_account" {
  command = plan
  variables {
    invokers = ["allAuthenticatedUsers"]
  }
  expect_failures = [var.invokers]
}

run "invoker_address" {
  command = plan
  variables {
    invokers = ["ann@example.com"]
  }
  expect_failures = [var.invokers]
}

run "job_publisher_everybody" {
  command = plan
  variables {
    job_publishers = ["allUsers"]
  }
  expect_failures = [var.job_publishers]
}

run "ingress_unknown" {
  command = plan
  variables {
    ingress = "none"
  }
  expect_failures = [var.ingress]
}

run "log_level_unknown" {
  command = plan
  variables {
    log_level = "TRACE"
  }
  expect_failures = [var.log_level]
}

run "environment_of_another_variable" {
  command = plan
  variables {
    environment = { OUTPUT_PREFIX = "out/" }
  }
  expect_failures = [var.environment]
}

run "environment_token" {
  command = plan
  variables {
    environment = { HF_TOKEN = "secret" }
  }
  expect_failures = [var.environment]
}

run "environment_port" {
  command = plan
  variables {
    environment = { PORT = "80" }
  }
  expect_failures = [var.environment]
}

run "label_upper" {
  command = plan
  variables {
    labels = { Team = "vision" }
  }
  expect_failures = [var.labels]
}

run "label_value" {
  command = plan
  variables {
    labels = { team = "Vision Team" }
  }
  expect_failures = [var.labels]
}

run "alert_address" {
  command = plan
  variables {
    alert_emails = ["ops"]
  }
  expect_failures = [var.alert_emails]
}

run "backlog_age_small" {
  command = plan
  variables {
    alert_backlog_age_s = 59
  }
  expect_failures = [var.alert_backlog_age_s]
}

run "backlog_age_large" {
  command = plan
  variables {
    alert_backlog_age_s = 604801
  }
  expect_failures = [var.alert_backlog_age_s]
}

run "budget_account" {
  command = plan
  variables {
    budget = { billing_account = "mine", monthly = 1 }
  }
  expect_failures = [var.budget]
}

run "budget_zero" {
  command = plan
  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", monthly = 0 }
  }
  expect_failures = [var.budget]
}

run "budget_fraction" {
  command = plan
  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", monthly = 1.5 }
  }
  expect_failures = [var.budget]
}

run "budget_currency" {
  command = plan
  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", monthly = 1, currency = "euro" }
  }
  expect_failures = [var.budget]
}

run "image_flavour_of_the_l4_only" {
  command = plan
  variables {
    accelerator   = "nvidia-rtx-pro-6000"
    image_flavour = "cu126"
  }
  expect_failures = [var.image_flavour]
}

run "image_flavours_of_the_rtx_pro_6000" {
  command = plan
  variables {
    accelerator   = "nvidia-rtx-pro-6000"
    image_flavour = "cu128"
  }
}

run "project_id_too_long" {
  command = plan
  variables {
    project_id = "abcdefghijklmnopqrstuvwxyz12345"
  }
  expect_failures = [var.project_id]
}

run "secret_too_long" {
  command = plan
  variables {
    hf_token_secret = join("", [for number in range(256) : "x"])
  }
  expect_failures = [var.hf_token_secret]
}

run "results_subscription_name_too_long" {
  command = plan
  variables {
    results_subscriptions = { (join("", [for number in range(42) : "x"])) = "" }
  }
  expect_failures = [var.results_subscriptions]
}

run "label_key_too_long" {
  command = plan
  variables {
    labels = { (join("", [for number in range(64) : "x"])) = "vision" }
  }
  expect_failures = [var.labels]
}

run "label_value_too_long" {
  command = plan
  variables {
    labels = { team = join("", [for number in range(64) : "x"]) }
  }
  expect_failures = [var.labels]
}

run "bucket_too_long" {
  command = plan
  variables {
    input_buckets = [join("", [for number in range(223) : "x"])]
  }
  expect_failures = [var.input_buckets]
}
