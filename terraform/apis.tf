# Apart from the others: data sources that wait for an API are read late, and what hangs on them is made anew, whenever
# one is added to the list.
resource "google_project_service" "lookups" {
  for_each = toset(["cloudresourcemanager.googleapis.com", "storage.googleapis.com"])

  service = each.key
  # Others in the project may use them too.
  disable_on_destroy = false
}

resource "google_project_service" "apis" {
  for_each = toset(concat([
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
  ], var.budget == null ? [] : ["billingbudgets.googleapis.com"]))

  service            = each.key
  disable_on_destroy = false
}

data "google_project" "this" {
  project_id = var.project_id
  depends_on = [google_project_service.lookups]
}
