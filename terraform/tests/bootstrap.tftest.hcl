# The first apply makes the registry to push the image to, the second runs it; nothing is lost in between.

mock_provider "google" {
  source = "./tests/mocks"
}

mock_provider "google" {
  alias  = "billing"
  source = "./tests/mocks"
}

variables {
  project_id     = "my-project"
  region         = "us-central1"
  invokers       = ["group:people@example.com"]
  pull_instances = { jobs = 1 }
}

run "without_an_image" {
  assert {
    condition     = length(google_cloud_run_v2_service.service) == 0 && length(google_cloud_run_v2_worker_pool.pull) == 0 && output.service_url == null
    error_message = "There is nothing to run yet."
  }
  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.push) == 0 && length(google_cloud_run_v2_service_iam_member.invokers) == 0
    error_message = "There is nothing to call yet."
  }
  assert {
    condition     = output.image_name == "us-central1-docker.pkg.dev/my-project/sam3-service/sam3-service"
    error_message = "The registry is what this is for: ${output.image_name}"
  }
  assert {
    condition     = google_artifact_registry_repository.images.format == "DOCKER" && google_artifact_registry_repository.images.location == "us-central1" && google_artifact_registry_repository.images.repository_id == "sam3-service"
    error_message = "The registry of the image is wrong."
  }
  assert {
    condition     = [for rule in google_artifact_registry_repository.images.cleanup_policies : "${rule.id} ${rule.action} ${one(rule.condition).tag_state} ${one(rule.condition).older_than}"] == ["untagged DELETE UNTAGGED 2592000s"]
    error_message = "What has no tag any more is deleted after 30 days, and nothing else."
  }
  assert {
    condition     = google_secret_manager_secret.hf_token.secret_id == "hf-token" && output.hf_token_secret == "hf-token" && length(google_secret_manager_secret.hf_token.replication[0].auto) == 1
    error_message = "The secret is there to get a value before anything reads it."
  }
  assert {
    condition     = length(google_storage_notification.uploads) == 1 && alltrue([for subscription in google_pubsub_subscription.work : length(subscription.push_config) == 0])
    error_message = "Uploads are kept until there is a service."
  }
}

run "with_an_image" {
  variables {
    image = "us-central1-docker.pkg.dev/my-project/sam3-service/sam3-service@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }

  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].containers[0].image == var.image && google_cloud_run_v2_worker_pool.pull["jobs"].template[0].containers[0].image == var.image
    error_message = "The image runs."
  }
  assert {
    condition     = output.service_url == "https://sam3-service-abc-uc.a.run.app" && google_pubsub_subscription.work["uploads"].push_config[0].push_endpoint == "https://sam3-service-abc-uc.a.run.app/events"
    error_message = "What was kept is pushed now."
  }
}
