"""The faults that `make mutate` puts in; that it finds survivors is seen in its report."""

from __future__ import annotations

from tests.deploy.mutate.__main__ import explained
from tests.deploy.mutate.mutants import mutants_of

TOPICS = """\
resource "google_pubsub_topic" "all" {
  name       = "a" # 5
  depends_on = [google_project_service.apis, google_project_service.lookups]
}

resource "google_pubsub_topic_iam_member" "publishes" {
  topic  = google_pubsub_topic.all.id
  role   = "roles/pubsub.publisher"
  member = local.member
}
"""
SERVICE = """\
resource "google_cloud_run_v2_service" "service" {
  count   = var.image == null ? 0 : 1
  timeout = "600s"

  template {
    scaling {}
    max_instance_request_concurrency = 8
    labels = { cpu = "8", memory = "32Gi", host = "v2" }
  }

  deletion_protection = true
  description         = "5 of 7"

  depends_on = [
    # 9: who may publish
    google_pubsub_topic_iam_member.publishes,
  ]
}
"""
FILES = {"service.tf": SERVICE, "topics.tf": TOPICS}


def names() -> set[str]:
    return {mutant.name for mutant in mutants_of(FILES)}


def test_grants() -> None:
    grant = "topics.tf google_pubsub_topic_iam_member.publishes"
    assert {f"{grant} dropped", f"{grant}: role changed", f"{grant}: member changed"} <= names()


def test_blocks() -> None:
    service = "service.tf google_cloud_run_v2_service.service"
    assert {f"{service} dropped", f"{service}/template dropped", f"{service}/template/scaling dropped"} <= names()


def test_dependencies() -> None:
    assert {name for name in names() if "depends_on" in name} == {
        "topics.tf google_pubsub_topic.all: depends_on google_project_service.apis dropped",
        "topics.tf google_pubsub_topic.all: depends_on google_project_service.lookups dropped",
        "service.tf google_cloud_run_v2_service.service: depends_on google_pubsub_topic_iam_member.publishes dropped",
    }


def test_numbers_and_flags() -> None:
    assert {name for name in names() if "→" in name} == {
        "service.tf google_cloud_run_v2_service.service: count 0 → 1",
        "service.tf google_cloud_run_v2_service.service: count 1 → 2",
        "service.tf google_cloud_run_v2_service.service: timeout 600 → 601",
        "service.tf google_cloud_run_v2_service.service/template: max_instance_request_concurrency 8 → 9",
        "service.tf google_cloud_run_v2_service.service/template: labels 8 → 9",
        "service.tf google_cloud_run_v2_service.service/template: labels 32 → 33",
        "service.tf google_cloud_run_v2_service.service: deletion_protection true → false",
    }


def test_one_fault_at_a_time() -> None:
    (mutant,) = [each for each in mutants_of(FILES) if each.name.endswith("timeout 600 → 601")]
    assert mutant.files(FILES) == {**FILES, "service.tf": SERVICE.replace("600s", "601s")}


def test_nothing_waits_for_what_is_gone() -> None:
    (mutant,) = [each for each in mutants_of(FILES) if each.name.endswith("publishes dropped") and each.gone]
    files = mutant.files(FILES)
    assert "iam_member" not in "".join(files.values())
    assert "depends_on = [\n    # 9: who may publish\n  ]" in files["service.tf"]


def test_an_entry_of_one_line() -> None:
    (mutant,) = [each for each in mutants_of(FILES) if each.name.endswith("google_project_service.apis dropped")]
    assert "depends_on = [google_project_service.lookups]\n" in mutant.text


def test_explained_survivors_are_read_from_the_page() -> None:
    page = "<!-- survivors -->\n| fault | why |\n|---|---|\n| `a.tf b: c` | because |\n<!-- end -->\n| `no` | no |\n"
    assert explained(page) == {"a.tf b: c"}
