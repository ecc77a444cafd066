# From an upload or a job to the service, and to the dead letters.

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

run "apis" {
  assert {
    condition = setunion(keys(google_project_service.apis), keys(google_project_service.lookups)) == toset([
      "artifactregistry.googleapis.com", "cloudbuild.googleapis.com", "cloudresourcemanager.googleapis.com", "iam.googleapis.com",
      "logging.googleapis.com", "monitoring.googleapis.com", "pubsub.googleapis.com", "run.googleapis.com",
      "secretmanager.googleapis.com", "storage.googleapis.com",
    ])
    error_message = "An API is missing, or one is enabled that nothing needs."
  }
  assert {
    condition     = alltrue([for api in values(merge(google_project_service.apis, google_project_service.lookups)) : api.disable_on_destroy == false])
    error_message = "A destroy must not take APIs from others in the project."
  }
}

run "notification" {
  variables {
    input_prefix = "in/"
  }

  assert {
    condition     = google_pubsub_topic_iam_member.storage_publishes.member == "serviceAccount:service-123456789012@gs-project-accounts.iam.gserviceaccount.com" && google_pubsub_topic_iam_member.storage_publishes.role == "roles/pubsub.publisher" && google_pubsub_topic_iam_member.storage_publishes.topic == "projects/my-project/topics/uploads"
    error_message = "Cloud Storage's agent must be allowed to publish uploads."
  }
  assert {
    condition     = keys(google_storage_notification.uploads) == ["my-project-sam3-service-input"]
    error_message = "The input bucket has the one notification."
  }
  assert {
    condition     = alltrue([for it in values(google_storage_notification.uploads) : it.topic == "projects/my-project/topics/uploads" && it.payload_format == "JSON_API_V1" && it.event_types == toset(["OBJECT_FINALIZE"]) && it.object_name_prefix == "in/"])
    error_message = "The notification is not what the service reads."
  }
}

run "topics" {
  assert {
    condition = { for key, topic in google_pubsub_topic.all : key => topic.name } == {
      uploads = "sam3-service-uploads", jobs = "sam3-service-jobs", results = "sam3-service-results", dead-letters = "sam3-service-dead-letters"
    }
    error_message = "The topics are uploads, jobs, results and dead letters."
  }
  assert {
    condition     = output.jobs_topic == "projects/my-project/topics/jobs" && output.results_topic == "projects/my-project/topics/results"
    error_message = "The outputs name the topics that others use."
  }
  assert {
    condition     = { for key, grant in google_pubsub_topic_iam_member.runtime_publishes : grant.topic => "${grant.role} ${grant.member}" } == { for topic in ["jobs", "results", "dead-letters"] : "projects/my-project/topics/${topic}" => "roles/pubsub.publisher serviceAccount:runtime@my-project.iam.gserviceaccount.com" }
    error_message = "The service publishes jobs, results and dead letters, and no uploads."
  }
}

run "pushes" {
  assert {
    condition     = { for key, it in google_pubsub_subscription.work : it.name => it.topic } == { sam3-service-uploads = "projects/my-project/topics/uploads", sam3-service-jobs = "projects/my-project/topics/jobs" }
    error_message = "Uploads and jobs have a subscription each."
  }
  assert {
    condition     = alltrue([for it in google_pubsub_subscription.work : it.push_config[0].push_endpoint == "https://sam3-service-abc-uc.a.run.app/events"])
    error_message = "Events are pushed to /events at the service's default address."
  }
  assert {
    condition     = alltrue([for it in google_pubsub_subscription.work : it.push_config[0].oidc_token[0].service_account_email == "push@my-project.iam.gserviceaccount.com" && contains(google_cloud_run_v2_service.service[0].custom_audiences, it.push_config[0].oidc_token[0].audience)])
    error_message = "Pushes carry a token of the push account for an audience that the service accepts."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].custom_audiences == tolist(["my-project/sam3-service"]) && output.audience == "my-project/sam3-service"
    error_message = "The audience is known before the address."
  }
  assert {
    condition     = alltrue([for it in google_pubsub_subscription.work : it.retry_policy[0].minimum_backoff == "10s" && it.retry_policy[0].maximum_backoff == "600s"])
    error_message = "Backoff is 10 s to 600 s."
  }
  assert {
    condition     = alltrue([for it in google_pubsub_subscription.work : it.dead_letter_policy[0].max_delivery_attempts == 100 && it.dead_letter_policy[0].dead_letter_topic == "projects/my-project/topics/dead-letters"])
    error_message = "Healthy work has 100 attempts, and then a place."
  }
  assert {
    condition     = alltrue([for it in google_pubsub_subscription.work : it.message_retention_duration == "604800s"])
    error_message = "Events are kept for 7 days."
  }
}

run "times_follow_each_other" {
  assert {
    condition     = alltrue([for it in google_pubsub_subscription.work : it.ack_deadline_seconds == 600])
    error_message = "The ack deadline is the longest that Pub/Sub allows."
  }
  assert {
    condition     = alltrue([for it in google_pubsub_subscription.work : tonumber(trimsuffix(google_cloud_run_v2_service.service[0].template[0].timeout, "s")) <= it.ack_deadline_seconds])
    error_message = "A request must not outlive its ack deadline: it would be done twice at a time."
  }
  assert {
    condition     = google_cloud_run_v2_service.service[0].template[0].timeout == "600s" && local.settings.EVENT_TIMEOUT_S == "540" && local.settings.REQUEST_TIMEOUT_S == "300"
    error_message = "The service answers an event within 540 s and a request within 300 s, before Cloud Run ends it at 600 s."
  }
}

run "dead_letters" {
  assert {
    condition     = google_pubsub_topic_iam_member.dead_letters.topic == "projects/my-project/topics/dead-letters" && google_pubsub_topic_iam_member.dead_letters.role == "roles/pubsub.publisher" && google_pubsub_topic_iam_member.dead_letters.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
    error_message = "Pub/Sub's agent must be allowed to publish dead letters."
  }
  assert {
    condition     = { for key, grant in google_pubsub_subscription_iam_member.dead_letters : grant.subscription => "${grant.role} ${grant.member}" } == { for key in ["uploads", "jobs"] : "sam3-service-${key}" => "roles/pubsub.subscriber serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com" }
    error_message = "Pub/Sub's agent must be allowed to take dead letters out of both subscriptions."
  }
  assert {
    condition     = google_pubsub_subscription.dead_letters.name == "sam3-service-dead-letters" && google_pubsub_subscription.dead_letters.topic == "projects/my-project/topics/dead-letters" && length(google_pubsub_subscription.dead_letters.push_config) == 0 && length(google_pubsub_subscription.dead_letters.dead_letter_policy) == 0
    error_message = "Dead letters need a subscription to look into."
  }
  assert {
    condition     = google_pubsub_subscription.dead_letters.message_retention_duration == "2678400s" && google_pubsub_subscription.dead_letters.ack_deadline_seconds == 60 && output.dead_letter_subscription == "projects/my-project/subscriptions/dead-letters"
    error_message = "Dead letters wait 31 days for a person."
  }
}

run "results" {
  assert {
    condition     = [for key, it in google_pubsub_subscription.results : "${key} ${it.name} ${it.topic}"] == ["all sam3-service-results-all projects/my-project/topics/results"] && google_pubsub_subscription.results["all"].filter == null
    error_message = "Results are kept when nobody listens yet."
  }
  assert {
    condition     = google_pubsub_subscription.results["all"].message_retention_duration == "604800s" && google_pubsub_subscription.results["all"].ack_deadline_seconds == 60
    error_message = "Results are kept for 7 days, and their readers have a minute."
  }
}

run "other_results_subscriptions" {
  variables {
    results_subscriptions = { failed = "attributes.status = \"failed\"" }
  }

  assert {
    condition     = keys(google_pubsub_subscription.results) == ["failed"] && google_pubsub_subscription.results["failed"].filter == "attributes.status = \"failed\"" && keys(output.results_subscriptions) == ["failed"]
    error_message = "A subscription has its filter."
  }
}

run "no_results_subscription" {
  variables {
    results_subscriptions = {}
  }

  assert {
    condition     = length(google_pubsub_subscription.results) == 0
    error_message = "A results subscription is optional."
  }
}

run "subscriptions_never_expire" {
  assert {
    condition     = alltrue([for it in concat(values(google_pubsub_subscription.work), values(google_pubsub_subscription.results), [google_pubsub_subscription.dead_letters]) : it.expiration_policy[0].ttl == ""])
    error_message = "By default an idle subscription is deleted after 31 days."
  }
}

run "job_publishers" {
  variables {
    job_publishers = ["serviceAccount:shop@other-project.iam.gserviceaccount.com"]
  }

  assert {
    condition     = [for grant in google_pubsub_topic_iam_member.job_publishers : "${grant.member} ${grant.role} ${grant.topic}"] == ["serviceAccount:shop@other-project.iam.gserviceaccount.com roles/pubsub.publisher projects/my-project/topics/jobs"]
    error_message = "Job publishers may publish jobs and nothing else."
  }
}
