output "image_name" {
  value       = local.image_name
  description = "What to tag the image as, without the tag."
}

output "build_account" {
  value       = google_service_account.build.name
  description = "Account that builds the image: `--service-account` of `gcloud builds submit`."
}

output "source_folder" {
  value       = "gs://${google_storage_bucket.sources.name}/sources"
  description = "Where what is to be built is uploaded: `--gcs-source-staging-dir` of `gcloud builds submit`."
}

output "hf_token_secret" {
  value       = google_secret_manager_secret.hf_token.secret_id
  description = "Secret that waits for the Hugging Face token: `gcloud secrets versions add`."
}

output "service_url" {
  value       = one(google_cloud_run_v2_service.service[*].uri)
  description = "Address of the service; null before there is an image."
}

output "audience" {
  value       = local.audience
  description = "Audience for which a service account's tokens for the service are made out."
}

output "input_buckets" {
  value       = [for bucket in local.input_bucket_names : "gs://${bucket}/${var.input_prefix}"]
  description = "Where to upload images and their prompts."
}

output "output_bucket" {
  value       = "gs://${local.output_bucket_name}/${var.output_prefix}"
  description = "Where results appear."
}

output "model_bucket" {
  value       = "gs://${local.model_bucket_name}"
  description = "Where checkpoints may be stored: `sam3 model push`."
}

output "jobs_topic" {
  value       = google_pubsub_topic.all["jobs"].id
  description = "Topic to publish jobs to."
}

output "results_topic" {
  value       = google_pubsub_topic.all["results"].id
  description = "Topic that results are announced on."
}

output "results_subscriptions" {
  value       = { for name, subscription in google_pubsub_subscription.results : name => subscription.id }
  description = "Pull subscriptions to the results topic."
}

output "dead_letter_subscription" {
  value       = google_pubsub_subscription.dead_letters.id
  description = "Subscription for `sam3 redrive`."
}

output "service_account" {
  value       = local.runtime_email
  description = "Account that the service runs as, for further grants."
}

output "push_service_account" {
  value       = google_service_account.push.email
  description = "Account that Pub/Sub pushes as."
}
