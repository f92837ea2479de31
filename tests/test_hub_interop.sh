#!/bin/sh
# One cache for us and for huggingface_hub: what one has fetched, the other uses as it is.
# HUB_PYTHON names a Python that has the package.
. "${top_srcdir:-..}/tests/hub_kit.sh"
peer=${HUB_PYTHON:-$python}
"$peer" -c 'import huggingface_hub' 2>/dev/null || {
	echo "skipped: $peer has no package huggingface_hub; HUB_PYTHON may name one that has"
	exit 77
}
serve

cat >peer.py <<'END'
import os
import sys

from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download

local = sys.argv[1] == "cached"
for name, revision in (("good/tiny", "main"), ("good/shards", "v1.0")):
    for file in sorted(os.listdir("root/" + name[5:])):
        path = hf_hub_download(name, file, revision=revision, local_files_only=local)
        with open(path, "rb") as a, open("root/%s/%s" % (name[5:], file), "rb") as b:
            assert a.read() == b.read(), path
    if local:
        assert snapshot_download(name, revision=revision, local_files_only=True) == \
            os.path.dirname(path)
cache = scan_cache_dir()
assert not cache.warnings, cache.warnings
assert len(cache.repos) == 2, cache.repos
assert all(r.nb_files == len(os.listdir("root/" + r.repo_id[5:])) for r in cache.repos), cache
END

peer() {
	checks=$((checks + 1))
	timeout 100 "$peer" peer.py "$1" >stdout 2>stderr || fail "huggingface_hub, $1: $(cat stderr)"
}

# ours, then theirs: without the net, then with it, where nothing is left to fetch
gets good/tiny
again good/shards 'revision: v1.0'
: >log
peer cached
asked 0 resolve
peer asked
asked 0 'GET .*resolve'
asked 0 cdn
gone home/hub/models--good--*/blobs/*.incomplete

# theirs, then ours
anew
peer asked
: >log
HF_HUB_OFFLINE=1 again good/tiny
HF_HUB_OFFLINE=1 again good/shards 'revision: v1.0'
asked 0 .
again good/tiny
again good/shards 'revision: v1.0'
asked 2 .
asked 0 resolve
finish
