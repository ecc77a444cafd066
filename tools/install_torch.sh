#!/bin/sh
# Install the CPU build of torch from $TORCH_INDEX_URL, or, when that cannot be reached within seconds (or is
# empty), $TORCH_VERSION from wherever pip is configured to look. What is built against that torch (torchvision) goes
# with it. Usage: tools/install_torch.sh PIP [REQUIREMENT...]
set -eu
pip="$1 --disable-pip-version-check --quiet"
shift
set -- "torch==${TORCH_VERSION}" "$@"

if [ -n "${TORCH_INDEX_URL:-}" ]; then
    if $pip --timeout 10 --retries 0 install --index-url "$TORCH_INDEX_URL" "$@" 2>/dev/null; then
        exit 0
    fi
    echo "  $TORCH_INDEX_URL cannot be reached: taking $* from pip's own index"
fi
exec $pip install "$@"
