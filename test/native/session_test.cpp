// Sessions over a small random packed model: prefill against decode, rewind, limits, cancelling, damaged descriptions.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/c_api.h"
#include "core/half.h"
#include "core/model_spec.h"
#include "test/native/tap.h"

using namespace shiftadd;

namespace {

constexpr uint32_t kVocabulary = 100, kHidden = 40, kLayers = 2, kHeads = 4, kKvHeads = 2, kHeadSize = 10, kFeed = 52,
                   kContext = 300;

// Writes the weights to a file and builds the description that TypeScript would build.
struct TestModel {
  std::vector<uint8_t> bytes;
  std::vector<double> spec;
  std::string path;
  double packed_bytes = 0;
  std::mt19937 random{11};

  TestModel() {
    spec = {1, kVocabulary, kHidden, kLayers, kHeads, kKvHeads, kHeadSize, kFeed, kContext, 1e-5,
            1 / std::sqrt(static_cast<double>(kHeadSize)), kHeadSize / 2, 0, 0, 0, 0};
    for (uint32_t i = 0; i < kHeadSize / 2; ++i) spec.push_back(std::pow(10000.0, -2.0 * i / kHeadSize));
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
  ~TestModel() { std::remove(path.c_str()); }

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
    const double offset = place(gain.data(), gain.size() * 4);
    tensor({static_cast<double>(role), static_cast<double>(layer), 0, 0, 1, kHidden, 0, offset, kHidden * 4.0, 0, 0, 0, 0,
            0, 0, 0, -1});
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
    const sa_model_options options{threads, precision, 0, nullptr};
    return sa_model_open(description.data(), description.size(), paths, 1, &options, out);
  }
};

std::vector<float> logits(sa_session* session) {
  std::vector<float> out(kVocabulary);
  return sa_session_logits(session, out.data(), out.size()) == 0 ? out : std::vector<float>{};
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return !a.empty() && a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

// The same bits in exact precision. In fast precision many tokens take another way than few: close, not equal.
bool agree(const std::vector<float>& a, const std::vector<float>& b, int precision) {
  if (precision == 0) return same(a, b);
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) difference += (a[i] - b[i]) * (a[i] - b[i]), norm += a[i] * a[i];
  return !a.empty() && a.size() == b.size() && difference < 1e-4 * norm;
}

void sequences(const TestModel& test) {
  std::mt19937 random(2);
  std::vector<int32_t> tokens(kContext);
  for (auto& token : tokens) token = static_cast<int32_t>(random() % kVocabulary);
  for (int precision : {0, 1}) {
    const std::string name = precision == 0 ? "exact: " : "fast: ";
    sa_model* model = nullptr;
    sa_session* session = nullptr;
    if (!tap::check(test.open(precision, 2, &model) == 0, name + "the model opens")) return;
    sa_session_open(model, kContext, &session);
    // 140 tokens: more than one step of the forward pass.
    sa_session_prefill(session, tokens.data(), 140, nullptr);
    const std::vector<float> whole = logits(session);
    sa_session_rewind(session, 0);
    for (int i = 0; i < 140; ++i) sa_session_prefill(session, &tokens[i], 1, nullptr);
    tap::check(agree(whole, logits(session), precision), name + "prefill of 140 tokens equals 140 decode steps");
    const std::vector<float> stepped = logits(session);
    sa_session_rewind(session, 132);
    sa_session_prefill(session, &tokens[132], 8, nullptr);
    tap::check(same(stepped, logits(session)), name + "a batch of 8 tokens equals 8 decode steps, bit for bit");

    sa_session_prefill(session, &tokens[140], 20, nullptr);
    const std::vector<float> straight = logits(session);
    sa_session_rewind(session, 77);
    tap::check(sa_session_logits(session, std::vector<float>(kVocabulary).data(), kVocabulary) != 0,
               name + "a rewound session has no logits");
    sa_session_prefill(session, &tokens[77], 83, nullptr);
    tap::check(agree(straight, logits(session), precision), name + "rewind and replay equal a straight run");

    std::vector<float> log_probabilities(159);
    tap::check(sa_session_evaluate(session, tokens.data(), 160, log_probabilities.data(), nullptr) == 0, name + "evaluates");
    sa_session_prefill(session, tokens.data(), 50, nullptr);
    const std::vector<float> row = logits(session);
    double sum = 0;
    for (float logit : row) sum += std::exp(static_cast<double>(logit));
    const double want = row[static_cast<size_t>(tokens[50])] - std::log(sum);
    tap::check(std::fabs(want - log_probabilities[49]) < (precision == 0 ? 1e-5 : 1e-2), name + "evaluate agrees with the logits");

    const int32_t stop = 1, before = 50;
    sa_session_info info;
    tap::check(sa_session_prefill(session, &tokens[50], 100, &stop) == 7, name + "a set flag cancels");
    sa_session_describe(session, &info);
    tap::check(info.position == before && same(row, logits(session)), name + "a cancelled session stands where it stood");

    sa_model_info description;
    sa_model_describe(model, &description);
    tap::check(std::fabs(description.mapped_bytes - test.packed_bytes - (2 * kLayers + 1) * kHidden * 4.0) < 1,
               name + "the mapped bytes are the packed bytes and the norms");
    tap::check(description.heap_bytes < kVocabulary * kHidden * 4.0,
               name + "memory besides the file is less than one unpacked matrix");
    sa_session_close(session);
    sa_model_close(model);
  }
}

void misuse(const TestModel& test) {
  sa_model* model = nullptr;
  sa_session* session = nullptr;
  test.open(0, 1, &model);
  const int32_t good = 1, negative = -1, large = kVocabulary;
  int32_t token = 0;
  tap::check(sa_session_open(model, kContext + 1, &session) == 1, "a context beyond the model's limit is refused");
  tap::check(sa_session_open(model, 0, &session) == 1, "an empty context is refused");
  sa_session_open(model, 4, &session);
  const sa_sampling greedy{0, 0, 1, 0, 1, 64};
  tap::check(sa_session_sample(session, &greedy, &token) == 1, "sampling before reading is refused");
  tap::check(sa_session_prefill(session, &negative, 1, nullptr) == 1, "a negative token is refused");
  tap::check(sa_session_prefill(session, &large, 1, nullptr) == 1, "a token outside the vocabulary is refused");
  tap::check(sa_session_prefill(session, &good, 0, nullptr) == 1, "no tokens are refused");
  const int32_t five[] = {1, 2, 3, 4, 5};
  tap::check(sa_session_prefill(session, five, 5, nullptr) == 1, "more tokens than the context holds are refused");
  tap::check(sa_session_prefill(session, five, 4, nullptr) == 0, "a full context is fine");
  tap::check(sa_session_prefill(session, five, 1, nullptr) == 1, "one more is not");
  tap::check(sa_session_rewind(session, 5) == 1 && sa_session_rewind(session, -1) == 1, "rewinding outside is refused");
  for (const sa_sampling& bad : {sa_sampling{-1, 0, 1, 0, 1, 64}, sa_sampling{NAN, 0, 1, 0, 1, 64},
                                 sa_sampling{1, -1, 1, 0, 1, 64}, sa_sampling{1, 0, 2, 0, 1, 64},
                                 sa_sampling{1, 0, 1, -1, 1, 64}, sa_sampling{1, 0, 1, 0, 0, 64}})
    tap::check(sa_session_sample(session, &bad, &token) == 1, "a sampling option out of range is refused");
  int32_t hot[2] = {0, 0};
  const sa_sampling sampled{0.8f, 40, 0.9f, 0.01f, 1.1f, 64};
  for (int32_t& t : hot) {
    sa_session_seed(session, 42);
    sa_session_sample(session, &sampled, &t);
  }
  tap::check(hot[0] == hot[1], "a seed gives the same token again");
  sa_session_close(session);
  sa_model_close(model);
}

// Every number of the description replaced by hostile values: refused or harmless, never a crash (run under ASan).
void damaged_descriptions(const TestModel& test) {
  size_t refused = 0, opened = 0;
  for (size_t at = 0; at < test.spec.size(); ++at)
    for (double value : {-1.0, 0.0, 0.5, 1e9, 4294967296.0, 9007199254740992.0, static_cast<double>(NAN)}) {
      std::vector<double> numbers = test.spec;
      numbers[at] = value;
      sa_model* model = nullptr;
      if (test.open(0, 1, &model, &numbers) != 0) {
        ++refused;
        continue;
      }
      ++opened;
      sa_session* session = nullptr;
      if (sa_session_open(model, 1, &session) == 0) {
        const int32_t token = 1;
        sa_session_prefill(session, &token, 1, nullptr);
        sa_session_close(session);
      }
      sa_model_close(model);
    }
  tap::note("%zu damaged descriptions refused, %zu harmless", refused, opened);
  tap::check(refused > opened, "damaged descriptions are refused or harmless");
  for (size_t length : {size_t{0}, size_t{1}, size_t{15}, size_t{16}, size_t{30}, test.spec.size() - 1}) {
    std::vector<double> numbers(test.spec.begin(), test.spec.begin() + static_cast<std::ptrdiff_t>(length));
    numbers.reserve(1);
    sa_model* model = nullptr;
    tap::check(test.open(0, 1, &model, &numbers) != 0, "a description of " + std::to_string(length) + " numbers is refused");
  }
}

}  // namespace

int main() {
  const TestModel test;
  sequences(test);
  misuse(test);
  damaged_descriptions(test);
  return tap::finish();
}
