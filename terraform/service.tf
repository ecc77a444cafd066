resource "google_cloud_run_v2_service" "service" {
  count = var.image == null ? 0 : 1

  name                = var.name
  location            = var.region
  ingress             = local.ingress[var.ingress]
  launch_stage        = local.machine.launch_stage
  custom_audiences    = [local.audience]
  deletion_protection = var.deletion_protection
  labels              = var.labels

  template {
    service_account                  = local.runtime_email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    max_instance_request_concurrency = var.concurrency
    timeout                          = "${local.service_timeout_s}s"
    gpu_zonal_redundancy_disabled    = !var.zonal_redundancy
    labels                           = var.labels

    node_selector {
      accelerator = var.accelerator
    }

    scaling {
      min_instance_count = var.min_instances
      max_instance_count = var.max_instances
    }

    containers {
      image = var.image

      ports {
        container_port = 8080
      }

      resources {
        limits            = local.limits
        cpu_idle          = false # GPUs are billed by the instance
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = merge(var.environment, local.settings, local.http_settings)
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = local.needs_token ? [google_secret_manager_secret.hf_token.secret_id] : []
        content {
          name = "HF_TOKEN"
          value_source {
            secret_key_ref {
              secret  = env.value
              version = var.hf_token_version
            }
          }
        }
      }

      # 240 s in all, which Cloud Run always accepts; requests come only when the model answers.
      startup_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 24
        http_get {
          path = "/ready"
          port = 8080
        }
      }

      liveness_probe {
        period_seconds    = 30
        timeout_seconds   = 10
        failure_threshold = 3
        http_get {
          path = "/health"
          port = 8080
        }
      }
    }
  }

  # A revision whose account cannot read its secret or its bucket is refused or does not start.
  depends_on = [
    google_secret_manager_secret_iam_member.runtime,
    google_storage_bucket_iam_member.runtime_reads,
    google_storage_bucket_iam_member.runtime_writes,
    google_pubsub_topic_iam_member.runtime_publishes,
  ]

  lifecycle {
    # Cloud Run answers with the stage that the features in use have reached, gcloud leaves its own name.
    ignore_changes = [launch_stage, client, client_version]
  }
}
