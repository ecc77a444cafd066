locals {
  # Pub/Sub's own account, which dead-letters and asks for the tokens of pushes.
  pubsub_agent = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"

  # Times of a delivery, in seconds; each is below the next, or work is redelivered while it is still being done.
  # https://cloud.google.com/pubsub/docs/push#properties_of_a_push_subscription
  event_timeout_s   = 540
  service_timeout_s = 600
  ack_deadline_s    = 600 # Pub/Sub allows no more
}

# Both topics of work. Without an image, or where a worker pool pulls, a subscription keeps its messages for that.
resource "google_pubsub_subscription" "work" {
  for_each = toset(["uploads", "jobs"])

  name                       = google_pubsub_topic.all[each.key].name
  topic                      = google_pubsub_topic.all[each.key].id
  ack_deadline_seconds       = local.ack_deadline_s
  message_retention_duration = "604800s"
  labels                     = var.labels

  # Never: by default an idle subscription is deleted after 31 days.
  expiration_policy {
    ttl = ""
  }

  # About 15 hours: a cold start, a burst or an outage must not dead-letter healthy work.
  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.all["dead-letters"].id
    max_delivery_attempts = 100
  }

  dynamic "push_config" {
    for_each = contains(keys(var.pull_instances), each.key) ? [] : google_cloud_run_v2_service.service[*].uri
    content {
      # The default address: behind any other, internal ingress would refuse Pub/Sub.
      push_endpoint = "${push_config.value}/events"
      oidc_token {
        service_account_email = google_service_account.push.email
        audience              = local.audience
      }
    }
  }

  # Pushes that come before the grants would be refused, and count as attempts.
  depends_on = [
    google_cloud_run_v2_service_iam_member.push,
    google_service_account_iam_member.push_tokens,
  ]
}

# Dead-lettering needs both grants; without them it fails silently, and the message is delivered for ever.
resource "google_pubsub_topic_iam_member" "dead_letters" {
  topic  = google_pubsub_topic.all["dead-letters"].id
  role   = "roles/pubsub.publisher"
  member = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "dead_letters" {
  for_each = google_pubsub_subscription.work

  subscription = each.value.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "runtime_pulls" {
  for_each = toset(keys(var.pull_instances))

  subscription = google_pubsub_subscription.work[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = local.runtime_member
}

# For `sam3 redrive`. It has no dead-letter policy: each look counts as a delivery.
resource "google_pubsub_subscription" "dead_letters" {
  name                       = google_pubsub_topic.all["dead-letters"].name
  topic                      = google_pubsub_topic.all["dead-letters"].id
  ack_deadline_seconds       = 60
  message_retention_duration = "2678400s" # 31 days, the most: a person has to look
  labels                     = var.labels

  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_subscription" "results" {
  for_each = var.results_subscriptions

  name                       = "${google_pubsub_topic.all["results"].name}-${each.key}"
  topic                      = google_pubsub_topic.all["results"].id
  filter                     = each.value == "" ? null : each.value
  ack_deadline_seconds       = 60
  message_retention_duration = "604800s"
  labels                     = var.labels

  expiration_policy {
    ttl = ""
  }
}
