"""gunicorn's configuration: gunicorn -c python:service.gunicorn_conf 'service.app:from_environment()'."""

from service.gunicorn_worker import PatientWorker
from service.settings import STOP_S, Settings
from service.telemetry import logs

_settings = Settings.or_exit()


class _Worker(PatientWorker):
    patience_s = _settings.read_timeout_s


bind = f"0.0.0.0:{_settings.port}"
# One process owns the model; threads share it.
workers = 1
worker_class = _Worker
threads = _settings.web_threads
# A busy model is no hung worker: the platform's own timeout (600 s for a push) ends a request.
timeout = 0
graceful_timeout = STOP_S
# Longer than the front end keeps its connections, so that it never writes into one that has just been closed.
keepalive = 620
control_socket_disable = True
accesslog = None
logconfig_dict = logs.config(_settings.log_level, _settings.google_cloud_project)
