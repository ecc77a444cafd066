locals {
  # What the service and the worker pools are told; each is a row of docs/settings.md.
  settings = merge({
    SAM3_MODEL           = var.model
    INPUT_BUCKETS        = join(",", local.input_bucket_names)
    OUTPUT_BUCKET        = local.output_bucket_name
    JOBS_TOPIC           = google_pubsub_topic.all["jobs"].id
    RESULTS_TOPIC        = google_pubsub_topic.all["results"].id
    DEAD_LETTER_TOPIC    = google_pubsub_topic.all["dead-letters"].id
    QUEUE_SIZE           = tostring(var.concurrency)
    REQUEST_TIMEOUT_S    = "300"
    EVENT_TIMEOUT_S      = tostring(local.event_timeout_s)
    LOG_LEVEL            = var.log_level
    GOOGLE_CLOUD_PROJECT = var.project_id
    }, { for name, value in {
      SAM3_REVISION   = var.model_revision
      INPUT_PREFIX    = var.input_prefix
      OUTPUT_PREFIX   = var.output_prefix
      DEFAULT_PROMPTS = length(var.default_prompts) == 0 ? "" : jsonencode(var.default_prompts)
      # Unset they mean the input and output buckets, and the output bucket.
      READ_BUCKETS  = length(var.read_buckets) == 0 ? "" : join(",", concat(local.input_bucket_names, [local.output_bucket_name], var.read_buckets))
      WRITE_BUCKETS = length(var.write_buckets) == 0 ? "" : join(",", concat([local.output_bucket_name], var.write_buckets))
  } : name => value if value != null && value != "" })

  # The service alone answers HTTP: the platform checks its tokens, invokers may not push events as Pub/Sub does, and the
  # probes need threads of their own.
  http_settings = {
    PUSH_AUTH            = "iam"
    PUSH_SERVICE_ACCOUNT = google_service_account.push.email
    WEB_THREADS          = tostring(var.concurrency + 4)
  }

  # What `environment` may not set; PORT is the platform's.
  own_settings = concat(keys(local.http_settings), [
    "SAM3_MODEL", "SAM3_REVISION", "INPUT_BUCKETS", "INPUT_PREFIX", "OUTPUT_BUCKET", "OUTPUT_PREFIX", "READ_BUCKETS",
    "WRITE_BUCKETS", "DEFAULT_PROMPTS", "JOBS_TOPIC", "RESULTS_TOPIC", "DEAD_LETTER_TOPIC", "QUEUE_SIZE",
    "REQUEST_TIMEOUT_S", "EVENT_TIMEOUT_S", "LOG_LEVEL", "GOOGLE_CLOUD_PROJECT",
    "HF_TOKEN", "HUGGINGFACE_HUB_TOKEN", "PORT",
  ])

  # Which instance goes with a GPU, by https://cloud.google.com/run/docs/configuring/services/gpu: at least 4 CPUs and
  # 16 GiB with an L4, 20 and 80 with an RTX PRO 6000. Decoding and post-processing use what is above. The drivers are for
  # CUDA 12.2 and 13.0; builds for CUDA 12.6 have no code for the RTX PRO 6000.
  accelerators = {
    nvidia-l4 = {
      cpu            = "8"
      memory         = "32Gi"
      image_flavours = ["cu126"]
      launch_stage   = "GA"
      regions        = ["asia-southeast1", "europe-west1", "europe-west4", "us-east4", "asia-south1", "us-central1"]
    }
    nvidia-rtx-pro-6000 = {
      cpu            = "20"
      memory         = "80Gi"
      image_flavours = ["cu128", "cu129", "cu130"]
      launch_stage   = "BETA"
      regions        = ["asia-southeast1", "europe-west4", "us-central1", "asia-south2"]
    }
  }
  machine = local.accelerators[var.accelerator]
  limits = {
    "cpu"            = local.machine.cpu
    "memory"         = local.machine.memory
    "nvidia.com/gpu" = "1"
  }

  ingress = {
    all                    = "INGRESS_TRAFFIC_ALL"
    internal               = "INGRESS_TRAFFIC_INTERNAL_ONLY"
    internal-load-balancer = "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
  }

  # What tokens are made out for, known before the service has an address.
  audience = "${var.project_id}/${var.name}"
}

# A warning, for Google adds regions. It comes before buckets and images are in a region that they cannot leave.
check "region" {
  assert {
    condition     = contains(local.machine.regions, var.region)
    error_message = "region ${var.region} had no ${var.accelerator} when this was written, and nothing made here can be moved later: ${join(", ", local.machine.regions)} had."
  }
}
