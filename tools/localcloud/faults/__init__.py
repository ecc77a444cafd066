"""Proxies in front of the local cloud and of the service: they count calls, lose some, and hold or interrupt others."""

from tools.localcloud.faults.calls import ANSWERED, ARRIVES, GOOGLE_CALLS, Call, Cut, Script
from tools.localcloud.faults.proxies import Proxies

__all__ = ["ANSWERED", "ARRIVES", "GOOGLE_CALLS", "Call", "Cut", "Proxies", "Script"]
