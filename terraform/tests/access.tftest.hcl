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

run "three_accounts" {
  assert {
    condition     = google_service_account.runtime[0].account_id == "sam3-service-run" && google_service_account.push.account_id == "sam3-service-push" && google_service_account.build.account_id == "sam3-service-build"
    error_message = "What runs, what pushes and what builds are three accounts."
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

run "a_build_reaches_its_sources_its_registry_and_the_token" {
  assert {
    condition     = "${google_storage_bucket_iam_member.build_reads.bucket} ${google_storage_bucket_iam_member.build_reads.role}" == "my-project-sam3-service-sources roles/storage.objectViewer" && "${google_artifact_registry_repository_iam_member.build.location} ${google_artifact_registry_repository_iam_member.build.role}" == "us-central1 roles/artifactregistry.writer" && google_artifact_registry_repository_iam_member.build.repository == google_artifact_registry_repository.images.name
    error_message = "The build account reads the sources and pushes to this registry, and reaches no photo."
  }
  assert {
    condition     = google_secret_manager_secret_iam_member.build.secret_id == google_secret_manager_secret.hf_token.id && google_secret_manager_secret_iam_member.build.role == "roles/secretmanager.secretAccessor"
    error_message = "The build account reads this secret and no other."
  }
  assert {
    condition     = "${google_project_iam_member.build.project} ${google_project_iam_member.build.role}" == "my-project roles/logging.logWriter"
    error_message = "In the project the build account may log, and nothing else."
  }
  assert {
    condition = toset([
      google_storage_bucket_iam_member.build_reads.member, google_artifact_registry_repository_iam_member.build.member,
      google_secret_manager_secret_iam_member.build.member, google_project_iam_member.build.member,
    ]) == toset(["serviceAccount:build@my-project.iam.gserviceaccount.com"])
    error_message = "A grant of the build is another account's."
  }
  assert {
    condition     = output.build_account == "projects/my-project/serviceAccounts/build@my-project.iam.gserviceaccount.com" && output.source_folder == "gs://my-project-sam3-service-sources/sources"
    error_message = "The outputs are what `gcloud builds submit` takes: ${output.build_account}, ${output.source_folder}"
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
      values(google_storage_bucket.own), [google_storage_bucket.sources], values(google_pubsub_topic.all), values(google_pubsub_subscription.work), values(google_pubsub_subscription.results),
    ) : it.labels == tomap({ team = "vision" })])
    error_message = "Whatever can have labels has them."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].labels == tomap({ team = "vision" }) && google_cloud_run_v2_worker_pool.pull["jobs"].template[0].labels == tomap({ team = "vision" })
    error_message = "Costs of instances are told apart by labels too."
  }
}
