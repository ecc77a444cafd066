"""SAM 3 as an event-driven worker: images and phrases in, instances out."""
