resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.alert_emails)

  display_name = "${var.name}: ${each.key}"
  type         = "email"
  labels       = { email_address = each.key }
  force_delete = true # Terraform removes an address before it takes it out of the alerts, which Google refuses otherwise
  depends_on   = [google_project_service.apis]
}

locals {
  alert_channels = [for channel in google_monitoring_notification_channel.email : channel.id]

  # In seconds.
  alert_window = 300

  in_service = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = \"${var.name}\""
  in_work    = "${local.in_pubsub} = one_of(${join(", ", [for it in google_pubsub_subscription.work : "\"${it.name}\""])})"
  in_dead    = "${local.in_pubsub} = \"${google_pubsub_subscription.dead_letters.name}\""
  in_pubsub  = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id"
}

resource "google_monitoring_alert_policy" "dead_letters" {
  display_name          = "${var.name}: dead letters"
  combiner              = "OR"
  notification_channels = local.alert_channels

  documentation {
    mime_type = "text/markdown"
    content   = "Events could not be read, or failed 100 times. Look with `sam3 redrive ${google_pubsub_subscription.dead_letters.id}`; docs/operate.md says what to do."
  }

  conditions {
    display_name = "there are dead letters"
    condition_threshold {
      filter          = "${local.in_dead} AND metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }
}

resource "google_monitoring_alert_policy" "backlog" {
  display_name          = "${var.name}: events wait too long"
  combiner              = "OR"
  notification_channels = local.alert_channels

  documentation {
    mime_type = "text/markdown"
    content   = "The oldest event has waited more than ${var.alert_backlog_age_s} s. Either there is more work than max_instances can do, or deliveries fail: the service does not start, or a grant is missing. docs/operate.md says what to do."
  }

  conditions {
    display_name = "the oldest event is too old"
    condition_threshold {
      filter          = "${local.in_work} AND metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
      comparison      = "COMPARISON_GT"
      threshold_value = var.alert_backlog_age_s
      duration        = "${local.alert_window}s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }
}

resource "google_monitoring_alert_policy" "errors" {
  display_name          = "${var.name}: server errors"
  combiner              = "OR"
  notification_channels = local.alert_channels

  documentation {
    mime_type = "text/markdown"
    content   = "More than 5 answers of 5xx in ${local.alert_window} s, twice in a row. The service's log says why; docs/operate.md says what to do."
  }

  conditions {
    display_name = "answers of 5xx"
    condition_threshold {
      filter          = "${local.in_service} AND metric.type = \"run.googleapis.com/request_count\" AND metric.labels.response_code_class = \"5xx\""
      comparison      = "COMPARISON_GT"
      threshold_value = 5
      duration        = "${local.alert_window}s"
      aggregations {
        alignment_period     = "${local.alert_window}s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }
}

resource "google_monitoring_alert_policy" "startup" {
  display_name          = "${var.name}: an instance failed"
  combiner              = "OR"
  notification_channels = local.alert_channels

  documentation {
    mime_type = "text/markdown"
    content   = "An instance was not ready in time, or its process ended by itself. Its log names the reason: the checkpoint, the token, a setting, the GPU or memory. docs/operate.md says what to do."
  }

  conditions {
    display_name = "the startup probe failed, or the process ended"
    condition_matched_log {
      filter = join(" AND ", [
        "(resource.type = \"cloud_run_revision\" OR resource.type = \"cloud_run_worker_pool\")",
        "logName = \"projects/${var.project_id}/logs/run.googleapis.com%2Fvarlog%2Fsystem\"",
        "(resource.labels.service_name = \"${var.name}\" OR resource.labels.worker_pool_name =~ \"^${var.name}-pull-\")",
        "textPayload =~ \"STARTUP .* probe failed|Container called exit.[1-9]|Memory limit of\"",
      ])
    }
  }

  alert_strategy {
    notification_rate_limit {
      period = "3600s"
    }
  }
}

locals {
  charts = [
    {
      title  = "Requests by status", of = local.in_service,
      metric = "run.googleapis.com/request_count", align = "ALIGN_RATE", reduce = "REDUCE_SUM", by = "metric.label.response_code_class"
    },
    {
      title  = "Latency, 95 % of requests", of = local.in_service,
      metric = "run.googleapis.com/request_latencies", align = "ALIGN_PERCENTILE_95", reduce = "REDUCE_MAX", by = "resource.label.service_name"
    },
    {
      title  = "Instances", of = local.in_service,
      metric = "run.googleapis.com/container/instance_count", align = "ALIGN_MAX", reduce = "REDUCE_SUM", by = "metric.label.state"
    },
    {
      title  = "GPU in use, 95 % of the time", of = local.in_service,
      metric = "run.googleapis.com/container/gpu/utilizations", align = "ALIGN_PERCENTILE_95", reduce = "REDUCE_MAX", by = "resource.label.service_name"
    },
    {
      title  = "Memory in use, 95 % of the time", of = local.in_service,
      metric = "run.googleapis.com/container/memory/utilizations", align = "ALIGN_PERCENTILE_95", reduce = "REDUCE_MAX", by = "resource.label.service_name"
    },
    {
      title  = "Events that wait", of = local.in_work,
      metric = "pubsub.googleapis.com/subscription/num_undelivered_messages", align = "ALIGN_MAX", reduce = "REDUCE_SUM", by = "resource.label.subscription_id"
    },
    {
      title  = "Age of the oldest event, seconds", of = local.in_work,
      metric = "pubsub.googleapis.com/subscription/oldest_unacked_message_age", align = "ALIGN_MAX", reduce = "REDUCE_MAX", by = "resource.label.subscription_id"
    },
    {
      title  = "Dead letters", of = local.in_dead,
      metric = "pubsub.googleapis.com/subscription/num_undelivered_messages", align = "ALIGN_MAX", reduce = "REDUCE_SUM", by = "resource.label.subscription_id"
    },
  ]
}

resource "google_monitoring_dashboard" "service" {
  dashboard_json = jsonencode({
    displayName = var.name
    gridLayout = {
      columns = "2"
      widgets = [for chart in local.charts : {
        title = chart.title
        xyChart = {
          dataSets = [{
            plotType = "LINE"
            timeSeriesQuery = {
              timeSeriesFilter = {
                filter = "${chart.of} AND metric.type = \"${chart.metric}\""
                aggregation = {
                  alignmentPeriod    = "60s"
                  perSeriesAligner   = chart.align
                  crossSeriesReducer = chart.reduce
                  groupByFields      = [chart.by]
                }
              }
            }
          }]
        }
      }]
    }
  })
}
