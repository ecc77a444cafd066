# Pull instead of push.

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

run "pushes_by_default" {
  assert {
    condition     = length(google_cloud_run_v2_worker_pool.pull) == 0 && length(google_pubsub_subscription_iam_member.runtime_pulls) == 0
    error_message = "Nothing pulls unless asked to."
  }
}

run "one_pool_for_each_topic" {
  variables {
    pull_instances = { uploads = 2 }
  }

  assert {
    condition     = length(google_pubsub_subscription.work["uploads"].push_config) == 0 && length(google_pubsub_subscription.work["jobs"].push_config) == 1
    error_message = "What is pulled is not pushed, and the other still is."
  }
  assert {
    condition     = google_pubsub_subscription_iam_member.runtime_pulls["uploads"].subscription == "sam3-service-uploads" && google_pubsub_subscription_iam_member.runtime_pulls["uploads"].role == "roles/pubsub.subscriber" && google_pubsub_subscription_iam_member.runtime_pulls["uploads"].member == "serviceAccount:runtime@my-project.iam.gserviceaccount.com"
    error_message = "Who pulls must be allowed to."
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.pull["uploads"].name == "sam3-service-pull-uploads" && google_cloud_run_v2_worker_pool.pull["uploads"].location == "us-central1" && google_cloud_run_v2_worker_pool.pull["uploads"].launch_stage == "BETA"
    error_message = "The pool is wrong."
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.pull["uploads"].scaling[0].scaling_mode == "MANUAL" && google_cloud_run_v2_worker_pool.pull["uploads"].scaling[0].manual_instance_count == 2
    error_message = "Pools with GPUs do not scale by themselves."
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.pull["uploads"].template[0].service_account == "runtime@my-project.iam.gserviceaccount.com" && google_cloud_run_v2_worker_pool.pull["uploads"].template[0].gpu_zonal_redundancy_disabled == true
    error_message = "The pool runs as the service does."
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.pull["uploads"].template[0].node_selector[0].accelerator == "nvidia-l4" && google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].resources[0].limits == tomap({ cpu = "8", memory = "32Gi", "nvidia.com/gpu" = "1" })
    error_message = "The pool has the machine of the service."
  }
  assert {
    condition     = concat(google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].command, google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].args) == tolist(["python", "-m", "service.pull", "--subscription", "projects/my-project/subscriptions/uploads", "--health-port", "8080"])
    error_message = "The pool pulls its own subscription."
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].startup_probe[0].http_get[0].path == "/ready" && google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].startup_probe[0].http_get[0].port == 8080 && google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].startup_probe[0].timeout_seconds == 5
    error_message = "The start of a pool is watched as that of the service."
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].startup_probe[0].period_seconds == 10 && google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].startup_probe[0].failure_threshold == 24
    error_message = "A start has 240 s."
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].liveness_probe[0].http_get[0].path == "/health" && google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].liveness_probe[0].http_get[0].port == 8080
    error_message = "A pool whose engine is dead is replaced."
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].liveness_probe[0].period_seconds == 30 && google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].liveness_probe[0].timeout_seconds == 10 && google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].liveness_probe[0].failure_threshold == 3
    error_message = "A busy pool is not taken for dead."
  }
  assert {
    condition     = [for env in google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].env : "${env.value_source[0].secret_key_ref[0].secret} ${env.value_source[0].secret_key_ref[0].version}" if env.name == "HF_TOKEN"] == ["hf-token latest"]
    error_message = "A pool gets the token too."
  }
  assert {
    condition     = contains([for env in google_cloud_run_v2_worker_pool.pull["uploads"].template[0].containers[0].env : "${env.name}=${env.value}" if env.name != "HF_TOKEN"], "JOBS_TOPIC=projects/my-project/topics/jobs")
    error_message = "A pool gets the settings."
  }
}

run "both" {
  variables {
    pull_instances = { uploads = 1, jobs = 3 }
  }

  assert {
    condition     = alltrue([for it in google_pubsub_subscription.work : length(it.push_config) == 0]) && google_cloud_run_v2_worker_pool.pull["jobs"].scaling[0].manual_instance_count == 3
    error_message = "Both topics can be pulled."
  }
  assert {
    condition     = length(google_cloud_run_v2_service.service) == 1
    error_message = "/segment stays."
  }
}
