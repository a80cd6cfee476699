// Sessions over a small random packed model: prefill against decode, rewind, limits, cancelling, damaged descriptions.
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "test/native/random_model.h"
#include "test/native/tap.h"

using namespace shiftadd;

namespace {

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

void sequences(const RandomModel& test) {
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

    std::vector<float> every(50 * kVocabulary);
    sa_session_rewind(session, 0);
    tap::check(sa_session_prefill_logits(session, tokens.data(), 50, every.data(), every.size() - 1, nullptr) != 0,
               name + "logits of every token need room");
    tap::check(sa_session_prefill_logits(session, tokens.data(), 50, every.data(), every.size(), nullptr) == 0 &&
                   agree(row, {every.end() - kVocabulary, every.end()}, precision) && logits(session).size() == row.size(),
               name + "logits of every token end with those of the last");
    sa_session_rewind(session, 0);
    sa_session_prefill(session, tokens.data(), 20, nullptr);
    tap::check(agree(logits(session), {every.begin() + 19 * kVocabulary, every.begin() + 20 * kVocabulary}, precision),
               name + "and have those of the others");
    sa_session_prefill(session, &tokens[20], 30, nullptr);

    // Drafts: what single greedy steps give, whether the guess is right, wrong from some place on, or empty.
    const sa_sampling greedy{0, 0, 1, 0, 1, 64};
    int32_t token = 0, steps[12];
    sa_session_sample(session, &greedy, &token);
    const int32_t start = token;
    for (int32_t& step : steps) {
      step = token;
      sa_session_prefill(session, &token, 1, nullptr);
      sa_session_sample(session, &greedy, &token);
    }
    bool drafts = true;
    for (size_t length : {size_t{0}, size_t{1}, size_t{7}})
      for (size_t wrong_at = 0; wrong_at <= length; ++wrong_at) {
        sa_session_rewind(session, 50);
        std::vector<int32_t> draft(steps + 1, steps + 1 + length), produced(length + 1);
        if (wrong_at < length) draft[wrong_at] = (draft[wrong_at] + 1) % static_cast<int32_t>(kVocabulary);
        int32_t count = 0;
        drafts = drafts && sa_session_decode_draft(session, start, draft.data(), length, produced.data(), &count, nullptr) == 0 &&
                 count == static_cast<int32_t>(wrong_at) + 1 && std::equal(produced.begin(), produced.begin() + count, steps + 1);
        sa_session_info after;
        sa_session_describe(session, &after);
        drafts = drafts && after.position == 50 + count;
        int32_t next = 0;
        sa_session_sample(session, &greedy, &next);
        drafts = drafts && next == produced[static_cast<size_t>(count) - 1];
      }
    tap::check(drafts, name + "a draft gives the tokens of single steps");
    const int32_t long_draft[8] = {};
    int32_t produced[9], count = 0;
    tap::check(sa_session_decode_draft(session, start, long_draft, 8, produced, &count, nullptr) == 1,
               name + "a draft of eight tokens is refused");
    sa_session_rewind(session, 0);
    sa_session_prefill(session, tokens.data(), 50, nullptr);

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

void misuse(const RandomModel& test) {
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
void damaged_descriptions(const RandomModel& test) {
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

// A stored row that stands for several rows of a matrix.
void repeated_rows(const RandomModel& test) {
  std::vector<double> numbers = test.spec;
  double* tensor = nullptr;
  for (size_t at = numbers.size() - kSpecTensor * static_cast<size_t>(numbers[12]); at < numbers.size(); at += kSpecTensor)
    if (numbers[at] == static_cast<double>(Role::final_norm)) tensor = &numbers[at];
  tensor[8] = 4;    // bytes
  tensor[9] = 1;    // stored rows
  tensor[17] = 0;   // outer stride
  sa_model* model = nullptr;
  const bool refused = test.open(0, 1, &model, &numbers) == 3;
  tap::check(refused, "a stored row that stands for many is refused");
}

// A model whose bytes are in memory is the model of the file.
void bytes_in_memory(const RandomModel& test) {
  struct alignas(64) Line {
    uint8_t bytes[64];
  };
  std::vector<Line> room(test.bytes.size() / sizeof(Line) + 1);
  uint8_t* data = room[0].bytes;
  std::memcpy(data, test.bytes.data(), test.bytes.size());
  const sa_model_options options{1, 0, 0, nullptr, nullptr, 0};
  sa_file_bytes file{"memory", data, test.bytes.size()};
  std::vector<float> both[2];
  for (int in_memory = 0; in_memory < 2; ++in_memory) {
    sa_model* model = nullptr;
    const sa_status status = in_memory ? sa_model_open_memory(test.spec.data(), test.spec.size(), &file, 1, &options, &model)
                                       : test.open(0, 1, &model);
    sa_session* session = nullptr;
    const int32_t tokens[] = {5, 6, 7};
    if (status == 0 && sa_session_open(model, 8, &session) == 0 && sa_session_append(session, tokens, 2, nullptr) == 0 &&
        sa_session_prefill(session, tokens + 2, 1, nullptr) == 0)
      both[in_memory] = logits(session);
    sa_session_close(session);
    sa_model_close(model);
  }
  tap::check(same(both[0], both[1]), "bytes in memory give the logits of the file, a prompt in two parts those of one");
  sa_model* model = nullptr;
  file.data = data + 4;
  const sa_status unaligned = sa_model_open_memory(test.spec.data(), test.spec.size(), &file, 1, &options, &model);
  file = {"memory", data, test.bytes.size() / 2};
  const sa_status cut = sa_model_open_memory(test.spec.data(), test.spec.size(), &file, 1, &options, &model);
  tap::check(unaligned == 1 && cut == 3, "bytes that are not aligned or too few are refused");
}

}  // namespace

int main() {
  const RandomModel test;
  repeated_rows(test);
  bytes_in_memory(test);
  sequences(test);
  misuse(test);
  damaged_descriptions(test);
  return tap::finish();
}
