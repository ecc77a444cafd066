# Who may do what.

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

run "two_accounts" {
  assert {
    condition     = google_service_account.runtime[0].account_id == "sam3-service-run" && google_service_account.push.account_id == "sam3-service-push"
    error_message = "What runs and what pushes are two accounts."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].service_account == "runtime@my-project.iam.gserviceaccount.com" && output.service_account == "runtime@my-project.iam.gserviceaccount.com" && output.push_service_account == "push@my-project.iam.gserviceaccount.com"
    error_message = "The service runs as its own account."
  }
}

run "only_pushes_may_call" {
  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.invokers) == 0 && google_cloud_run_v2_service.service[0].ingress == "INGRESS_TRAFFIC_ALL" && google_cloud_run_v2_service.service[0].invoker_iam_disabled != true
    error_message = "Nobody calls unless named, and IAM checks each call."
  }
  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.push) == 1 && google_cloud_run_v2_service_iam_member.push[0].role == "roles/run.invoker" && google_cloud_run_v2_service_iam_member.push[0].member == "serviceAccount:push@my-project.iam.gserviceaccount.com" && google_cloud_run_v2_service_iam_member.push[0].name == "sam3-service" && google_cloud_run_v2_service_iam_member.push[0].location == "us-central1"
    error_message = "The push account calls this service and no other."
  }
  assert {
    condition     = google_service_account_iam_member.push_tokens.service_account_id == "projects/my-project/serviceAccounts/push@my-project.iam.gserviceaccount.com" && google_service_account_iam_member.push_tokens.role == "roles/iam.serviceAccountTokenCreator" && google_service_account_iam_member.push_tokens.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
    error_message = "Pub/Sub's agent makes the tokens of the push account, and of no other."
  }
}

run "invokers" {
  variables {
    invokers = ["user:ann@example.com"]
    ingress  = "internal"
  }

  assert {
    condition     = [for grant in google_cloud_run_v2_service_iam_member.invokers : "${grant.member} ${grant.role} ${grant.name} ${grant.location}"] == ["user:ann@example.com roles/run.invoker sam3-service us-central1"]
    error_message = "Who is named may call."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    error_message = "Ingress can be narrowed."
  }
}

run "behind_a_load_balancer" {
  variables {
    ingress = "internal-load-balancer"
  }

  assert {
    condition     = google_cloud_run_v2_service.service[0].ingress == "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
    error_message = "Ingress can be narrowed."
  }
}

run "existing_service_account" {
  variables {
    service_account = "workers@my-project.iam.gserviceaccount.com"
    pull_instances  = { jobs = 1 }
  }

  assert {
    condition     = length(google_service_account.runtime) == 0 && output.service_account == "workers@my-project.iam.gserviceaccount.com"
    error_message = "An existing account is left alone."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].service_account == "workers@my-project.iam.gserviceaccount.com" && google_cloud_run_v2_worker_pool.pull["jobs"].template[0].service_account == "workers@my-project.iam.gserviceaccount.com"
    error_message = "Everything runs as the existing account."
  }
  assert {
    condition = toset(concat(
      values(google_storage_bucket_iam_member.runtime_reads)[*].member,
      values(google_storage_bucket_iam_member.runtime_writes)[*].member,
      values(google_pubsub_topic_iam_member.runtime_publishes)[*].member,
      values(google_pubsub_subscription_iam_member.runtime_pulls)[*].member,
      google_secret_manager_secret_iam_member.runtime[*].member,
    )) == toset(["serviceAccount:workers@my-project.iam.gserviceaccount.com"])
    error_message = "The existing account gets the grants."
  }
}

run "labels" {
  variables {
    labels         = { team = "vision" }
    pull_instances = { jobs = 1 }
  }

  assert {
    condition = alltrue([for it in concat(
      [google_artifact_registry_repository.images, google_secret_manager_secret.hf_token, google_pubsub_subscription.dead_letters, google_cloud_run_v2_service.service[0], google_cloud_run_v2_worker_pool.pull["jobs"]],
      values(google_storage_bucket.own), values(google_pubsub_topic.all), values(google_pubsub_subscription.work), values(google_pubsub_subscription.results),
    ) : it.labels == tomap({ team = "vision" })])
    error_message = "Whatever can have labels has them."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].labels == tomap({ team = "vision" }) && google_cloud_run_v2_worker_pool.pull["jobs"].template[0].labels == tomap({ team = "vision" })
    error_message = "Costs of instances are told apart by labels too."
  }
}
