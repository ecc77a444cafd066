"""What gpu.py measures. Imports torch, transformers, numpy, OpenCV, pycocotools, and parts of the service that do."""
