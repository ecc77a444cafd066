resource "google_pubsub_topic" "all" {
  for_each = toset(["uploads", "jobs", "results", "dead-letters"])

  name       = "${var.name}-${each.key}"
  labels     = var.labels
  depends_on = [google_project_service.apis]
}

# A folder's prompts become jobs, finished work becomes a message, and what cannot be read becomes a dead letter.
resource "google_pubsub_topic_iam_member" "runtime_publishes" {
  for_each = toset(["jobs", "results", "dead-letters"])

  topic  = google_pubsub_topic.all[each.key].id
  role   = "roles/pubsub.publisher"
  member = local.runtime_member
}

resource "google_pubsub_topic_iam_member" "job_publishers" {
  for_each = toset(var.job_publishers)

  topic  = google_pubsub_topic.all["jobs"].id
  role   = "roles/pubsub.publisher"
  member = each.key
}
