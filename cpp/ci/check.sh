#!/usr/bin/env bash
# check.sh HEADERS: what is too slow for every test run. Needs clang, clang-format and clang-tidy.
#
# Address, undefined-behaviour and thread sanitizers over the tests and over eight threads on real
# engines; libFuzzer on manifests and artifacts; layout and lint. Any finding ends it with 1.
#   FUZZ_SECONDS  of each fuzzer (60)      ROUNDS  of the stress program (5)
#   ARTIFACTS     engines and graphs that return labels (two that `make demo` makes)
set -euo pipefail
cd "$(dirname "$0")/.."

headers=$1
fuzz_seconds=${FUZZ_SECONDS:-60}
rounds=${ROUNDS:-5}
work=${WORK:-$(mktemp -d)}
python=../.venv/bin/python
read -ra artifacts <<< "${ARTIFACTS:-../artifacts/demo/int8.onnxruntime.ort ../artifacts/demo/fp32.onnx}"
onnxruntime=$("$python" -c "
import pathlib, onnxruntime
print(next((pathlib.Path(onnxruntime.__file__).parent / 'capi').glob('libonnxruntime.so.*')))")

configure() {  # FOLDER OPTION...
  cmake -S . -B "$work/$1" -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DSEGDEPLOY_WERROR=ON -DCMAKE_PREFIX_PATH="${headers%/include}" "${@:2}" > "$work/$1.log"
  cmake --build "$work/$1" --parallel "${JOBS:-2}" >> "$work/$1.log" || { tail -40 "$work/$1.log"; exit 1; }
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
  ctest --test-dir "$work/$folder" --output-on-failure --timeout 600 | tail -3
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
    -artifact_prefix="$work/$name-" -print_final_stats=1 "$work/corpus/$name" 2> "$work/$name.txt" ||
    { tail -40 "$work/$name.txt"; exit 1; }
  grep -E 'number_of_executed_units' "$work/$name.txt" | sed "s/^/$name /"
  grep -E 'cov: ' "$work/$name.txt" | tail -1
done

echo "== clang-tidy"
# Not stb_image, which pictures.cpp includes, and not what needs the headers of TensorRT.
printf '%s\n' src/*.cpp tools/*.cpp deepstream/*.cpp examples/camera_service.cpp examples/minimal.cpp |
  grep -v -e tensorrt.cpp -e pictures.cpp | xargs -n 1 -P "${JOBS:-2}" clang-tidy --quiet -p "$work/address"
echo "all clean"
