# hub_kit.sh - what the tests of hubs share; sourced. Makes the repositories tiny and shards
# under root/, and serves what is there: HF_ENDPOINT, and requests in log.
. "${top_srcdir:-..}/tests/e2e_kit.sh"
python=${PYTHON:-python3}
plugin=$top_builddir/plugins-built/source-huggingface.so
[ -e "$plugin" ] || {
	echo "skipped: source huggingface is not built, as libcurl was not found"
	exit 77
}
command -v "$python" >/dev/null || {
	echo "skipped: the server of this test needs $python"
	exit 77
}
top_srcdir=$(cd "${top_srcdir:-..}" && pwd)
cd "$dir" || exit 99
unset HF_TOKEN HF_TOKEN_PATH HUGGING_FACE_HUB_TOKEN HF_HUB_CACHE HUGGINGFACE_HUB_CACHE
unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE http_proxy HTTP_PROXY all_proxy ALL_PROXY
unset https_proxy HTTPS_PROXY REQUESTS_CA_BUNDLE CURL_CA_BUNDLE SSL_CERT_FILE
export HF_HOME=$dir/home HF_HUB_DOWNLOAD_TIMEOUT=20 no_proxy=127.0.0.1

# ---- repositories ----

make_text "$dir/text" 60
{
	begin made "$(echo "$tied" | tr -d '\n')"
	echo 'steps: [{task: save, from: base, path: hf, format: hf}]'
} >made.yaml
"$run" --quiet made.yaml || exit 99
mkdir root
cp -r made/hf root/tiny
echo '{}' >root/tiny/tokenizer_config.json
cp -r root/tiny root/shards
"$python" "$top_srcdir/tests/hub_server.py" split root/shards || exit 99

# serve [CERTIFICATE KEY]
serve() {
	"$python" "$top_srcdir/tests/hub_server.py" serve "$dir/root" "$dir/log" "$dir/ports" "$@" &
	for i in $(seq 60); do
		[ -e ports ] || sleep 0.5
	done
	read -r port cdn <ports || {
		echo "skipped: hub_server.py has found no port"
		exit 77
	}
	export HF_ENDPOINT=http${1:+s}://127.0.0.1:$port/
}

# ---- asking ----

# pipeline NAME [KEYS]: evaluates the model of that name
pipeline() {
	{
		begin out "{path: $1, tokenizer: bytes${2:+, $2}}"
		echo 'steps: [{task: evaluate, of: [base], data: test}]'
	} >p.yaml
}

anew() {
	rm -rf home
	: >log
}

# gets NAME [KEYS]: it is fetched, into an empty cache; requests are in log
gets() {
	anew
	again "$@"
}

again() {
	checks=$((checks + 1))
	pipeline "$@"
	timeout 60 "$run" --quiet --check p.yaml >stdout 2>stderr </dev/null && return
	fail "$*: exit $?: $(cat stderr)"
	return 1
}

# says PATTERN NAME [KEYS]: it is refused, with an empty cache, before anything runs
says() {
	anew
	says_again "$@"
}

says_again() {
	checks=$((checks + 1))
	pattern=$1
	shift
	pipeline "$@"
	timeout 60 "$run" --quiet p.yaml >stdout 2>stderr </dev/null
	code=$?
	[ $code -eq 2 ] || fail "$*: exit $code: $(cat stderr)"
	grep -q "^qat-run: p.yaml:5:8: .*$pattern" stderr || fail "$*: no \"$pattern\": $(cat stderr)"
	[ "$(wc -l <stderr)" -eq 1 ] || fail "$*: more than a line: $(cat stderr)"
	[ ! -e out ] || fail "$*: was refused, but left an output"
	rm -rf out
}

# asked COUNT PATTERN: so many lines of log
asked() {
	checks=$((checks + 1))
	n=$(grep -c -e "$2" log)
	[ "$n" -eq "$1" ] || fail "\"$2\" was asked $n times, not $1: $(cat log)"
}

# there PATH.., gone PATH..
there() {
	checks=$((checks + 1))
	for f; do [ -e "$f" ] || fail "$f is not there: $(find home)"; done
}
gone() {
	checks=$((checks + 1))
	for f; do [ ! -e "$f" ] || fail "$f is there"; done
}
