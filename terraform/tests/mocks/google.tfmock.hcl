# What Google would answer, in its shape; the names make one grant or address tell from another.
mock_data "google_project" {
  defaults = {
    number = "123456789012"
  }
}

mock_data "google_storage_project_service_account" {
  defaults = {
    member = "serviceAccount:service-123456789012@gs-project-accounts.iam.gserviceaccount.com"
  }
}

mock_resource "google_cloud_run_v2_service" {
  defaults = {
    uri = "https://sam3-service-abc-uc.a.run.app"
  }
}

override_resource {
  target = google_service_account.runtime
  values = {
    email  = "runtime@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:runtime@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.push
  values = {
    email  = "push@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:push@my-project.iam.gserviceaccount.com"
    name   = "projects/my-project/serviceAccounts/push@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.build
  values = {
    email  = "build@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:build@my-project.iam.gserviceaccount.com"
    name   = "projects/my-project/serviceAccounts/build@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_pubsub_topic.all["uploads"]
  values = { id = "projects/my-project/topics/uploads" }
}

override_resource {
  target = google_pubsub_topic.all["jobs"]
  values = { id = "projects/my-project/topics/jobs" }
}

override_resource {
  target = google_pubsub_topic.all["results"]
  values = { id = "projects/my-project/topics/results" }
}

override_resource {
  target = google_pubsub_topic.all["dead-letters"]
  values = { id = "projects/my-project/topics/dead-letters" }
}

override_resource {
  target = google_pubsub_subscription.work["uploads"]
  values = { id = "projects/my-project/subscriptions/uploads" }
}

override_resource {
  target = google_pubsub_subscription.work["jobs"]
  values = { id = "projects/my-project/subscriptions/jobs" }
}

override_resource {
  target = google_pubsub_subscription.dead_letters
  values = { id = "projects/my-project/subscriptions/dead-letters" }
}
