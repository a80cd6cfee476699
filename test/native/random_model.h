// A small random packed model for tests of sessions: its file and the description that TypeScript would build.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/c_api.h"
#include "core/half.h"
#include "core/mapped_file.h"
#include "core/model_spec.h"

namespace shiftadd {

constexpr uint32_t kVocabulary = 100, kHidden = 40, kLayers = 2, kHeads = 4, kKvHeads = 2, kHeadSize = 10, kFeed = 52,
                   kContext = 300;

inline std::vector<MappedFile> mapped(const std::string& path) {
  std::vector<MappedFile> files;
  (void)MappedFile::open_all({path}, &files);  // opening a model without its file fails
  return files;
}

// Hadamard matrix of 20 rows (Paley's first construction over the residues of 19) and random signs, for kHidden = 2 x 20.
inline Rotation random_rotation() {
  constexpr uint32_t kPrime = 19, kSize = kPrime + 1;
  std::mt19937 random(4);
  Rotation rotation{kSize, std::vector<float>(kHidden), std::vector<float>(kSize * kSize, 1.0f)};
  for (float& sign : rotation.signs) sign = random() % 2 == 0 ? 1.0f : -1.0f;
  bool square[kPrime] = {};
  for (uint32_t i = 1; i < kPrime; ++i) square[i * i % kPrime] = true;
  for (uint32_t i = 1; i < kSize; ++i) {
    rotation.matrix[i * kSize] = -1;
    for (uint32_t j = 1; j < kSize; ++j)
      if (i != j && !square[(kPrime + i - j) % kPrime]) rotation.matrix[i * kSize + j] = -1;
  }
  return rotation;
}

// Writes the weights to a file and builds the description that TypeScript would build.
struct RandomModel {
  std::vector<uint8_t> bytes;
  std::vector<double> spec;
  std::string path;
  double packed_bytes = 0;
  std::mt19937 random{11};

  explicit RandomModel(bool rotated = false) {
    begin(rotated);
    packed(Role::embedding, 0, kVocabulary, kHidden);
    norm(Role::final_norm, 0);
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      norm(Role::attention_norm, layer);
      packed(Role::query, layer, kHeads * kHeadSize, kHidden);
      packed(Role::key, layer, kKvHeads * kHeadSize, kHidden);
      packed(Role::value, layer, kKvHeads * kHeadSize, kHidden);
      packed(Role::attention_output, layer, kHidden, kHeads * kHeadSize);
      norm(Role::feed_forward_norm, layer);
      packed(Role::gate, layer, kFeed, kHidden);
      packed(Role::up, layer, kFeed, kHidden);
      packed(Role::down, layer, kHidden, kFeed);
    }
    char name[] = "/tmp/shiftadd-session-XXXXXX";
    const int file = mkstemp(name);
    path = name;
    std::FILE* stream = fdopen(file, "wb");
    std::fwrite(bytes.data(), 1, bytes.size(), stream);
    std::fclose(stream);
  }
  ~RandomModel() { std::remove(path.c_str()); }

  // A description without tensors and a file without bytes.
  void begin(bool rotated) {
    bytes.clear();
    spec = {kSpecVersion, kVocabulary, kHidden, kLayers, kHeads, kKvHeads, kHeadSize, kFeed, kContext, 1e-5,
            1 / std::sqrt(static_cast<double>(kHeadSize)), 1, 0, 0, kHeadSize, 0, 0, 0, 0, 1, kHidden, 1};
    spec.resize(kSpecHeader);
    spec.push_back(1);
    for (uint32_t i = 0; i < kHeadSize / 2; ++i) spec.push_back(std::pow(10000.0, -2.0 * i / kHeadSize));
    spec.resize(spec.size() + kSpecLayer * kLayers);
    if (rotated) rotate();
  }
  // Before the first tensor.
  void rotate() {
    const Rotation rotation = random_rotation();
    spec[13] = rotation.size;
    spec.insert(spec.end(), rotation.signs.begin(), rotation.signs.end());
    spec.insert(spec.end(), rotation.matrix.begin(), rotation.matrix.end());
  }
  double place(const void* data, size_t size) {
    bytes.resize((bytes.size() + 63) / 64 * 64);
    const size_t offset = bytes.size();
    bytes.insert(bytes.end(), static_cast<const uint8_t*>(data), static_cast<const uint8_t*>(data) + size);
    return static_cast<double>(offset);
  }
  void tensor(std::vector<double> numbers) {
    numbers.resize(kSpecTensor);
    spec.insert(spec.end(), numbers.begin(), numbers.end());
    spec[12] += 1;
  }
  void norm(Role role, uint32_t layer) {
    const std::vector<float> gain(kHidden, 1.0f);
    dense(role, layer, kHidden, 1, DType::f32, gain.data(), gain.size() * 4);
  }
  void dense(Role role, uint32_t layer, uint32_t rows, uint32_t columns, DType dtype, const void* data, size_t size) {
    const double r = rows, c = columns;
    tensor({static_cast<double>(role), static_cast<double>(layer), 0, static_cast<double>(dtype), r, c, 0, place(data, size),
            static_cast<double>(size), r, c, 0, 0, 1, 0, 1, 0, 1});
  }
  void packed(Role role, uint32_t layer, uint32_t rows, uint32_t columns) {
    const PackedShape shape{rows, columns, 3, 16, 8, -2, true};
    std::vector<uint8_t> codes(size_t{rows} * columns), planes(shape.plane_bytes());
    for (auto& code : codes) code = random() & 7;
    pack_planes(shape, codes.data(), planes.data());
    std::vector<uint16_t> scales(shape.scale_count()), row_scales(rows, float_to_half(0.75f));
    for (size_t i = 0; i < scales.size(); ++i)
      scales[i] = encode_scale(std::ldexp(0.2f, -static_cast<int>(i % 3)), shape.scale_exponent, 3);
    const double p = place(planes.data(), planes.size()), s = place(scales.data(), scales.size() * 2);
    const double r = place(row_scales.data(), row_scales.size() * 2);
    packed_bytes += static_cast<double>(planes.size() + scales.size() * 2 + row_scales.size() * 2);
    tensor({static_cast<double>(role), static_cast<double>(layer), 1, 0, static_cast<double>(rows),
            static_cast<double>(columns), 0, p, static_cast<double>(planes.size()), 3, 16, 8, -2, 0, s,
            scales.size() * 2.0, 0, r, row_scales.size() * 2.0});
  }
  sa_status open(int precision, int threads, sa_model** out, const std::vector<double>* numbers = nullptr) const {
    const std::vector<double>& description = numbers ? *numbers : spec;
    const char* paths[] = {path.c_str()};
    const sa_model_options options{threads, precision, 0, nullptr, nullptr, 0};
    return sa_model_open(description.data(), description.size(), paths, 1, &options, out);
  }
};

inline std::vector<float> logits(sa_session* session) {
  std::vector<float> out(kVocabulary);
  return sa_session_logits(session, out.data(), out.size()) == 0 ? out : std::vector<float>{};
}

}  // namespace shiftadd
