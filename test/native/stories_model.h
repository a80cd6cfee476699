// The story model of the fixtures, read without the SDK: dense as it is, or packed here. For tests of backends.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "core/half.h"
#include "core/model_spec.h"
#include "core/quantizer/pipeline.h"

namespace shiftadd {

struct StoriesModel {
  static constexpr uint32_t kVocabulary = 512, kHidden = 64, kLayers = 5, kHeads = 8, kKvHeads = 4, kHeadSize = 8, kFeed = 172,
                            kContext = 512;
  std::vector<double> spec;
  std::string path;  // of the file that holds the weights

  // planes 0: the dense model.
  StoriesModel(const std::string& folder, uint32_t planes) {
    std::ifstream stream(folder + "/model.safetensors", std::ios::binary);
    const std::string file((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    uint64_t header = 0;
    for (int i = 7; i >= 0; --i) header = header << 8 | static_cast<uint8_t>(file.at(static_cast<size_t>(i)));
    header_ = file.substr(8, header);
    data_ = file.substr(8 + header);
    planes_ = planes;
    spec = {kSpecVersion, kVocabulary, kHidden, kLayers, kHeads, kKvHeads, kHeadSize, kFeed, kContext, 1e-5,
            1 / std::sqrt(static_cast<double>(kHeadSize)), 1, 0, 0, kHeadSize, 0, 0, 0, 0, 1, kHidden, 1};
    spec.resize(kSpecHeader);
    spec.push_back(1);
    for (uint32_t i = 0; i < kHeadSize / 2; ++i) spec.push_back(std::pow(10000.0, -2.0 * i / kHeadSize));
    spec.resize(spec.size() + kSpecLayer * kLayers);
    matrix(Role::embedding, 0, "model.embed_tokens", kVocabulary, kHidden);
    vector(Role::final_norm, 0, "model.norm");
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      const std::string block = "model.layers." + std::to_string(layer) + ".";
      vector(Role::attention_norm, layer, block + "input_layernorm");
      vector(Role::feed_forward_norm, layer, block + "post_attention_layernorm");
      matrix(Role::query, layer, block + "self_attn.q_proj", kHeads * kHeadSize, kHidden);
      matrix(Role::key, layer, block + "self_attn.k_proj", kKvHeads * kHeadSize, kHidden);
      matrix(Role::value, layer, block + "self_attn.v_proj", kKvHeads * kHeadSize, kHidden);
      matrix(Role::attention_output, layer, block + "self_attn.o_proj", kHidden, kHeads * kHeadSize);
      matrix(Role::gate, layer, block + "mlp.gate_proj", kFeed, kHidden);
      matrix(Role::up, layer, block + "mlp.up_proj", kFeed, kHidden);
      matrix(Role::down, layer, block + "mlp.down_proj", kHidden, kFeed);
    }
    char name[] = "/tmp/shiftadd-stories-XXXXXX";
    std::FILE* out = fdopen(mkstemp(name), "wb");
    path = name;
    std::fwrite(bytes_.data(), 1, bytes_.size(), out);
    std::fclose(out);
  }
  ~StoriesModel() { std::remove(path.c_str()); }

 private:
  // Elements of a tensor of halves.
  std::vector<uint16_t> read(const std::string& name, size_t count) const {
    const size_t entry = header_.find("\"" + name + ".weight\""), offsets = header_.find("\"data_offsets\":", entry);
    if (entry == std::string::npos || offsets == std::string::npos) std::abort();
    const size_t first = std::strtoull(header_.c_str() + header_.find('[', offsets) + 1, nullptr, 10);
    std::vector<uint16_t> values(count);
    for (size_t i = 0; i < count; ++i)
      values[i] = static_cast<uint16_t>(static_cast<uint8_t>(data_.at(first + 2 * i)) |
                                        static_cast<uint8_t>(data_.at(first + 2 * i + 1)) << 8);
    return values;
  }
  double place(const void* data, size_t size) {
    bytes_.resize((bytes_.size() + 63) / 64 * 64);
    const size_t offset = bytes_.size();
    bytes_.insert(bytes_.end(), static_cast<const uint8_t*>(data), static_cast<const uint8_t*>(data) + size);
    return static_cast<double>(offset);
  }
  void tensor(std::vector<double> numbers) {
    numbers.resize(kSpecTensor);
    spec.insert(spec.end(), numbers.begin(), numbers.end());
    spec[12] += 1;
  }
  void dense(Role role, uint32_t layer, uint32_t rows, uint32_t columns, const std::vector<uint16_t>& values) {
    const double r = rows, c = columns, size = static_cast<double>(values.size() * 2);
    tensor({static_cast<double>(role), static_cast<double>(layer), 0, static_cast<double>(DType::f16), r, c, 0,
            place(values.data(), values.size() * 2), size, r, c, 0, 0, 1, 0, 1, 0, 1});
  }
  void vector(Role role, uint32_t layer, const std::string& name) { dense(role, layer, kHidden, 1, read(name, kHidden)); }
  void matrix(Role role, uint32_t layer, const std::string& name, uint32_t rows, uint32_t columns) {
    const std::vector<uint16_t> halves = read(name, size_t{rows} * columns);
    if (planes_ == 0) return dense(role, layer, rows, columns, halves);
    std::vector<float> floats;
    for (uint16_t half : halves) floats.push_back(half_to_float(half));
    QuantizeSettings settings;
    settings.planes = planes_;
    settings.group_rows = 16;
    PackedWeights packed;
    QuantizeReport report;
    if (!quantize_matrix(floats.data(), rows, columns, nullptr, settings, {}, {}, &packed, &report).ok()) std::abort();
    const double p = place(packed.planes.data(), packed.planes.size());
    const double s = place(packed.scales.data(), packed.scales.size() * 2);
    const double r = place(packed.row_scales.data(), packed.row_scales.size() * 2);
    const PackedShape& shape = packed.shape;
    tensor({static_cast<double>(role), static_cast<double>(layer), 1, 0, static_cast<double>(rows), static_cast<double>(columns), 0, p,
            static_cast<double>(packed.planes.size()), static_cast<double>(shape.planes), static_cast<double>(shape.group_rows),
            static_cast<double>(shape.group_columns), static_cast<double>(shape.scale_exponent), 0, s,
            static_cast<double>(packed.scales.size() * 2), shape.has_row_scales ? 0.0 : -1.0, shape.has_row_scales ? r : 0,
            static_cast<double>(packed.row_scales.size() * 2)});
  }

  std::string header_, data_;
  std::vector<uint8_t> bytes_;
  uint32_t planes_ = 0;
};

}  // namespace shiftadd
