#!/bin/sh
# Install $TORCH_VERSION of torch from $TORCH_INDEX_URL, or, when that does not have it or cannot be reached within
# seconds (or is empty), from wherever pip is configured to look. What is built against that torch (torchvision) goes
# with it. Usage: tools/install_torch.sh PIP [REQUIREMENT...]
set -eu
pip="$1 --disable-pip-version-check --quiet"
shift
set -- "torch==${TORCH_VERSION}" "$@"

if [ -n "${TORCH_INDEX_URL:-}" ]; then
    if why=$($pip --timeout 10 --retries 0 install --index-url "$TORCH_INDEX_URL" "$@" 2>&1); then
        exit 0
    fi
    echo "  not from $TORCH_INDEX_URL ($(printf '%s' "$why" | tail -n 1)): taking $* from pip's own index"
fi
exec $pip install "$@"
