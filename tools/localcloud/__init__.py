"""A local cloud: Google Cloud Storage and Pub/Sub emulators, ready for the service and its tests."""
