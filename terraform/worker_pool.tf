# One pool for each topic that is pulled: a process pulls one subscription.
resource "google_cloud_run_v2_worker_pool" "pull" {
  for_each = { for topic, instances in var.pull_instances : topic => instances if var.image != null }

  name                = "${var.name}-pull-${each.key}"
  location            = var.region
  launch_stage        = "BETA" # GPUs in worker pools: https://cloud.google.com/run/docs/configuring/workerpools/gpu
  deletion_protection = false  # it holds nothing, and back to push must be one apply
  labels              = var.labels

  # Pools with GPUs do not scale by themselves.
  scaling {
    scaling_mode          = "MANUAL"
    manual_instance_count = each.value
  }

  template {
    service_account               = local.runtime_email
    gpu_zonal_redundancy_disabled = !var.zonal_redundancy
    labels                        = var.labels

    node_selector {
      accelerator = var.accelerator
    }

    containers {
      image   = var.image
      command = ["python", "-m", "service.pull"]
      args    = ["--subscription", google_pubsub_subscription.work[each.key].id, "--health-port", "8080"]

      resources {
        limits = local.limits
      }

      dynamic "env" {
        for_each = merge(var.environment, local.settings)
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

  # Its subscription comes after the service, and so after the other grants.
  depends_on = [google_pubsub_subscription_iam_member.runtime_pulls]

  lifecycle {
    ignore_changes = [launch_stage, client, client_version]
  }
}
