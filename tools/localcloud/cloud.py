"""A whole local cloud in one `with` block."""

import contextlib
import shutil
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Self

import urllib3
from google.cloud import pubsub_v1, storage

from tools.localcloud import clients, resources, stats
from tools.localcloud.gcs import StorageProcess
from tools.localcloud.process import ProcessError
from tools.localcloud.pubsub.admin import CERTS_PATH
from tools.localcloud.pubsub.names import topic_path
from tools.localcloud.pubsub_process import PubSubProcess
from tools.localcloud.settings import LocalCloudSettings
from tools.localcloud.stats import SubscriptionStats
