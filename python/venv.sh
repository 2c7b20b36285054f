#!/bin/sh
# Makes .venv in the repository's root with python/requirements.txt and the package
# driftmesh (as a link to python/), once. PYTHON names the interpreter; by default it
# is the first of python3.11, python3.12, python3.13 and python3 that runs.
set -eu
cd "$(dirname "$0")/.."
want="want Python 3.11, 3.12 or 3.13 with venv (PYTHON=/path/to/python3.11)"
if [ "${1:-}" != locked ] && command -v flock >/dev/null; then
	exec flock .venv.lock "$0" locked
fi
stamp() { cat python/requirements.txt python/pyproject.toml; pwd; }
if [ -f .venv/done ] && stamp | cmp -s - .venv/done; then
	exit 0
fi
python=
for p in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
	# A shim may name a version that is not there: what counts is what runs.
	version=$("$p" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
	case $version in
	3.11 | 3.12 | 3.13)
		python=$p
		break
		;;
	*) echo "python: $p is Python $version; $want" >&2 ;;
	esac
done
if [ -z "$python" ]; then
	echo "python: no Python that can be used; $want" >&2
	exit 2
fi
echo "python: installing what python/requirements.txt pins into .venv with $python" >&2
rm -rf .venv
trap 'rm -rf .venv; exit 130' INT TERM
"$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r python/requirements.txt
# A link and no copy, so that tests run what is here.
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$PWD/python" >"$site/driftmesh.pth"
stamp >.venv/done
