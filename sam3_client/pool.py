"""Connections to the service: straight, or through the proxy that the environment names."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

_MOST_KEPT = 16


def pool_for(url: str, timeout: urllib3.Timeout) -> urllib3.PoolManager:
    """A pool for requests to `url`, by way of HTTP_PROXY or HTTPS_PROXY (or the system's), but for NO_PROXY."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme, "")
    if not proxy or proxy_bypass(parts.netloc):
        return urllib3.PoolManager(maxsize=_MOST_KEPT, retries=False, timeout=timeout)
    if "://" not in proxy:  # as curl takes it
        proxy = f"http://{proxy}"
    auth = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=unquote(auth)) if auth else None
    return urllib3.ProxyManager(proxy, maxsize=_MOST_KEPT, proxy_headers=headers, retries=False, timeout=timeout)
