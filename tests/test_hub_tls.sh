#!/bin/sh
# A hub behind TLS: whom it is believed, and that nothing leaves the encryption.
. "${top_srcdir:-..}/tests/hub_kit.sh"
command -v openssl >/dev/null || {
	echo "skipped: openssl, which makes the certificate, is not there"
	exit 77
}
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 \
	-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out hub.pem 2>openssl.log || {
	echo "skipped: openssl makes no certificate: $(tail -n 1 openssl.log)"
	exit 77
}
serve "$dir/hub.pem" "$dir/key.pem"

# nobody vouches for it; then each variable of a bundle does
says "https://127.0.0.1:$port: .*certificate" own/tiny
asked 0 .
for name in REQUESTS_CA_BUNDLE CURL_CA_BUNDLE SSL_CERT_FILE; do
	export $name="$dir/hub.pem"
	gets own/tiny
	asked 1 'hub GET /own/tiny/model.safetensors'
	asked 0 cdn
	unset $name
done

# a bundle that is not there, or holds nothing
REQUESTS_CA_BUNDLE=$dir/nothing.pem \
	says "no certificates in .*/nothing.pem, which REQUESTS_CA_BUNDLE names" own/tiny
echo >empty.pem
REQUESTS_CA_BUNDLE=$dir/empty.pem says "https://127.0.0.1:$port: .*certificate" own/tiny

# a certificate for another name
export REQUESTS_CA_BUNDLE=$dir/hub.pem
HF_ENDPOINT=https://localhost:$port says "https://localhost:$port: .*\(name\|match\)" own/tiny

# what is encrypted stays so, and a token goes nowhere in the clear
says 'redirects to http://127.0.0.1:[0-9]*, which is not encrypted' good/tiny
asked 0 cdn
HF_TOKEN=hf_right says 'redirects to http://127.0.0.1:[0-9]*, which is not encrypted' good/tiny
asked 0 cdn
# plain words to a port that speaks TLS
HF_ENDPOINT=http://127.0.0.1:$port says "http://127.0.0.1:$port: " own/tiny
finish
