# Alerts, dashboard and budget.

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

run "dead_letters" {
  assert {
    condition     = google_monitoring_alert_policy.dead_letters.conditions[0].condition_threshold[0].filter == "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"sam3-service-dead-letters\" AND metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\""
    error_message = "Not the dead letters: ${google_monitoring_alert_policy.dead_letters.conditions[0].condition_threshold[0].filter}"
  }
  assert {
    condition     = google_monitoring_alert_policy.dead_letters.conditions[0].condition_threshold[0].comparison == "COMPARISON_GT" && google_monitoring_alert_policy.dead_letters.conditions[0].condition_threshold[0].threshold_value == 0 && google_monitoring_alert_policy.dead_letters.conditions[0].condition_threshold[0].duration == "0s"
    error_message = "The first dead letter is told of at once."
  }
  assert {
    condition     = google_monitoring_alert_policy.dead_letters.conditions[0].condition_threshold[0].aggregations[0].alignment_period == "60s" && google_monitoring_alert_policy.dead_letters.conditions[0].condition_threshold[0].aggregations[0].per_series_aligner == "ALIGN_MAX"
    error_message = "The first dead letter is not averaged away."
  }
}

run "backlog" {
  variables {
    alert_backlog_age_s = 900
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.backlog.conditions[0].condition_threshold[0].filter, "resource.labels.subscription_id = one_of(\"sam3-service-jobs\", \"sam3-service-uploads\") AND metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\"")
    error_message = "Both subscriptions are watched: ${google_monitoring_alert_policy.backlog.conditions[0].condition_threshold[0].filter}"
  }
  assert {
    condition     = google_monitoring_alert_policy.backlog.conditions[0].condition_threshold[0].comparison == "COMPARISON_GT" && google_monitoring_alert_policy.backlog.conditions[0].condition_threshold[0].threshold_value == 900 && google_monitoring_alert_policy.backlog.conditions[0].condition_threshold[0].duration == "300s"
    error_message = "The age is the variable's, for 5 minutes."
  }
  assert {
    condition     = google_monitoring_alert_policy.backlog.conditions[0].condition_threshold[0].aggregations[0].alignment_period == "60s" && google_monitoring_alert_policy.backlog.conditions[0].condition_threshold[0].aggregations[0].per_series_aligner == "ALIGN_MAX"
    error_message = "The oldest event counts."
  }
}

run "backlog_of_half_an_hour_by_default" {
  assert {
    condition     = google_monitoring_alert_policy.backlog.conditions[0].condition_threshold[0].threshold_value == 1800
    error_message = "An event waits half an hour before somebody is called."
  }
}

run "errors" {
  assert {
    condition     = google_monitoring_alert_policy.errors.conditions[0].condition_threshold[0].filter == "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = \"sam3-service\" AND metric.type = \"run.googleapis.com/request_count\" AND metric.labels.response_code_class = \"5xx\""
    error_message = "Not the server errors: ${google_monitoring_alert_policy.errors.conditions[0].condition_threshold[0].filter}"
  }
  assert {
    condition     = google_monitoring_alert_policy.errors.conditions[0].condition_threshold[0].comparison == "COMPARISON_GT" && google_monitoring_alert_policy.errors.conditions[0].condition_threshold[0].threshold_value == 5 && google_monitoring_alert_policy.errors.conditions[0].condition_threshold[0].duration == "300s"
    error_message = "More than 5 in 5 minutes, twice."
  }
  assert {
    condition     = google_monitoring_alert_policy.errors.conditions[0].condition_threshold[0].aggregations[0].alignment_period == "300s" && google_monitoring_alert_policy.errors.conditions[0].condition_threshold[0].aggregations[0].per_series_aligner == "ALIGN_DELTA" && google_monitoring_alert_policy.errors.conditions[0].condition_threshold[0].aggregations[0].cross_series_reducer == "REDUCE_SUM"
    error_message = "Errors of all revisions are counted together."
  }
}

run "startup" {
  assert {
    condition     = google_monitoring_alert_policy.startup.conditions[0].condition_matched_log[0].filter == "(resource.type = \"cloud_run_revision\" OR resource.type = \"cloud_run_worker_pool\") AND logName = \"projects/my-project/logs/run.googleapis.com%2Fvarlog%2Fsystem\" AND (resource.labels.service_name = \"sam3-service\" OR resource.labels.worker_pool_name =~ \"^sam3-service-pull-\") AND textPayload =~ \"STARTUP .* probe failed|Container called exit.[1-9]|Memory limit of\""
    error_message = "Not the failed starts: ${google_monitoring_alert_policy.startup.conditions[0].condition_matched_log[0].filter}"
  }
  assert {
    condition     = google_monitoring_alert_policy.startup.alert_strategy[0].notification_rate_limit[0].period == "3600s"
    error_message = "Alerts on logs need a rate limit."
  }
}

run "every_alert_says_what_to_do" {
  variables {
    alert_emails = ["ops@example.com"]
  }

  assert {
    condition     = google_monitoring_notification_channel.email["ops@example.com"].type == "email" && google_monitoring_notification_channel.email["ops@example.com"].labels == tomap({ email_address = "ops@example.com" }) && google_monitoring_notification_channel.email["ops@example.com"].force_delete == true
    error_message = "Alerts are mailed, and an address can be taken out."
  }
  assert {
    condition     = alltrue([for it in [google_monitoring_alert_policy.dead_letters, google_monitoring_alert_policy.backlog, google_monitoring_alert_policy.errors, google_monitoring_alert_policy.startup] : it.notification_channels == tolist([google_monitoring_notification_channel.email["ops@example.com"].id])])
    error_message = "Every alert reaches somebody."
  }
  assert {
    condition     = alltrue([for it in [google_monitoring_alert_policy.dead_letters, google_monitoring_alert_policy.backlog, google_monitoring_alert_policy.errors, google_monitoring_alert_policy.startup] : strcontains(it.documentation[0].content, "docs/operate.md") && it.documentation[0].mime_type == "text/markdown"])
    error_message = "Every alert says where to look."
  }
}

run "dashboard" {
  assert {
    condition = toset(flatten([for widget in jsondecode(google_monitoring_dashboard.service.dashboard_json).gridLayout.widgets : [for set in widget.xyChart.dataSets : regex("metric.type = \"([^\"]+)\"", set.timeSeriesQuery.timeSeriesFilter.filter)]])) == toset([
      "run.googleapis.com/request_count", "run.googleapis.com/request_latencies", "run.googleapis.com/container/instance_count",
      "run.googleapis.com/container/gpu/utilizations", "run.googleapis.com/container/memory/utilizations",
      "pubsub.googleapis.com/subscription/num_undelivered_messages", "pubsub.googleapis.com/subscription/oldest_unacked_message_age",
    ])
    error_message = "The dashboard shows load, latency, instances, GPU, memory, backlog and dead letters."
  }
  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.service.dashboard_json).gridLayout.widgets) == 8 && jsondecode(google_monitoring_dashboard.service.dashboard_json).gridLayout.columns == "2"
    error_message = "The dashboard has 8 charts in 2 columns."
  }
  assert {
    condition = alltrue(flatten([for widget in jsondecode(google_monitoring_dashboard.service.dashboard_json).gridLayout.widgets : [for set in widget.xyChart.dataSets :
      set.timeSeriesQuery.timeSeriesFilter.aggregation.alignmentPeriod == "60s" && strcontains(widget.title, "95 %") == (set.timeSeriesQuery.timeSeriesFilter.aggregation.perSeriesAligner == "ALIGN_PERCENTILE_95")
    ]]))
    error_message = "A chart has a point a minute, and says when it shows a percentile."
  }
}

run "no_budget_by_default" {
  assert {
    condition     = length(google_billing_budget.monthly) == 0
    error_message = "A budget needs rights on the billing account."
  }
}

run "budget" {
  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", monthly = 200 }
  }

  assert {
    condition     = length(google_billing_budget.monthly) == 1 && google_billing_budget.monthly[0].billing_account == "012345-6789AB-CDEF01" && google_billing_budget.monthly[0].budget_filter[0].projects == toset(["projects/123456789012"]) && google_billing_budget.monthly[0].budget_filter[0].calendar_period == "MONTH"
    error_message = "The budget is of this project and a month."
  }
  assert {
    condition     = google_billing_budget.monthly[0].amount[0].specified_amount[0].units == "200" && google_billing_budget.monthly[0].amount[0].specified_amount[0].currency_code == "USD"
    error_message = "The budget is the variable's."
  }
  assert {
    condition     = [for rule in google_billing_budget.monthly[0].threshold_rules : rule.threshold_percent] == [0.5, 0.9, 1]
    error_message = "The budget tells at 50, 90 and 100 %."
  }
  assert {
    condition     = contains(keys(google_project_service.apis), "billingbudgets.googleapis.com")
    error_message = "A budget needs its API."
  }
}
