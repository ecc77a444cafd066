"""gunicorn's configuration: gunicorn -c python:service.gunicorn_conf 'service.app:from_environment()'."""

from service.settings import Settings
from service.web import logs

_settings = Settings.or_exit()

bind = f"0.0.0.0:{_settings.port}"
# One process owns the model; threads share it.
workers = 1
worker_class = "gthread"
threads = _settings.web_threads
# A busy model is no hung worker: the platform's own timeout (600 s for a push) ends a request.
timeout = 0
# Cloud Run takes the instance away 10 s after SIGTERM; what is not done by then is delivered again.
graceful_timeout = 9
# Longer than the front end keeps its connections, so that it never writes into one that has just been closed.
keepalive = 620
control_socket_disable = True
accesslog = None
logconfig_dict = logs.config(_settings.log_level)
