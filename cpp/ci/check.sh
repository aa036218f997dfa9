#!/usr/bin/env bash
# check.sh HEADERS: what is too slow for every test run. Needs clang, clang-format and clang-tidy.
#
# Address, undefined-behaviour and thread sanitizers over the tests and over eight threads on real
# engines; libFuzzer on manifests and artifacts; layout and lint. Any finding ends it with 1.
#   FUZZ_SECONDS  of each fuzzer (60)      ROUNDS  of the stress program (5)
#   ARTIFACTS     engines and graphs that return labels (two that `make demo` makes)
#   TENSORRT      folder of NvInferRuntime.h: include/ of https://github.com/NVIDIA/TensorRT. With it
#                 the TensorRT backend is built, linked with the TensorRT-RTX of the environment,
#                 tested and linted; without it is left out, and the last line says so
set -euo pipefail
test $# = 1 || { echo "usage: check.sh HEADERS, a folder that headers.sh filled" >&2; exit 2; }
headers=$(realpath "$1")
tensorrt=${TENSORRT:+$(realpath "$TENSORRT")}
cd "$(dirname "$0")/.."

fuzz_seconds=${FUZZ_SECONDS:-60}
rounds=${ROUNDS:-5}
work=${WORK:-$(mktemp -d)}
python=../.venv/bin/python
read -ra artifacts <<< "${ARTIFACTS:-../artifacts/demo/int8.onnxruntime.ort ../artifacts/demo/fp32.onnx}"
library() {  # MODULE PATTERN: a file that a wheel brought
  "$python" -c "
import importlib.util, pathlib, sys
print(next(pathlib.Path(importlib.util.find_spec(sys.argv[1]).origin).parent.glob(sys.argv[2])))" "$@"
}
onnxruntime=$(library onnxruntime 'capi/libonnxruntime.so.*')
for artifact in "${artifacts[@]}"; do
  test -f "$artifact" || { echo "check.sh: no $artifact; make demo makes it" >&2; exit 1; }
done

configure() {  # FOLDER OPTION...
  quietly cmake -S . -B "$work/$1" -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DSEGDEPLOY_WERROR=ON -DCMAKE_PREFIX_PATH="${headers%/include}" "${@:2}"
  quietly cmake --build "$work/$1" --parallel "${JOBS:-2}"
}
own_tests() {  # FOLDER OPTION...
  quietly ctest --test-dir "$work/$1" --output-on-failure --timeout 600 "${@:2}"
  grep 'tests passed' "$work/log"
}
quietly() {  # COMMAND...: what it says is shown where it fails
  "$@" > "$work/log" 2>&1 || { tail -60 "$work/log"; exit 1; }
}

echo "== clang-format"
find . -name '*.[ch]pp' -o -name '*.h' | xargs clang-format --dry-run --Werror

export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS="suppressions=$PWD/ci/tsan.txt halt_on_error=1"
for sanitizer in address,undefined thread; do
  echo "== $sanitizer"
  folder=${sanitizer%%,*}  # a comma in it would end an option of the linker
  configure "$folder" -DSEGDEPLOY_SANITIZE="$sanitizer" -DSEGDEPLOY_TESTS=ON
  own_tests "$folder"
  for artifact in "${artifacts[@]}"; do
    "$work/$folder/tests/stress" "$artifact" "$onnxruntime" "$rounds"
    echo "stress, $rounds rounds in 8 threads: ${artifact##*/}"
  done
done

echo "== libFuzzer, $fuzz_seconds s each"
configure fuzz -DSEGDEPLOY_FUZZ=ON -DSEGDEPLOY_TOOLS=OFF -DSEGDEPLOY_SANITIZE=address,undefined
for name in manifest artifact graph; do
  mkdir -p "$work/corpus/$name"
  cp fuzz/seed.json "$work/corpus/$name/"
done
# The seed as a graph: the header and metadata of an ONNX file.
"$python" - fuzz/seed.json "$work/corpus/graph/seed.onnx" << 'PROGRAM'
import json, sys
import onnx
from onnx import helper
model = helper.make_model(helper.make_graph([], "g", [], []))
values = json.loads(open(sys.argv[1]).read())
helper.set_model_props(model, {f"segdeploy.{k}": json.dumps(v) for k, v in values.items()})
model.graph.initializer.append(helper.make_tensor("t", onnx.TensorProto.FLOAT, [1], [1.0]))
open(sys.argv[2], "wb").write(model.SerializeToString())
PROGRAM
for name in manifest artifact graph; do
  "$work/fuzz/fuzz/fuzz_$name" -max_total_time="$fuzz_seconds" -max_len=8192 -rss_limit_mb=2048 \
    -dict=fuzz/json.dict -artifact_prefix="$work/$name-" -print_final_stats=1 "$work/corpus/$name" 2> "$work/$name.txt" ||
    { tail -40 "$work/$name.txt"; exit 1; }
  grep -E 'number_of_executed_units' "$work/$name.txt" | sed "s/^/$name /"
  grep -E 'cov: ' "$work/$name.txt" | tail -1
done

if [ -n "$tensorrt" ]; then
  echo "== TensorRT"
  configure tensorrt -DSEGDEPLOY_TENSORRT=ON -DSEGDEPLOY_TESTS=ON -DTensorRT_INCLUDE_DIR="$tensorrt" \
    -DTensorRT_LIBRARY="$(library tensorrt_rtx_libs 'libtensorrt_rtx.so.*')"
  own_tests tensorrt -R '^tensorrt$'
fi

echo "== clang-tidy"
lint() {  # BUILD PATTERN: every source that was compiled there and fits
  "$python" - "$work/$1/compile_commands.json" "$PWD/$2" << 'PROGRAM' |
import json, re, sys
files = {entry["file"] for entry in json.load(open(sys.argv[1]))}
print(*sorted(name for name in files if re.match(sys.argv[2], name)), sep="\n")
PROGRAM
    xargs -n 1 -P "${JOBS:-2}" clang-tidy --quiet -p "$work/$1" 2>&1 |
    { grep -v ' generated\.$' || true; }  # how many there are in headers of others
}
lint address '(src|tools|examples)/'
if [ -n "$tensorrt" ]; then
  lint tensorrt 'src/(cuda|tensorrt)'
  echo "all clean"
else
  echo "all clean; the TensorRT backend was left out: TENSORRT names no headers"
fi
test -n "${WORK:-}" || rm -rf "$work"  # kept where something was found
