locals {
  # Buckets to make, with the age at which their objects are deleted (null: never).
  own_buckets = merge(
    length(var.input_buckets) == 0 ? { input = var.delete_inputs_after_days } : {},
    var.output_bucket == null ? { output = var.delete_outputs_after_days } : {},
    var.model_bucket == null ? { models = null } : {},
  )
  own_bucket_names = {
    for purpose in ["input", "output", "models", "sources"] : purpose => "${var.project_id}-${var.name}-${purpose}"
  }

  input_bucket_names = length(var.input_buckets) == 0 ? [local.own_bucket_names.input] : var.input_buckets
  output_bucket_name = var.output_bucket == null ? local.own_bucket_names.output : var.output_bucket
  model_bucket_name  = var.model_bucket == null ? local.own_bucket_names.models : var.model_bucket

  readable_bucket_names = setunion(local.input_bucket_names, [local.model_bucket_name], var.read_buckets)
  writable_bucket_names = setunion([local.output_bucket_name], var.write_buckets)
}

resource "google_storage_bucket" "own" {
  for_each = local.own_buckets

  name                        = local.own_bucket_names[each.key]
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.force_destroy
  labels                      = var.labels

  # Photos that are deleted, and results that are replaced, stay restorable this long.
  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 86400
  }

  dynamic "lifecycle_rule" {
    for_each = each.value == null ? [] : [each.value]
    content {
      condition {
        age = lifecycle_rule.value
      }
      action {
        type = "Delete"
      }
    }
  }

  depends_on = [google_project_service.lookups]
}

resource "google_storage_bucket_iam_member" "runtime_reads" {
  for_each = local.readable_bucket_names

  bucket = each.key
  role   = "roles/storage.objectViewer"
  member = local.runtime_member

  depends_on = [google_storage_bucket.own]
}

resource "google_storage_bucket_iam_member" "runtime_writes" {
  for_each = local.writable_bucket_names

  bucket = each.key
  # Not objectCreator, which may not overwrite: a repeated upload replaces its result.
  role   = "roles/storage.objectUser"
  member = local.runtime_member

  depends_on = [google_storage_bucket.own]
}

# Reading this makes Google create the agent where it does not exist yet.
data "google_storage_project_service_account" "agent" {
  depends_on = [google_project_service.lookups]
}

resource "google_pubsub_topic_iam_member" "storage_publishes" {
  topic  = google_pubsub_topic.all["uploads"].id
  role   = "roles/pubsub.publisher"
  member = data.google_storage_project_service_account.agent.member
}

resource "google_storage_notification" "uploads" {
  for_each = toset(local.input_bucket_names)

  bucket             = each.key
  topic              = google_pubsub_topic.all["uploads"].id
  payload_format     = "JSON_API_V1"
  event_types        = ["OBJECT_FINALIZE"]
  object_name_prefix = var.input_prefix == "" ? null : var.input_prefix

  depends_on = [
    # Cloud Storage refuses a notification to a topic that it may not publish to …
    google_pubsub_topic_iam_member.storage_publishes,
    # … and what is published before there is a subscription is lost. By way of these the bucket is there too.
    google_pubsub_subscription.work,
  ]
}
