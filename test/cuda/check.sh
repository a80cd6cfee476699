#!/bin/sh
# Everything that needs a GPU, in one go: tests, sanitizers where they are installed, benchmark.
#   check.sh FOLDER OUT [SECONDS]   FOLDER: the cuda_*_test programs and cuda_bench; OUT: for results; SECONDS: of one sanitizer (300)
folder=$1 out=$2 seconds=${3:-300}
mkdir -p "$out"
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem,power.limit --format=csv | tee "$out/device.csv"
tests="cuda_step_test cuda_unified_test cuda_operations_test cuda_model_test cuda_packed_test"
for test in $tests; do
  timeout 200 "$folder/$test" > "$out/$test.tap" 2> "$out/$test.err"
  echo "$test: exit $?, $(grep -c '^ok' "$out/$test.tap") ok, $(grep -c '^not ok' "$out/$test.tap") not ok"
  grep -A 1 '^not ok' "$out/$test.tap" | head -20
  head -3 "$out/$test.err"
done
timeout 180 "$folder/cuda_bench" > "$out/cuda_bench.jsonl"
timeout 180 "$folder/cuda_bench" --tokens 512 > "$out/cuda_bench_512.jsonl"
cut -c1-600 "$out/cuda_bench.jsonl" "$out/cuda_bench_512.jsonl" | sed 's/"device[^,]*, //; s/"group_columns.*"usual": true, //'
if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck initcheck; do
    for test in $tests; do
      timeout "$seconds" compute-sanitizer --tool $tool "$folder/$test" small > "$out/$tool-$test.txt" 2>&1
      echo "$tool $test: exit $?, $(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$out/$tool-$test.txt")"
    done
  done
fi
