# What must be said.

variable "project_id" {
  type        = string
  description = "Project that everything is made in."
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id is a project's id, not its name or number: 6 to 30 lower case letters, digits and dashes, a letter first."
  }
}

variable "region" {
  type        = string
  description = "Region of everything, one where Cloud Run has the GPU: docs/operate.md lists them."
  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is a region such as europe-west4, not a zone or a multi-region."
  }
}

variable "image" {
  type        = string
  default     = null
  description = "Container image, by digest (`…@sha256:…`) or by a tag. Unset in the first apply, when there is no registry to push it to yet: everything but the service is made."
  validation {
    condition     = var.image == null ? true : can(regex("^[a-z0-9.-]+(/[a-z0-9._-]+)+(:[\\w.-]+|(:[\\w.-]+)?@sha256:[0-9a-f]{64})$", var.image))
    error_message = "image names a digest (HOST/PATH@sha256:64 hex digits) or a tag (HOST/PATH:TAG)."
  }
  validation {
    condition     = var.image == null ? true : !endswith(var.image, ":latest")
    error_message = "image names a tag other than latest, which means another image every day."
  }
}

variable "name" {
  type        = string
  default     = "sam3-service"
  description = "Name of the service, and beginning of the names of all else."
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name is 3 to 20 lower case letters, digits and dashes, a letter first and no dash last (service account ids end at 30)."
  }
}

# The model and the machine.

variable "model" {
  type        = string
  default     = "facebook/sam3"
  description = "Checkpoint: a Hugging Face repository (the service then gets the token), `gs://` and a folder in the model bucket, a folder of the image, or `embedded`."
  validation {
    condition     = var.model == "embedded" || can(regex("^([A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+|/.+|gs://[^/]+/.+)$", var.model))
    error_message = "model is a repository (owner/name), gs://bucket/folder, a folder of the image (/folder) or embedded."
  }
  validation {
    condition     = !startswith(var.model, "gs://") || startswith(var.model, "gs://${local.model_bucket_name}/")
    error_message = "model lies in another bucket than the model bucket, which the service may read: name its bucket as model_bucket."
  }
}

variable "model_revision" {
  type        = string
  default     = null
  description = "Pins the checkpoint: a commit, tag or branch of the repository, or the revision of a stored checkpoint."
  validation {
    condition     = var.model_revision == null ? true : length(var.model_revision) > 0
    error_message = "model_revision is a commit, tag, branch or revision, or null."
  }
}

variable "hf_token_secret" {
  type        = string
  default     = "hf-token"
  description = "Id of the secret that holds the Hugging Face token. Terraform makes the secret, a person adds its value, so that it is in no state file."
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,255}$", var.hf_token_secret))
    error_message = "hf_token_secret is 1 to 255 letters, digits, dashes and underscores."
  }
}

variable "hf_token_version" {
  type        = string
  default     = "latest"
  description = "Version of that secret which the service reads."
  validation {
    condition     = can(regex("^(latest|[1-9][0-9]*)$", var.hf_token_version))
    error_message = "hf_token_version is latest or a number from 1."
  }
}

variable "accelerator" {
  type        = string
  default     = "nvidia-l4"
  description = "GPU of an instance: `nvidia-l4` (with 8 CPUs and 32 GiB) or `nvidia-rtx-pro-6000` (with 20 CPUs and 80 GiB)."
  validation {
    condition     = contains(keys(local.accelerators), var.accelerator)
    error_message = "accelerator is ${join(" or ", keys(local.accelerators))}."
  }
}

variable "image_flavour" {
  type        = string
  default     = "cu126"
  description = "CUDA of the torch in the image. `cu126` for nvidia-l4, whose driver runs no later one; `cu128`, `cu129` or `cu130` for nvidia-rtx-pro-6000, which needs that."
  validation {
    condition     = contains(try(local.accelerators[var.accelerator].image_flavours, [var.image_flavour]), var.image_flavour)
    error_message = "image_flavour ${var.image_flavour} does not run on ${var.accelerator}: build the image with, and say, ${join(" or ", try(local.accelerators[var.accelerator].image_flavours, []))}."
  }
}

variable "zonal_redundancy" {
  type        = bool
  default     = false
  description = "Reserve capacity in a second zone. Dearer, and it has a quota of its own, which must be asked for."
}

# Scale.

variable "min_instances" {
  type        = number
  default     = 0
  description = "Instances that are always up; 0 costs nothing while there is no work, and the first request waits for a start."
  validation {
    condition     = var.min_instances >= 0 && var.min_instances <= 100 && floor(var.min_instances) == var.min_instances
    error_message = "min_instances is a whole number from 0 to 100."
  }
}

variable "max_instances" {
  type        = number
  default     = 1
  description = "Instances at most. The project's quotas must hold the GPUs, CPUs and memory of as many, and one GPU more, as a new revision starts beside the old one: docs/operate.md."
  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 100 && floor(var.max_instances) == var.max_instances
    error_message = "max_instances is a whole number from 1 to 100."
  }
  validation {
    condition     = var.max_instances >= var.min_instances
    error_message = "max_instances is not below min_instances (${var.min_instances})."
  }
}

variable "concurrency" {
  type        = number
  default     = 8
  description = "Requests and events that an instance has at a time; 8 are two forwards of the vision encoder, one on the GPU and one that waits."
  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 250 && floor(var.concurrency) == var.concurrency
    error_message = "concurrency is a whole number from 1 to 250."
  }
}

variable "pull_instances" {
  type        = map(number)
  default     = {}
  description = "Pull instead of push: `{ uploads = 1 }`, `{ jobs = 2 }` or both. Each such topic has a worker pool of that many instances, always up, instead of pushes to the service."
  validation {
    condition     = length(setsubtract(keys(var.pull_instances), ["jobs", "uploads"])) == 0
    error_message = "pull_instances has the keys uploads and jobs, or one of them."
  }
  validation {
    condition     = alltrue([for count in values(var.pull_instances) : count >= 1 && count <= 100 && floor(count) == count])
    error_message = "pull_instances are whole numbers from 1 to 100."
  }
}

# Inputs and outputs.

variable "input_buckets" {
  type        = list(string)
  default     = []
  description = "Existing buckets of this project whose uploads are segmented. None: one is made."
  validation {
    condition     = alltrue([for bucket in var.input_buckets : can(regex(local.bucket_pattern, bucket))])
    error_message = "input_buckets are bucket names without gs:// and without a slash."
  }
  validation {
    condition     = length(distinct(var.input_buckets)) == length(var.input_buckets)
    error_message = "input_buckets are named once each."
  }
}

variable "input_prefix" {
  type        = string
  default     = ""
  description = "Only objects whose name begins so are inputs."
  validation {
    condition     = !startswith(var.input_prefix, "/")
    error_message = "input_prefix is the beginning of an object name, such as in/; object names begin without a slash."
  }
}

variable "output_bucket" {
  type        = string
  default     = null
  description = "Existing bucket of the results. Unset: one is made."
  validation {
    condition     = var.output_bucket == null ? true : can(regex(local.bucket_pattern, var.output_bucket))
    error_message = "output_bucket is a bucket name without gs:// and without a slash, or null."
  }
}

variable "output_prefix" {
  type        = string
  default     = ""
  description = "Beginning of a result's name; `{bucket}` in it becomes the input bucket."
  validation {
    condition     = !startswith(var.output_prefix, "/")
    error_message = "output_prefix is the beginning of an object name, such as results/; object names begin without a slash."
  }
  validation {
    condition     = length(var.input_buckets) < 2 || strcontains(var.output_prefix, "{bucket}")
    error_message = "output_prefix needs {bucket} in it, as there are several input_buckets."
  }
  validation {
    condition = alltrue([
      for bucket in var.input_buckets :
      bucket != var.output_bucket || !startswith(var.input_prefix, replace(var.output_prefix, "{bucket}", bucket))
    ])
    error_message = "output_prefix is no beginning of input_prefix, as the output bucket is an input bucket: everything below it is ignored as input."
  }
}

variable "model_bucket" {
  type        = string
  default     = null
  description = "Existing bucket of checkpoints. Unset: one is made."
  validation {
    condition     = var.model_bucket == null ? true : can(regex(local.bucket_pattern, var.model_bucket))
    error_message = "model_bucket is a bucket name without gs:// and without a slash, or null."
  }
}

variable "read_buckets" {
  type        = list(string)
  default     = []
  description = "Existing buckets, beside the input and output buckets, that the image of a job or request may lie in."
  validation {
    condition     = alltrue([for bucket in var.read_buckets : can(regex(local.bucket_pattern, bucket))])
    error_message = "read_buckets are bucket names without gs:// and without a slash."
  }
}

variable "write_buckets" {
  type        = list(string)
  default     = []
  description = "Existing buckets, beside the output bucket, that the `output` of a job or sidecar may lie in."
  validation {
    condition     = alltrue([for bucket in var.write_buckets : can(regex(local.bucket_pattern, bucket))])
    error_message = "write_buckets are bucket names without gs:// and without a slash."
  }
}

variable "default_prompts" {
  type        = list(string)
  default     = []
  description = "Prompts of an image that has none of its own and none in its folders."
  validation {
    condition     = length(var.default_prompts) <= 64 && alltrue([for prompt in var.default_prompts : trimspace(prompt) != ""])
    error_message = "default_prompts are at most 64 prompts, none of them empty."
  }
}

variable "delete_inputs_after_days" {
  type        = number
  default     = null
  description = "Delete the objects of the input bucket that Terraform makes at this age. Unset: never."
  validation {
    condition     = var.delete_inputs_after_days == null ? true : var.delete_inputs_after_days >= 1 && floor(var.delete_inputs_after_days) == var.delete_inputs_after_days
    error_message = "delete_inputs_after_days is a whole number from 1."
  }
  validation {
    condition     = var.delete_inputs_after_days == null || length(var.input_buckets) == 0
    error_message = "delete_inputs_after_days is left out with input_buckets: their rules are their own."
  }
}

variable "delete_outputs_after_days" {
  type        = number
  default     = null
  description = "Delete the objects of the output bucket that Terraform makes at this age. Unset: never."
  validation {
    condition     = var.delete_outputs_after_days == null ? true : var.delete_outputs_after_days >= 1 && floor(var.delete_outputs_after_days) == var.delete_outputs_after_days
    error_message = "delete_outputs_after_days is a whole number from 1."
  }
  validation {
    condition     = var.delete_outputs_after_days == null || var.output_bucket == null
    error_message = "delete_outputs_after_days is left out with output_bucket: its rules are its own."
  }
}

variable "soft_delete_days" {
  type        = number
  default     = 7
  description = "Days for which deleted and overwritten objects of the buckets that Terraform makes can be restored, and cost as before; 0: none."
  validation {
    condition     = var.soft_delete_days == 0 || (var.soft_delete_days >= 7 && var.soft_delete_days <= 90 && floor(var.soft_delete_days) == var.soft_delete_days)
    error_message = "soft_delete_days is 0, or a whole number from 7 to 90."
  }
}

variable "results_subscriptions" {
  type        = map(string)
  default     = { all = "" }
  description = "Pull subscriptions to the results topic: a name and a filter, such as `{ failed = \"attributes.status = \\\"failed\\\"\" }`. What nobody subscribes to is lost."
  validation {
    condition     = alltrue([for name in keys(var.results_subscriptions) : can(regex("^[a-z][a-z0-9-]{0,40}$", name))])
    error_message = "results_subscriptions have names of at most 41 lower case letters, digits and dashes, a letter first."
  }
  validation {
    condition     = alltrue([for filter in values(var.results_subscriptions) : length(filter) <= 256])
    error_message = "results_subscriptions have filters of at most 256 characters, or \"\" for every message."
  }
}

# Who may do what.

variable "service_account" {
  type        = string
  default     = null
  description = "E-mail address of an existing service account for the service to run as. Unset: one is made. It gets the same grants."
  validation {
    condition     = var.service_account == null ? true : can(regex("^[a-z0-9-]+@[a-z0-9.-]+[.]gserviceaccount[.]com$", var.service_account))
    error_message = "service_account is an address that ends in gserviceaccount.com, or null."
  }
}

variable "invokers" {
  type        = list(string)
  default     = []
  description = "Who may call /segment, beside Pub/Sub's pushes: `user:…`, `group:…`, `serviceAccount:…`."
  validation {
    condition     = alltrue([for member in var.invokers : can(regex(local.member_pattern, member))])
    error_message = "invokers are user:…, group:…, serviceAccount:…, domain:…, principal:… or principalSet:…; allUsers would let anybody use the GPU."
  }
}

variable "job_publishers" {
  type        = list(string)
  default     = []
  description = "Who may publish jobs, in the same form. They reach every image in the input, output and read buckets."
  validation {
    condition     = alltrue([for member in var.job_publishers : can(regex(local.member_pattern, member))])
    error_message = "job_publishers are user:…, group:…, serviceAccount:…, domain:…, principal:… or principalSet:…."
  }
}

variable "ingress" {
  type        = string
  default     = "all"
  description = "Where requests may come from: `all` (IAM still checks each), `internal` (Pub/Sub's pushes still arrive, callers outside the network do not) or `internal-load-balancer`."
  validation {
    condition     = contains(keys(local.ingress), var.ingress)
    error_message = "ingress is ${join(", ", keys(local.ingress))}."
  }
}

# Further settings.

variable "log_level" {
  type        = string
  default     = "INFO"
  description = "Least severity that is logged."
  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "log_level is DEBUG, INFO, WARNING or ERROR."
  }
}

variable "environment" {
  type        = map(string)
  default     = {}
  description = "Further settings of docs/settings.md, such as `{ SAM3_IMAGE_BATCH = \"8\" }`. They reach the service and the worker pools."
  validation {
    condition     = length(setintersection(keys(var.environment), local.own_settings)) == 0
    error_message = "environment may not set ${join(", ", setintersection(keys(var.environment), local.own_settings))}: other variables here do."
  }
}

variable "labels" {
  type        = map(string)
  default     = {}
  description = "Labels of everything that can have labels."
  validation {
    condition     = alltrue([for key in keys(var.labels) : can(regex("^[a-z][a-z0-9_-]{0,62}$", key))])
    error_message = "labels have keys of at most 63 lower case letters, digits, dashes and underscores, a letter first."
  }
  validation {
    condition     = alltrue([for value in values(var.labels) : can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "labels have values of at most 63 lower case letters, digits, dashes and underscores."
  }
}

variable "deletion_protection" {
  type        = bool
  default     = true
  description = "Refuse to destroy the service: lifting it takes an apply of its own."
}

variable "force_destroy" {
  type        = bool
  default     = false
  description = "Let a destroy delete the buckets that Terraform made with all that is in them."
}

# Watching.

variable "alert_emails" {
  type        = list(string)
  default     = []
  description = "Addresses that alerts are sent to. None: they show in the console only."
  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", address))])
    error_message = "alert_emails are e-mail addresses."
  }
}

variable "alert_backlog_age_s" {
  type        = number
  default     = 1800
  description = "Alert when an event has waited this many seconds."
  validation {
    condition     = var.alert_backlog_age_s >= 60 && var.alert_backlog_age_s <= 604800
    error_message = "alert_backlog_age_s is a number of seconds from 60 to 604800 (7 days, when messages end)."
  }
}

variable "budget" {
  type = object({
    billing_account = string
    currency        = optional(string, "USD")
    monthly         = number
  })
  default     = null
  description = "Monthly budget of this project, `{ billing_account = \"012345-6789AB-CDEF01\", monthly = 200 }`: mails to the billing account's administrators at 50, 90 and 100 %. It stops nothing. `currency` must be the billing account's (USD)."
  validation {
    condition     = var.budget == null ? true : can(regex("^[0-9A-F]{6}(-[0-9A-F]{6}){2}$", var.budget.billing_account))
    error_message = "budget.billing_account is an id such as 012345-6789AB-CDEF01."
  }
  validation {
    condition     = var.budget == null ? true : var.budget.monthly >= 1 && floor(var.budget.monthly) == var.budget.monthly
    error_message = "budget.monthly is a whole number from 1."
  }
  validation {
    condition     = var.budget == null ? true : can(regex("^[A-Z]{3}$", var.budget.currency))
    error_message = "budget.currency is three capital letters, such as USD."
  }
}

locals {
  bucket_pattern = "^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$"
  # Not allUsers nor allAuthenticatedUsers.
  member_pattern = "^(user|group|serviceAccount|domain|principal|principalSet):.+$"
}
