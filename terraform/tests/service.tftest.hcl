# The service and the machine that it runs on.

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
  image      = "us-central1-docker.pkg.dev/my-project/sam3-service/sam3-service:1"
}

run "scales_to_zero_on_an_l4" {
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].scaling[0].min_instance_count == 0 && google_cloud_run_v2_service.service[0].template[0].scaling[0].max_instance_count == 1
    error_message = "Idle costs nothing, and one instance fits the memory that a new project is allowed."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].node_selector[0].accelerator == "nvidia-l4" && google_cloud_run_v2_service.service[0].template[0].containers[0].resources[0].limits == tomap({ cpu = "8", memory = "32Gi", "nvidia.com/gpu" = "1" })
    error_message = "An L4 comes with 8 CPUs and 32 GiB."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].launch_stage == "GA" && google_cloud_run_v2_service.service[0].template[0].gpu_zonal_redundancy_disabled == true && google_cloud_run_v2_service.service[0].template[0].execution_environment == "EXECUTION_ENVIRONMENT_GEN2"
    error_message = "GPUs need the second generation; redundancy has its own price and quota."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].containers[0].resources[0].cpu_idle == false && google_cloud_run_v2_service.service[0].template[0].containers[0].resources[0].startup_cpu_boost == true
    error_message = "A GPU is billed by the instance, and its CPU must not be throttled."
  }
}

run "rtx_pro_6000" {
  variables {
    accelerator      = "nvidia-rtx-pro-6000"
    image_flavour    = "cu130"
    zonal_redundancy = true
    min_instances    = 1
    max_instances    = 3
    pull_instances   = { uploads = 1 }
  }

  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].node_selector[0].accelerator == "nvidia-rtx-pro-6000" && google_cloud_run_v2_service.service[0].template[0].containers[0].resources[0].limits == tomap({ cpu = "20", memory = "80Gi", "nvidia.com/gpu" = "1" })
    error_message = "An RTX PRO 6000 comes with 20 CPUs and 80 GiB."
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.pull["uploads"].template[0].node_selector[0].accelerator == "nvidia-rtx-pro-6000" && google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].resources[0].limits == tomap({ cpu = "20", memory = "80Gi", "nvidia.com/gpu" = "1" })
    error_message = "Worker pools have the same machine."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].gpu_zonal_redundancy_disabled == false && google_cloud_run_v2_worker_pool.pull["uploads"].template[0].gpu_zonal_redundancy_disabled == false
    error_message = "Redundancy can be had."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].scaling[0].min_instance_count == 1 && google_cloud_run_v2_service.service[0].template[0].scaling[0].max_instance_count == 3
    error_message = "Instances are as asked for."
  }
}

run "a_region_without_the_gpu_is_told_before_anything_is_in_it" {
  command = plan
  variables {
    region = "europe-west3"
  }
  expect_failures = [check.region]
}

run "cuda_of_the_image_fits_the_gpu" {
  command = plan
  variables {
    accelerator = "nvidia-rtx-pro-6000"
  }
  expect_failures = [var.image_flavour]
}

run "later_cuda_does_not_run_on_an_l4" {
  command = plan
  variables {
    image_flavour = "cu128"
  }
  expect_failures = [var.image_flavour]
}

run "requests_match_the_batcher" {
  variables {
    concurrency = 16
  }

  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].max_instance_request_concurrency == 16 && local.settings.QUEUE_SIZE == "16"
    error_message = "The model's queue has a place for each request that Cloud Run sends."
  }
  assert {
    condition     = local.http_settings.WEB_THREADS == "20"
    error_message = "Probes need threads beside those of the requests."
  }
}

run "probes" {
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].containers[0].startup_probe[0].http_get[0].path == "/ready" && google_cloud_run_v2_service.service[0].template[0].containers[0].startup_probe[0].http_get[0].port == 8080
    error_message = "An instance gets requests when its model answers."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].containers[0].startup_probe[0].period_seconds * google_cloud_run_v2_service.service[0].template[0].containers[0].startup_probe[0].failure_threshold == 240 && google_cloud_run_v2_service.service[0].template[0].containers[0].startup_probe[0].period_seconds == 10
    error_message = "A start has 240 s, which is all that Cloud Run always accepts."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].containers[0].startup_probe[0].timeout_seconds == 5
    error_message = "A startup probe waits 5 s."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].containers[0].liveness_probe[0].http_get[0].path == "/health" && google_cloud_run_v2_service.service[0].template[0].containers[0].liveness_probe[0].http_get[0].port == 8080
    error_message = "An instance whose engine is dead is replaced."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].containers[0].liveness_probe[0].period_seconds == 30 && google_cloud_run_v2_service.service[0].template[0].containers[0].liveness_probe[0].timeout_seconds == 10 && google_cloud_run_v2_service.service[0].template[0].containers[0].liveness_probe[0].failure_threshold == 3
    error_message = "A busy instance is not taken for dead."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].containers[0].ports[0].container_port == 8080
    error_message = "The service listens on 8080."
  }
}

run "settings" {
  assert {
    condition = { for env in google_cloud_run_v2_service.service[0].template[0].containers[0].env : env.name => env.value if env.name != "HF_TOKEN" } == {
      SAM3_MODEL           = "facebook/sam3"
      INPUT_BUCKETS        = "my-project-sam3-service-input"
      OUTPUT_BUCKET        = "my-project-sam3-service-output"
      JOBS_TOPIC           = "projects/my-project/topics/jobs"
      RESULTS_TOPIC        = "projects/my-project/topics/results"
      DEAD_LETTER_TOPIC    = "projects/my-project/topics/dead-letters"
      QUEUE_SIZE           = "8"
      WEB_THREADS          = "12"
      REQUEST_TIMEOUT_S    = "300"
      EVENT_TIMEOUT_S      = "540"
      LOG_LEVEL            = "INFO"
      PUSH_AUTH            = "iam"
      PUSH_SERVICE_ACCOUNT = "push@my-project.iam.gserviceaccount.com"
      GOOGLE_CLOUD_PROJECT = "my-project"
    }
    error_message = "The service is told where everything is, and nothing that it knows by itself."
  }
}

run "all_settings" {
  variables {
    model_revision  = "abc123"
    input_prefix    = "in/"
    output_prefix   = "out/"
    default_prompts = ["mug cup", "plate"]
    read_buckets    = ["pictures"]
    write_buckets   = ["elsewhere"]
    log_level       = "DEBUG"
    environment     = { SAM3_IMAGE_BATCH = "8" }
    pull_instances  = { uploads = 1 }
  }

  assert {
    condition = { for env in google_cloud_run_v2_service.service[0].template[0].containers[0].env : env.name => env.value if contains([
      "SAM3_REVISION", "INPUT_PREFIX", "OUTPUT_PREFIX", "DEFAULT_PROMPTS", "READ_BUCKETS", "WRITE_BUCKETS", "LOG_LEVEL", "SAM3_IMAGE_BATCH",
      ], env.name) } == {
      SAM3_REVISION    = "abc123"
      INPUT_PREFIX     = "in/"
      OUTPUT_PREFIX    = "out/"
      DEFAULT_PROMPTS  = "[\"mug cup\",\"plate\"]"
      READ_BUCKETS     = "my-project-sam3-service-input,my-project-sam3-service-output,pictures"
      WRITE_BUCKETS    = "my-project-sam3-service-output,elsewhere"
      LOG_LEVEL        = "DEBUG"
      SAM3_IMAGE_BATCH = "8"
    }
    error_message = "Each variable reaches its setting."
  }
  assert {
    condition     = setsubtract([for env in google_cloud_run_v2_service.service[0].template[0].containers[0].env : env.name], [for env in google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].env : env.name]) == toset(["PUSH_AUTH", "PUSH_SERVICE_ACCOUNT", "WEB_THREADS"])
    error_message = "Worker pools have the settings of the service but for HTTP."
  }
  assert {
    condition     = setsubtract(local.own_settings, ["HF_TOKEN", "HUGGINGFACE_HUB_TOKEN", "PORT"]) == toset(keys(merge(local.settings, local.http_settings)))
    error_message = "own_settings lists what environment may not set: all that is set here."
  }
}

run "the_token_is_for_the_hub" {
  variables {
    hf_token_secret  = "my-token"
    hf_token_version = "3"
  }

  assert {
    condition     = [for env in google_cloud_run_v2_service.service[0].template[0].containers[0].env : "${env.value_source[0].secret_key_ref[0].secret} ${env.value_source[0].secret_key_ref[0].version}" if env.name == "HF_TOKEN"] == ["my-token 3"]
    error_message = "The token comes from the secret."
  }
  assert {
    condition     = length(google_secret_manager_secret_iam_member.runtime) == 1 && google_secret_manager_secret_iam_member.runtime[0].role == "roles/secretmanager.secretAccessor" && google_secret_manager_secret_iam_member.runtime[0].member == "serviceAccount:runtime@my-project.iam.gserviceaccount.com" && google_secret_manager_secret_iam_member.runtime[0].secret_id == google_secret_manager_secret.hf_token.id
    error_message = "The service may read its secret."
  }
}

run "embedded_needs_no_token" {
  variables {
    model          = "embedded"
    pull_instances = { uploads = 1 }
  }

  assert {
    condition     = !contains([for env in concat(tolist(google_cloud_run_v2_service.service[0].template[0].containers[0].env), tolist(google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].env)) : env.name], "HF_TOKEN") && length(google_secret_manager_secret_iam_member.runtime) == 0
    error_message = "A secret without a version would fail the start, and nobody reads what he does not need."
  }
}

run "a_stored_model_needs_no_token" {
  variables {
    model = "gs://my-project-sam3-service-models/sam3"
  }

  assert {
    condition     = !contains([for env in google_cloud_run_v2_service.service[0].template[0].containers[0].env : env.name], "HF_TOKEN") && length(google_secret_manager_secret_iam_member.runtime) == 0
    error_message = "A secret without a version would fail the start, and nobody reads what he does not need."
  }
}

run "a_baked_model_needs_no_token" {
  variables {
    model = "/opt/sam3"
  }

  assert {
    condition     = !contains([for env in google_cloud_run_v2_service.service[0].template[0].containers[0].env : env.name], "HF_TOKEN") && length(google_secret_manager_secret_iam_member.runtime) == 0
    error_message = "A secret without a version would fail the start, and nobody reads what he does not need."
  }
}

run "protection" {
  variables {
    pull_instances = { jobs = 1 }
  }

  assert {
    condition     = google_cloud_run_v2_service.service[0].deletion_protection == true
    error_message = "Nobody destroys the service by mistake."
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.pull["jobs"].deletion_protection == false
    error_message = "Back to push is one apply."
  }
}

run "protection_can_be_lifted" {
  variables {
    deletion_protection = false
  }

  assert {
    condition     = google_cloud_run_v2_service.service[0].deletion_protection == false
    error_message = "Who wants to destroy can."
  }
}
