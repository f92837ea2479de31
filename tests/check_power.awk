# check_power.awk - whether a loss of power at any line of a record (record_calls.c) leaves
# what --resume needs. Prints the lines at which it does not; exit 1 if there are any.
#
# What is not put on the disk may be lost, each on its own: what a file holds until it is
# synced, that a name is there until its folder is. So:
#  - what gets a name that counts is all on the disk, as are the folders that it lies in;
#  - best.json, finished.json and results.json, which speak of other files, get theirs when
#    all else is on the disk, and keep it before anything else gets one;
#  - so is events.jsonl, of whose length a checkpoint and finished.json speak;
#  - all is on the disk before a checkpoint is removed, before the next is begun, and at the
#    end.
# -v without="N M ..." leaves these lines out.
BEGIN {
	FS = "\t"
	n = split(without, line, " ")
	for (i = 1; i <= n; i++)
		out[line[i]] = 1
}

function parent(path) { sub("/[^/]*$", "", path); return path }
function base(path) { sub(".*/", "", path); return path }

# Names that do not count: drafts, the lock, and what is on its way out.
function draft(path) {
	return path ~ /\.tmp-[0-9-]*(\/|$)/ || path ~ /\.new(\/|$)/ || path ~ /\.old(\/|$)/ ||
		base(path) == "lock"
}

function speaks(path) { return path ~ /\/(best|finished|results)\.json$/ }

function below(path, folder) { return folder != "" && index(path, folder "/") == 1 }

function wrong(what) {
	if (bad++ < 5)
		print NR ": " $0 ": " what
}

# All but `path`, which is getting its name; "": all.
function all_there(path,	p) {
	for (p in lost)
		if (p != path && !below(p, path) && !(draft(p) && lost[p] == "name"))
			wrong("the " lost[p] " of " p " may be lost")
}

function forget(path,	p) {
	for (p in lost)
		if (p == path || below(p, path))
			delete lost[p]
	for (p in named)
		if (p == path || below(p, path))
			delete named[p]
}

function check_rename(from, to,	p) {
	for (p in lost)
		if ((p == from && lost[p] == "content") || below(p, from))
			wrong("the " lost[p] " of " p " may be lost")
	for (p = parent(to); !draft(to) && p != ""; p = parent(p))
		if (p in named)
			wrong("the name of " p " may be lost")
	for (p in named)
		if (!draft(to) && speaks(p))
			wrong("the name of " p " may be lost")
	if (base(to) == "checkpoint.json" || base(to) == "finished.json") {
		if (!events)
			wrong("events.jsonl may be shorter")
		events = 0
	}
	if (speaks(to) || to ~ /\.old$/)
		all_there(from)
}

# lost: content that is not on the disk, or a name; named: names that are not, even where
# the content is not either.
function move(from, to,	p, n, i, all, what, names) {
	forget(to)
	for (p in lost)
		if (below(p, from))
			all[++n] = p
	for (i = 1; i <= n; i++) {
		what = lost[all[i]]
		names = all[i] in named
		delete lost[all[i]]
		delete named[all[i]]
		p = to substr(all[i], length(from) + 1)
		lost[p] = what
		if (names)
			named[p] = 1
	}
	what = lost[from]
	delete lost[from]
	delete named[from]
	add(to)
	if (what == "content")
		lost[to] = what
}

function add(path) {
	if (base(path) == "lock")
		return
	lost[path] = "name"
	named[path] = 1
}

function sync(path,	p) {
	if (base(path) == "events.jsonl")
		events = 1
	if (lost[path] == "content" && path in named)
		lost[path] = "name"
	else if (lost[path] != "name")
		delete lost[path]
	for (p in named)
		if (parent(p) == path) {
			delete named[p]
			if (lost[p] == "name")
				delete lost[p]
		}
}

NR in out { next }
$1 == "folder" && $2 ~ /\/checkpoints\/.*\.tmp-/ { all_there("") }
$1 == "create" || $1 == "folder" { add($2) }
$1 == "write" && base($2) != "lock" { lost[$2] = "content" }
$1 == "sync" { sync($2) }
$1 == "rename" { check_rename($2, $3); move($2, $3) }
$1 == "remove" {
	if ($2 ~ /\/checkpoints\// && $2 !~ /\.tmp-|\.new/)
		all_there("")
	forget($2)
}
$1 == "end" { all_there("") ; ended = 1 }
END {
	if (!ended)
		wrong("there is no end")
	exit bad > 0
}
