#!/bin/sh
# Everything that needs a GPU, in one go: tests, sanitizers where they are installed, benchmark.
#   check.sh FOLDER OUT    FOLDER: cuda_packed_test, cuda_operations_test, cuda_model_test, cuda_bench; OUT: for results
folder=$1 out=$2
mkdir -p "$out"
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem,power.limit --format=csv | tee "$out/device.csv"
for test in cuda_operations_test cuda_model_test cuda_packed_test; do
  timeout 200 "$folder/$test" > "$out/$test.tap" 2> "$out/$test.err"
  echo "$test: exit $?, $(grep -c '^ok' "$out/$test.tap") ok, $(grep -c '^not ok' "$out/$test.tap") not ok"
  grep -A 1 '^not ok' "$out/$test.tap" | head -20
  head -3 "$out/$test.err"
done
timeout 180 "$folder/cuda_bench" > "$out/cuda_bench.jsonl"
cut -c1-600 "$out/cuda_bench.jsonl" | sed 's/"device[^,]*, //; s/"group_columns.*"usual": true, //'
timeout 120 "$folder/cuda_bench" --layouts 1 --planes 3 --shape 4096x4096 --shape 8192x8192 --shape 28672x8192 > "$out/cuda_layouts.jsonl"
if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck; do
    for test in cuda_operations_test cuda_packed_test cuda_model_test; do
      timeout 60 compute-sanitizer --tool $tool "$folder/$test" small > "$out/$tool-$test.txt" 2>&1
      echo "$tool $test: exit $?, $(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$out/$tool-$test.txt")"
    done
  done
fi
