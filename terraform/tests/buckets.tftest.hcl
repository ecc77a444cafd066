# Buckets, made here or brought along, and what the service may do with them.

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

run "three_buckets_are_made" {
  assert {
    condition     = { for key, it in google_storage_bucket.own : key => it.name } == { input = "my-project-sam3-service-input", output = "my-project-sam3-service-output", models = "my-project-sam3-service-models" }
    error_message = "There is a bucket for input, output and models."
  }
  assert {
    condition     = alltrue([for it in google_storage_bucket.own : it.uniform_bucket_level_access == true && it.public_access_prevention == "enforced" && it.location == "us-central1"])
    error_message = "Nothing is public, and nothing leaves the region."
  }
  assert {
    condition     = alltrue([for it in google_storage_bucket.own : it.force_destroy == false && length(it.lifecycle_rule) == 0])
    error_message = "Nothing is deleted unless asked for."
  }
  assert {
    condition     = { for key, grant in google_storage_bucket_iam_member.runtime_reads : grant.bucket => "${grant.role} ${grant.member}" } == { for bucket in ["input", "models"] : "my-project-sam3-service-${bucket}" => "roles/storage.objectViewer serviceAccount:runtime@my-project.iam.gserviceaccount.com" }
    error_message = "The service reads input and models, and may not write them."
  }
  assert {
    condition     = { for key, grant in google_storage_bucket_iam_member.runtime_writes : grant.bucket => "${grant.role} ${grant.member}" } == { "my-project-sam3-service-output" = "roles/storage.objectUser serviceAccount:runtime@my-project.iam.gserviceaccount.com" }
    error_message = "The service replaces results in the output bucket."
  }
  assert {
    condition     = output.input_buckets == ["gs://my-project-sam3-service-input/"] && output.output_bucket == "gs://my-project-sam3-service-output/" && output.model_bucket == "gs://my-project-sam3-service-models"
    error_message = "The outputs name the buckets."
  }
}

run "sources_of_builds" {
  assert {
    condition     = google_storage_bucket.sources.name == "my-project-sam3-service-sources" && google_storage_bucket.sources.location == "us-central1" && google_storage_bucket.sources.uniform_bucket_level_access == true && google_storage_bucket.sources.public_access_prevention == "enforced"
    error_message = "Sources have a private bucket of their own."
  }
  assert {
    condition     = [for rule in google_storage_bucket.sources.lifecycle_rule : "${one(rule.action).type} ${one(rule.condition).age}"] == ["Delete 7"] && google_storage_bucket.sources.force_destroy == true
    error_message = "Sources are copies: a week is enough, and a destroy takes them."
  }
}

run "what_is_deleted_can_be_restored_for_a_week" {
  assert {
    condition     = { for key, it in google_storage_bucket.own : key => one(it.soft_delete_policy).retention_duration_seconds } == { for key in ["input", "output", "models"] : key => 604800 }
    error_message = "The default is Google's."
  }
}

run "what_is_deleted_is_gone" {
  variables {
    soft_delete_days = 0
  }

  assert {
    condition     = alltrue([for it in google_storage_bucket.own : one(it.soft_delete_policy).retention_duration_seconds == 0])
    error_message = "Photos of people may have to be gone at once."
  }
}

run "old_objects_are_deleted_on_request" {
  variables {
    delete_inputs_after_days  = 30
    delete_outputs_after_days = 90
    force_destroy             = true
  }

  assert {
    condition     = { for key, it in google_storage_bucket.own : key => [for rule in it.lifecycle_rule : "${one(rule.action).type} ${one(rule.condition).age}"] } == { input = ["Delete 30"], output = ["Delete 90"], models = [] }
    error_message = "Each bucket has its own age, and models stay."
  }
  assert {
    condition     = alltrue([for it in google_storage_bucket.own : it.force_destroy == true])
    error_message = "Buckets can be destroyed with what is in them."
  }
}

run "existing_buckets" {
  variables {
    input_buckets = ["photos", "scans"]
    input_prefix  = "in/"
    output_bucket = "results"
    output_prefix = "{bucket}/"
    model_bucket  = "checkpoints"
    model         = "gs://checkpoints/sam3"
    read_buckets  = ["archive"]
    write_buckets = ["elsewhere"]
  }

  assert {
    condition     = length(google_storage_bucket.own) == 0
    error_message = "Existing buckets are left alone."
  }
  assert {
    condition     = keys(google_storage_notification.uploads) == ["photos", "scans"] && alltrue([for key, it in google_storage_notification.uploads : it.bucket == key])
    error_message = "Each input bucket tells of its uploads."
  }
  assert {
    condition     = toset([for grant in google_storage_bucket_iam_member.runtime_reads : "${grant.bucket} ${grant.role}"]) == toset([for bucket in ["photos", "scans", "checkpoints", "archive"] : "${bucket} roles/storage.objectViewer"])
    error_message = "The service may read what it is told to."
  }
  assert {
    condition     = toset([for grant in google_storage_bucket_iam_member.runtime_writes : "${grant.bucket} ${grant.role}"]) == toset([for bucket in ["results", "elsewhere"] : "${bucket} roles/storage.objectUser"])
    error_message = "The service may write where it is told to."
  }
  assert {
    condition     = local.settings.INPUT_BUCKETS == "photos,scans" && local.settings.OUTPUT_BUCKET == "results" && local.settings.OUTPUT_PREFIX == "{bucket}/"
    error_message = "The service knows the existing buckets."
  }
  assert {
    condition     = output.input_buckets == ["gs://photos/in/", "gs://scans/in/"] && output.output_bucket == "gs://results/{bucket}/" && output.model_bucket == "gs://checkpoints"
    error_message = "The outputs name the existing buckets."
  }
}

run "results_beside_the_images" {
  variables {
    input_buckets = ["photos"]
    input_prefix  = "in/"
    output_bucket = "photos"
    output_prefix = "results/"
  }

  assert {
    condition     = keys(google_storage_bucket_iam_member.runtime_writes) == ["photos"] && contains(keys(google_storage_bucket_iam_member.runtime_reads), "photos")
    error_message = "One bucket may be both."
  }
}
