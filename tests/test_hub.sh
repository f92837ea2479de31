#!/bin/sh
# Models of a hub: hub_server.py is the hub, also one that breaks off, lies and redirects.
. "${top_srcdir:-..}/tests/hub_kit.sh"

# ---- repositories ----

repo() {	# NAME INDEX: shards, with another index
	mkdir "root/$1"
	cp root/tiny/config.json "root/$1"
	echo "$2" >"root/$1/model.safetensors.index.json"
}
repo climbs '{"weight_map": {"a": "../../../evil.safetensors"}}'
repo hidden '{"weight_map": {"a": ".safetensors"}}'
repo control '{"weight_map": {"a": "x\u0007.safetensors"}}'
repo lacks '{"weight_map": {"a": "model-00009.safetensors"}}'
repo empty '{"weight_map": {}}'
repo list '[]'
mkdir root/gguf root/ggufs root/bin root/none root/alien root/configless
echo GGUF >root/gguf/only.Q4_0.gguf
for q in Q4_0 Q8_0; do echo $q >root/ggufs/m.$q.gguf; done
echo >root/bin/pytorch_model.bin
echo >root/none/README.md
cp root/tiny/model.safetensors root/alien
cp root/tiny/model.safetensors root/configless
echo '{"model_type": "martian"}' >root/alien/config.json
serve

commit=0123456789abcdef0123456789abcdef01234567
cache=home/hub/models--good--tiny
size=$(wc -c <root/tiny/model.safetensors)
tag=$(sha256sum root/tiny/model.safetensors | cut -d' ' -f1)

# a model, and what is left of it
gets good/tiny
there $cache/blobs/"$tag" home/hub/CACHEDIR.TAG
same "refs/main" "$(cat $cache/refs/main)" $commit
same "a link" "$(readlink $cache/snapshots/$commit/model.safetensors)" "../../blobs/$tag"
cmp root/tiny/model.safetensors $cache/snapshots/$commit/model.safetensors || fail contents
cmp root/tiny/config.json $cache/snapshots/$commit/config.json || fail contents
gone $cache/blobs/*.incomplete
asked 1 'cdn GET'
asked 0 Bearer
: >log
again good/tiny
asked 1 .
pass p.yaml
pass p.yaml --set model.path="$dir/root/tiny" --set output=local
same "the numbers" "$(number out/results.json evaluations base loss)" \
	"$(number local/results.json evaluations base loss)"
grep -q "revision: $commit" out/pipeline.yaml || fail "pipeline.yaml does not name the commit"
grep -q "path: good/tiny" out/pipeline.yaml || fail "pipeline.yaml does not name the model"
: >log
says_kept() {
	checks=$((checks + 1))
	"$run" --quiet p.yaml >stdout 2>stderr && fail "an output was overwritten"
	grep -q 'is not empty' stderr || fail "$(cat stderr)"
}
says_kept
asked 0 .
rm -rf out local

# without the net: asked not to use it, or as the hub is not there
: >log
export HF_HUB_OFFLINE=1
again good/tiny
again good/tiny "revision: $commit"
says_again 'revision v1.0 is not in the cache' good/tiny 'revision: v1.0'
says_again 'is not in the cache.*HF_HUB_OFFLINE is set' good/shards
rm $cache/snapshots/$commit/config.json
says_again 'has no config.json' good/tiny
asked 0 .
unset HF_HUB_OFFLINE
again good/tiny
asked 1 'HEAD .*/config.json'
HF_ENDPOINT=http://127.0.0.1:9 again good/tiny
grep -q 'uses what is in the cache, commit 0123456789ab' stderr || fail "no warning: $(cat stderr)"
anew
HF_ENDPOINT=http://127.0.0.1:9 says_again 'cannot be downloaded: http://127.0.0.1:9: ' good/tiny

# revisions, places, an existing path
gets good/tiny 'revision: refs/pr/1'
same "refs" "$(cat $cache/refs/refs/pr/1)" $commit
asked 1 'revision/refs%2Fpr%2F1 '
gets good/tiny "revision: $commit"
gone $cache/refs
HF_HUB_CACHE=$dir/home/elsewhere gets good/tiny
there home/elsewhere/models--good--tiny/refs/main
XDG_CACHE_HOME=$dir/home/xdg HF_HOME='' gets good/tiny
there home/xdg/huggingface/hub/models--good--tiny/refs/main
anew
mkdir good
cp -r root/tiny good/tiny
again good/tiny
asked 0 .
rm -r good

# shards, relative redirects, other kinds of files
gets good/shards
asked 2 'cdn GET'
gets relative/tiny
says 'only.Q4_0.gguf: ' good/gguf
there home/hub/models--good--gguf/snapshots/$commit/only.Q4_0.gguf
says 'download one and give its path: m.Q4_0.gguf, m.Q8_0.gguf' good/ggufs
says 'its weights are in pytorch_model.bin only' good/bin
says 'neither model.safetensors nor a .gguf file' good/none
says 'good/configless: has no config.json' good/configless
says 'martian' good/alien
asked 0 cdn
gone home/hub/models--good--alien/blobs/"$tag"

# tokens: only for the hub
HF_TOKEN=hf_right gets unauthorized/tiny
asked 0 'cdn.*Bearer'
asked 1 'GET /api.*Bearer_hf_right'
anew
mkdir home
echo ' hf_right ' >home/token
again unauthorized/tiny
HF_TOKEN=hf_wrong says 'does not accept the token (401): renew HF_TOKEN' unauthorized/tiny
HF_TOKEN="a b" says 'a token has no spaces' unauthorized/tiny
says 'no such model that everybody may read (401): check the name, or set HF_TOKEN' unauthorized/tiny
says '(403): accept its licence at .*/gated/tiny and set HF_TOKEN' gated/tiny
says 'no such model on .*, and no such path here' good/nothing
says 'has no revision "nothing"' good/tiny 'revision: nothing'
says '"../main" cannot be a revision' good/tiny 'revision: ../main'
says 'revision main has no file tokenizer_config.json' gone/tiny

# trouble that ends
gets busy/tiny
asked 3 '/api/models/busy'
gets unstable/tiny
asked 3 'cdn GET'
gets cut/tiny
asked 1 "cdn GET .* bytes=$((size / 3))-"
gets norange/tiny
asked 2 'cdn GET'
gets close/tiny
asked 1 "cdn GET .* bytes=$((size / 2))-"
HF_HUB_DOWNLOAD_TIMEOUT=2 gets trickle/tiny
asked 2 'cdn GET'

# trouble that does not
says 'trouble (500 for the list of files): try again later' trouble/tiny
asked 5 .
says 'too many requests (429): try again in 3600 seconds' patience/tiny
asked 1 .
says 'drip/tiny: model.safetensors: .*transfer closed' drip/tiny
there home/hub/models--drip--tiny/blobs/"$tag".incomplete
says 'no JSON.*is HF_ENDPOINT right' html/tiny
says 'no JSON' list/tiny
says 'no commit' sha/tiny
says 'more than 8 redirects' loop/tiny
says 'redirects to what is no https or http address' scheme/tiny
says 'redirects to nowhere' nowhere/tiny
says 'an answer of more than 16 MiB' endless/tiny
says 'of commit .* where 0123' commit/tiny
says 'says no checksum of config.json' untagged/tiny
says 'no checksum of model.safetensors' tags/tiny
says 'needs .* MiB, but .* has room for' huge/tiny
says 'no length of model.safetensors' absurd/tiny
asked 0 cdn
says "sends $((size - 100)) bytes, but has announced $size" short/tiny
says "sends $((size + 100)) bytes, but has announced $size" long/tiny
says "bytes, but has announced $size" unlimited/tiny
says "another part than was asked" elsewhere/tiny
says 'does not have the checksum' corrupt/tiny
gone home/hub/models--corrupt--tiny/blobs/"$tag" home/hub/models--corrupt--tiny/blobs/*.incomplete
gets names/tiny

# names that lead out of the folder
says 'no plain .safetensors file' good/climbs
says 'no plain .safetensors file' good/hidden
says 'no plain .safetensors file' good/control
says 'model-00009.safetensors, a shard .* is not among its files' good/lacks
says 'no weight_map' good/empty
says 'no weight_map' good/list
[ -z "$(find . -name '*evil*')" ] || fail "something was written outside: $(find . -name '*evil*')"

# what an earlier run left: a part is gone on with, a damaged one is not
gets good/tiny
mv $cache/blobs/"$tag" whole
head -c 5000 whole >$cache/blobs/"$tag".incomplete
: >log
again good/tiny
asked 1 'cdn GET .* bytes=5000-'
rm $cache/blobs/"$tag"
head -c 5000 /dev/zero >$cache/blobs/"$tag".incomplete
: >log
again good/tiny
asked 2 'cdn GET'
cmp whole $cache/blobs/"$tag" || fail "damage went through"
rm $cache/blobs/"$tag"
cat whole whole >$cache/blobs/"$tag".incomplete
again good/tiny
cmp whole $cache/blobs/"$tag" || fail "too much was kept"
rm -r $cache/snapshots
: >log
again good/tiny
asked 0 'cdn GET'

# stopped in the middle, by either signal: the part is kept
export HF_HUB_DOWNLOAD_TIMEOUT=30
for signal in INT TERM; do
	anew
	checks=$((checks + 1))
	pipeline slow/tiny
	"$run" --quiet p.yaml >stdout 2>stderr </dev/null &
	pid=$!
	part=home/hub/models--slow--tiny/blobs/$tag.incomplete
	for i in $(seq 300); do
		[ -s "$part" ] || sleep 0.1
	done
	sleep 0.2
	kill -$signal $pid
	wait $pid
	code=$?
	[ $code -eq 130 ] || fail "$signal: exit $code: $(cat stderr)"
	grep -q 'interrupted: what was downloaded is kept' stderr || fail "$signal: $(cat stderr)"
	there "$part"
	cmp -n 65536 "$part" whole || fail "the part is not the beginning"
	again slow/tiny
	asked 1 'cdn GET .* bytes=65536-'
done

# two at once
anew
pipeline good/tiny
"$run" --quiet --check p.yaml >/dev/null 2>first &
"$run" --quiet --check p.yaml >/dev/null 2>second || fail "second of two: $(cat second)"
wait $! || fail "first of two: $(cat first)"
asked 1 'cdn GET'
finish
