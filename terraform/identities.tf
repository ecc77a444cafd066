resource "google_service_account" "runtime" {
  count = var.service_account == null ? 1 : 0

  account_id   = "${var.name}-run"
  display_name = "${var.name}: runs the service"
  depends_on   = [google_project_service.apis]
}

locals {
  runtime_email  = var.service_account == null ? one(google_service_account.runtime[*].email) : var.service_account
  runtime_member = "serviceAccount:${local.runtime_email}"
}

# Who pushes; it may call this service and nothing else.
resource "google_service_account" "push" {
  account_id   = "${var.name}-push"
  display_name = "${var.name}: Pub/Sub's pushes"
  depends_on   = [google_project_service.apis]
}

resource "google_service_account_iam_member" "push_tokens" {
  service_account_id = google_service_account.push.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = local.pubsub_agent
  # The agent comes into being with the first topic.
  depends_on = [google_pubsub_topic.all]
}

resource "google_cloud_run_v2_service_iam_member" "push" {
  count = var.image == null ? 0 : 1

  name     = google_cloud_run_v2_service.service[0].name
  location = google_cloud_run_v2_service.service[0].location
  role     = "roles/run.invoker"
  member   = google_service_account.push.member
}

resource "google_cloud_run_v2_service_iam_member" "invokers" {
  for_each = var.image == null ? [] : toset(var.invokers)

  name     = google_cloud_run_v2_service.service[0].name
  location = google_cloud_run_v2_service.service[0].location
  role     = "roles/run.invoker"
  member   = each.key
}
