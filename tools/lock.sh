#!/bin/sh
# Write requirements/*.txt: every package of the image with its version and hashes. Usage: tools/lock.sh UV
#
# torch, torchvision and triton are left out, and so is what only they bring: their builds differ from index to index,
# so TORCH_VERSION pins them. The order matters: a later file takes shared packages as the earlier ones have them.
set -eu
cd "$(dirname "$0")/.."
left_out=$(mktemp)
trap 'rm -f "$left_out"' EXIT
printf 'torch\ntorchvision\ntriton\n' >"$left_out"

lock() {
    output=$1
    shift
    "$UV" pip compile --quiet --generate-hashes --no-emit-index-url --python-version 3.11 \
        --python-platform x86_64-manylinux_2_36 --excludes "$left_out" --custom-compile-command 'make lock' \
        --output-file "requirements/$output" "$@"
}

UV=$1
lock torch.txt requirements/torch.in
lock service.txt pyproject.toml --extra tracing --constraints requirements/torch.txt
lock official.txt requirements/official.in --constraints requirements/service.txt --constraints requirements/torch.txt
lock test.txt pyproject.toml --extra test --constraints requirements/service.txt --constraints requirements/torch.txt
