# read_board.awk - what a file of TensorBoard's events holds: od -An -v -tu1 FILE | awk -f this.
# A line for each scalar: tag, step, the bits of its value; "START step" where a run goes on;
# "TORN" where the file does not end with a record.
{ for (i = 1; i <= NF; i++) data[n++] = $i }

# The number at `at`, which goes past it.
function varint(	value, scale) {
	value = 0
	for (scale = 1; data[at] > 127; scale *= 128)
		value += (data[at++] - 128) * scale
	return value + data[at++] * scale
}

# Goes past the value of a field of this wire type.
function skip(wire) {
	if (wire == 0)
		varint()
	else
		at += wire == 1 ? 8 : wire == 5 ? 4 : varint()
}

# Summary: its only value.
function summary(step,	end, length_, key, tag, bits, i) {
	varint()			# the field, and
	end = varint() + at		# the length, of Value
	tag = bits = ""
	while (at < end) {
		key = varint()
		if (key == 10) {
			for (length_ = varint(); length_ > 0; length_--)
				tag = tag sprintf("%c", data[at++])
		} else if (key == 21) {
			for (i = 3; i >= 0; i--)
				bits = bits sprintf("%02x", data[at + i])
			at += 4
		} else {
			skip(key % 8)
		}
	}
	if (bits != "")
		print tag, step, bits
}

END {
	for (from = 0; from < n; from = end + 4) {
		size = data[from] + 256 * data[from + 1] + 65536 * data[from + 2]
		at = from + 12
		end = at + size
		if (end + 4 > n) {
			print "TORN"
			exit
		}
		for (step = 0; at < end; ) {
			key = varint()
			if (key == 16) {
				step = varint()
			} else if (key == 42) {
				varint()
				summary(step)
			} else if (key == 58) {
				print "START", step
				skip(2)
			} else {
				skip(key % 8)
			}
		}
	}
}
