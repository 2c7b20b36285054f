#!/bin/sh
# usage: venv.sh NAME
# Makes bench/NAME/.venv with what bench/NAME/requirements.txt pins, once. PYTHON
# names the interpreter; by default it is python3.11 where there is one, else another
# that can be used.
set -eu
name=bench/$1
cd "$(dirname "$0")/$1"
want="want Python 3.11 or 3.12, for which what requirements.txt pins has wheels"
python=
for p in ${PYTHON:-python3.11 python3.12 python3}; do
	# A shim may name a version that is not there: what counts is what runs.
	version=$("$p" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
	case $version in
	3.11 | 3.12)
		python=$p
		break
		;;
	*) echo "$name: $p is Python $version; $want" >&2 ;;
	esac
done
if [ -z "$python" ]; then
	echo "$name: no Python that can be used; $want (PYTHON=/path/to/python3.11)" >&2
	exit 2
fi
if [ -f .venv/done ] && cmp -s requirements.txt .venv/done; then
	exit 0
fi
echo "$name: installing what requirements.txt pins into $name/.venv with $python" >&2
rm -rf .venv
trap 'rm -rf .venv; exit 130' INT TERM
"$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
cp requirements.txt .venv/done
