// A small random dense model and the same model packed, for tests of the tuner.
#pragma once

#include <cstdio>
#include <random>
#include <vector>

#include "core/quantizer/pipeline.h"
#include "test/native/random_model.h"

namespace shiftadd {

struct PairMatrix {
  Role role;
  uint32_t layer;
  std::vector<float> dense;
  PackedWeights packed;
};

// A random dense model and the same model quantized, with every kind of packed shape among its matrices.
struct ModelPair {
  RandomModel dense, packed;
  std::vector<PairMatrix> matrices;
  std::mt19937 random{5};

  explicit ModelPair(bool rotated = false) {
    for (RandomModel* model : {&dense, &packed}) model->begin(rotated);
    const struct {
      Role role;
      uint32_t rows, columns;
    } shapes[] = {{Role::query, kHeads * kHeadSize, kHidden}, {Role::key, kKvHeads * kHeadSize, kHidden},
                  {Role::value, kKvHeads * kHeadSize, kHidden}, {Role::attention_output, kHidden, kHeads * kHeadSize},
                  {Role::gate, kFeed, kHidden}, {Role::up, kFeed, kHidden}, {Role::down, kHidden, kFeed}};
    matrix(Role::embedding, 0, kVocabulary, kHidden);
    norm(Role::final_norm, 0);
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      norm(Role::attention_norm, layer);
      norm(Role::feed_forward_norm, layer);
      for (const auto& shape : shapes) matrix(shape.role, layer, shape.rows, shape.columns);
    }
    for (RandomModel* model : {&dense, &packed}) {
      std::FILE* file = std::fopen(model->path.c_str(), "wb");
      std::fwrite(model->bytes.data(), 1, model->bytes.size(), file);
      std::fclose(file);
    }
  }
  float normal() {
    std::normal_distribution<float> distribution;
    return distribution(random);
  }
  void dense_tensor(RandomModel& model, Role role, uint32_t layer, uint32_t rows, uint32_t columns,
                    const std::vector<float>& values) {
    model.dense(role, layer, rows, columns, DType::f32, values.data(), values.size() * 4);
  }
  void norm(Role role, uint32_t layer) {
    std::vector<float> gain(kHidden);
    for (float& value : gain) value = 1 + 0.3f * normal();
    dense_tensor(dense, role, layer, kHidden, 1, gain);
    dense_tensor(packed, role, layer, kHidden, 1, gain);
  }
  void matrix(Role role, uint32_t layer, uint32_t rows, uint32_t columns) {
    PairMatrix item{role, layer, std::vector<float>(size_t{rows} * columns), {}};
    for (float& value : item.dense) value = 0.25f * normal();
    dense_tensor(dense, role, layer, rows, columns, item.dense);
    QuantizeSettings settings;
    settings.planes = 2 + matrices.size() % 2;
    settings.group_rows = matrices.size() % 3 == 0 ? 16 : 36;
    settings.group_columns = matrices.size() % 4 == 1 ? 1 : 8;
    settings.row_scales = matrices.size() % 5 != 2;
    QuantizeReport report;
    (void)quantize_matrix(item.dense.data(), rows, columns, nullptr, settings, {}, {}, &item.packed, &report);
    const PackedWeights& weights = item.packed;
    const PackedShape& shape = weights.shape;
    const double planes = packed.place(weights.planes.data(), weights.planes.size());
    const double scales = packed.place(weights.scales.data(), weights.scales.size() * 2);
    const double row_scales = packed.place(weights.row_scales.data(), weights.row_scales.size() * 2);
    packed.tensor({double(role), double(layer), 1, 0, double(rows), double(columns), 0, planes,
                   double(weights.planes.size()), double(shape.planes), double(shape.group_rows),
                   double(shape.group_columns), double(shape.scale_exponent), 0, scales, weights.scales.size() * 2.0,
                   shape.has_row_scales ? 0.0 : -1.0, shape.has_row_scales ? row_scales : 0,
                   weights.row_scales.size() * 2.0});
    matrices.push_back(std::move(item));
  }
};

}  // namespace shiftadd
