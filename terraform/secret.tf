# Terraform makes the secret and lets the service read it; a person adds the value, so that no state file holds it.
resource "google_secret_manager_secret" "hf_token" {
  secret_id = var.hf_token_secret
  labels    = var.labels
  replication {
    auto {}
  }
  depends_on = [google_project_service.apis]
}

resource "google_secret_manager_secret_iam_member" "runtime" {
  count = local.needs_token ? 1 : 0

  secret_id = google_secret_manager_secret.hf_token.id
  role      = "roles/secretmanager.secretAccessor"
  member    = local.runtime_member
}

locals {
  # Only a checkpoint of the hub needs the token; mounting a secret that has no version yet would fail the start.
  needs_token = var.model != "embedded" && !startswith(var.model, "/") && !startswith(var.model, "gs://")
}
