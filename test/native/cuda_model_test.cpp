// Whole models on the CUDA backend against the CPU backend in exact precision: random ones, and greedy tokens of the story model,
// dense and packed with 2, 3 and 4 planes.
#include "core/session.h"
#include "test/native/cuda_devices.h"
#include "test/native/random_model.h"
#include "test/native/stories_model.h"

using namespace shiftadd;

namespace {

struct Run {
  std::vector<int32_t> tokens;
  std::vector<float> logits, log_probabilities;
};

bool run_model(const RandomModel& random, std::unique_ptr<Backend> backend, bool at_once, Run* run) {
  std::unique_ptr<Model> model;
  std::unique_ptr<Session> session;
  Status status = Model::open(random.spec.data(), random.spec.size(), mapped(random.path), std::move(backend), &model);
  if (status.ok()) status = Session::open(*model, kContext, &session);
  const std::vector<int32_t> prompt = {5, 17, 99, 3, 42, 8, 61};
  if (status.ok() && at_once) status = session->prefill(prompt, Cancel(nullptr));
  for (size_t i = 0; i < prompt.size() && status.ok() && !at_once; ++i) status = session->prefill({&prompt[i], 1}, Cancel(nullptr));
  run->logits.resize(kVocabulary);
  if (status.ok()) status = session->logits(run->logits);
  for (int i = 0; i < 30 && status.ok(); ++i) {
    int32_t token = 0, count = 0, unused = 0;
    status = session->sample({}, &token);
    run->tokens.push_back(token);
    if (status.ok()) status = session->decode_draft(token, {}, &unused, &count, Cancel(nullptr));
  }
  run->log_probabilities.resize(prompt.size() - 1);
  if (status.ok()) status = session->evaluate(prompt, run->log_probabilities, Cancel(nullptr));
  if (!status.ok()) tap::note("%s", status.message.c_str());
  return status.ok();
}

void test_random_models() {
  for (const bool rotated : {false, true}) {
    const RandomModel random(rotated);
    Run cpu, at_once, one_by_one;
    std::unique_ptr<Backend> backends[3];
    bool good = make_cpu_backend({}, &backends[0]).ok();
    for (int n = 1; n < 3; ++n) good = good && open_cuda(&backends[n]).ok();
    good = good && run_model(random, std::move(backends[0]), true, &cpu) && run_model(random, std::move(backends[1]), true, &at_once) &&
           run_model(random, std::move(backends[2]), false, &one_by_one);
    const std::string name = rotated ? "a rotated model" : "a model";
    tap::check(good, name + " runs");
    tap::check(error_of(at_once.logits, cpu.logits) < 1e-3, name + ": logits as on the CPU");
    tap::note("error %g", error_of(at_once.logits, cpu.logits));
    tap::check(same_bits(at_once.logits, one_by_one.logits), name + ": the same bits at once and token by token");
    tap::check(at_once.tokens == cpu.tokens && one_by_one.tokens == cpu.tokens, name + ": greedy tokens as on the CPU");
    tap::check(error_of(at_once.log_probabilities, cpu.log_probabilities) < 1e-3, name + ": log probabilities as on the CPU");
  }
}

// Whatever a session held, on one backend, goes on in another session: on the same one with the same bits, on the other one close.
Status move_session(const RandomModel& random, KvType kv_type, bool* same, float* error, bool* same_layout, float* embedding_error) {
  std::unique_ptr<Backend> backends[2];
  std::unique_ptr<Model> models[2];
  std::unique_ptr<Session> sessions[4];  // on the CPU, on CUDA, restored on CUDA, restored on the CPU
  CpuOptions options;
  options.kv_type = kv_type;
  SHIFTADD_TRY(make_cpu_backend(options, &backends[0]));
  SHIFTADD_TRY(open_cuda(&backends[1], kv_type));
  for (int n = 0; n < 2; ++n)
    SHIFTADD_TRY(Model::open(random.spec.data(), random.spec.size(), mapped(random.path), std::move(backends[n]), &models[n]));
  for (int n = 0; n < 4; ++n) SHIFTADD_TRY(Session::open(*models[n == 1 || n == 2], kContext, &sessions[n]));
  std::vector<int32_t> prompt(37);
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>(i * 31 % kVocabulary);
  const std::span<const int32_t> last = std::span<const int32_t>(prompt).last(1), first = std::span<const int32_t>(prompt).first(36);
  std::vector<float> logits[4], vectors[2];
  std::vector<uint8_t> saved[2];
  for (int n = 0; n < 2; ++n) {
    SHIFTADD_TRY(sessions[n]->prefill(first, Cancel(nullptr)));
    saved[n].resize(first.size() * sessions[n]->position_bytes());
    SHIFTADD_TRY(sessions[n]->save(0, 36, saved[n]));
  }
  // In two parts, as files are read.
  const size_t part = 20 * sessions[1]->position_bytes();
  const std::span<const uint8_t> bytes(saved[1]);
  for (int n = 2; n < 4; ++n) {
    SHIFTADD_TRY(sessions[n]->restore(first.first(20), bytes.first(part), false));
    SHIFTADD_TRY(sessions[n]->restore(first.subspan(20), bytes.subspan(part), false));
  }
  for (int n = 0; n < 4; ++n) {
    SHIFTADD_TRY(sessions[n]->prefill(last, Cancel(nullptr)));
    logits[n].resize(kVocabulary);
    SHIFTADD_TRY(sessions[n]->logits(logits[n]));
  }
  *same = same_bits(logits[1], logits[2]);
  *error = static_cast<float>(error_of(logits[3], logits[0]));
  SHIFTADD_TRY(sessions[2]->copy(*sessions[1], first));
  SHIFTADD_TRY(sessions[2]->prefill(last, Cancel(nullptr)));
  SHIFTADD_TRY(sessions[2]->logits(logits[2]));
  *same = *same && same_bits(logits[1], logits[2]);
  *same_layout = saved[0].size() == saved[1].size();
  for (int n = 0; n < 2; ++n) {
    vectors[n].resize(kHidden);
    SHIFTADD_TRY(sessions[n]->embed(prompt, Pooling::mean, vectors[n], Cancel(nullptr)));
  }
  *embedding_error = static_cast<float>(error_of(vectors[1], vectors[0]));
  return ok_status();
}

// The int8 cache, which the CPU does not have: its numbers and scales go out and come in again.
Status move_int8(const RandomModel& random, bool* same) {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<Session> sessions[3];  // the first, restored, copied
  SHIFTADD_TRY(open_cuda(&backend, KvType::int8));
  SHIFTADD_TRY(Model::open(random.spec.data(), random.spec.size(), mapped(random.path), std::move(backend), &model));
  for (auto& session : sessions) SHIFTADD_TRY(Session::open(*model, kContext, &session));
  std::vector<int32_t> tokens(37);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 29 % kVocabulary);
  const std::span<const int32_t> first = std::span<const int32_t>(tokens).first(36), last = std::span<const int32_t>(tokens).last(1);
  SHIFTADD_TRY(sessions[0]->prefill(first, Cancel(nullptr)));
  const size_t position = sessions[0]->position_bytes();
  std::vector<uint8_t> saved(first.size() * position), again(saved.size());
  SHIFTADD_TRY(sessions[0]->save(0, 36, saved));
  SHIFTADD_TRY(sessions[1]->restore(first.first(20), std::span<const uint8_t>(saved).first(20 * position), false));
  SHIFTADD_TRY(sessions[1]->restore(first.subspan(20), std::span<const uint8_t>(saved).subspan(20 * position), false));
  SHIFTADD_TRY(sessions[2]->copy(*sessions[0], first));
  std::vector<float> logits[3];
  *same = true;
  for (int n = 0; n < 3; ++n) {
    SHIFTADD_TRY(sessions[n]->save(0, 36, again));
    *same = *same && again == saved;
    SHIFTADD_TRY(sessions[n]->prefill(last, Cancel(nullptr)));
    logits[n].resize(kVocabulary);
    SHIFTADD_TRY(sessions[n]->logits(logits[n]));
    *same = *same && same_bits(logits[n], logits[0]);
  }
  return ok_status();
}

void test_moved_sessions() {
  for (const KvType kv_type : {KvType::f32, KvType::f16}) {
    const std::string name = kv_type == KvType::f32 ? "f32 cache" : "f16 cache";
    const RandomModel random(true);
    bool same = false, same_layout = false;
    float error = 1, embedding_error = 1;
    const Status status = move_session(random, kv_type, &same, &error, &same_layout, &embedding_error);
    if (!tap::check(status.ok(), name + ": sessions are saved and restored")) tap::note("%s", status.message.c_str());
    tap::check(same, name + ": a restored and a copied session go on with the same bits");
    tap::check(same_layout && error < (kv_type == KvType::f32 ? 1e-3f : 5e-3f), name + ": the CPU goes on with what CUDA saved");
    tap::check(embedding_error < (kv_type == KvType::f32 ? 1e-3f : 5e-3f), name + ": vectors as on the CPU");
    tap::note("errors %g and %g", error, embedding_error);
  }
  bool same = false;
  const Status status = move_int8(RandomModel(true), &same);
  if (!tap::check(status.ok(), "int8 cache: sessions are saved and restored")) tap::note("%s", status.message.c_str());
  tap::check(same, "int8 cache: a restored and a copied session hold the same bytes and go on with the same bits");
}

Status tell(const StoriesModel& stories, std::unique_ptr<Backend> backend, int count, std::vector<int32_t>* tokens) {
  std::unique_ptr<Model> model;
  std::unique_ptr<Session> session;
  SHIFTADD_TRY(Model::open(stories.spec.data(), stories.spec.size(), mapped(stories.path), std::move(backend), &model));
  SHIFTADD_TRY(Session::open(*model, StoriesModel::kContext, &session));
  const std::vector<int32_t> prompt = {1, 403, 407, 261, 378};  // "Once upon a time"
  SHIFTADD_TRY(session->prefill(prompt, Cancel(nullptr)));
  for (int i = 0; i < count; ++i) {
    int32_t token = 0, unused = 0, produced = 0;
    SHIFTADD_TRY(session->sample({}, &token));
    tokens->push_back(token);
    SHIFTADD_TRY(session->decode_draft(token, {}, &unused, &produced, Cancel(nullptr)));
  }
  return ok_status();
}

void test_stories(const Devices& devices) {
  for (const uint32_t planes : {0u, 2u, 3u, 4u}) {
    const StoriesModel stories(SHIFTADD_FIXTURES "/stories-260k", planes);
    std::vector<int32_t> on_cpu, on_cuda;
    std::unique_ptr<Backend> cpu, cuda;
    const int count = devices.small ? 40 : 250;
    Status status = make_cpu_backend({}, &cpu);
    if (status.ok()) status = open_cuda(&cuda);
    if (status.ok()) status = tell(stories, std::move(cpu), count, &on_cpu);
    if (status.ok()) status = tell(stories, std::move(cuda), count, &on_cuda);
    if (!status.ok()) tap::note("%s", status.message.c_str());
    size_t same = 0;
    while (same < on_cpu.size() && same < on_cuda.size() && on_cpu[same] == on_cuda[same]) ++same;
    tap::check(status.ok() && same == static_cast<size_t>(count),
               (planes == 0 ? std::string("dense") : std::to_string(planes) + " planes") + ": " + std::to_string(count) + " greedy tokens");
    if (same < static_cast<size_t>(count)) tap::note("%zu tokens agree", same);
  }
}

// ---- the 8-bit cache ----

void test_int8_random() {
  const RandomModel random(true);
  Run f16, at_once, one_by_one;
  std::unique_ptr<Backend> backends[3];
  bool good = true;
  for (int n = 0; n < 3; ++n) good = good && open_cuda(&backends[n], n == 0 ? KvType::f16 : KvType::int8).ok();
  good = good && run_model(random, std::move(backends[0]), true, &f16) && run_model(random, std::move(backends[1]), true, &at_once) &&
         run_model(random, std::move(backends[2]), false, &one_by_one);
  const double difference = error_of(at_once.logits, f16.logits);
  tap::check(good && difference > 0 && difference < 0.03, "int8 cache: a model runs, logits near those of the fp16 cache");
  tap::note("difference %g", difference);
  tap::check(same_bits(at_once.logits, one_by_one.logits) && same_bits(at_once.log_probabilities, one_by_one.log_probabilities) &&
                 at_once.tokens == one_by_one.tokens,
             "int8 cache: the same bits at once and token by token");
}

// A text read with one kind of cache: mean log probability, logits of the last token, greedy tokens after its beginning.
struct Reading {
  std::vector<int32_t> tokens;
  std::vector<float> logits;
  double mean = 0;
  size_t cache_bytes = 0;
};

Status read_story(const StoriesModel& stories, KvType type, std::span<const int32_t> text, int count, Reading* reading) {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<Session> session;
  SHIFTADD_TRY(open_cuda(&backend, type));
  SHIFTADD_TRY(Model::open(stories.spec.data(), stories.spec.size(), mapped(stories.path), std::move(backend), &model));
  SHIFTADD_TRY(Session::open(*model, StoriesModel::kContext, &session));
  reading->cache_bytes = session->kv_cache_bytes();
  std::vector<float> probabilities(text.size() - 1);
  SHIFTADD_TRY(session->evaluate(text, probabilities, Cancel(nullptr)));
  for (const float value : probabilities) reading->mean += value / static_cast<double>(probabilities.size());
  SHIFTADD_TRY(session->rewind(0));
  SHIFTADD_TRY(session->prefill(text, Cancel(nullptr)));
  reading->logits.resize(StoriesModel::kVocabulary);
  SHIFTADD_TRY(session->logits(reading->logits));
  SHIFTADD_TRY(session->rewind(0));
  SHIFTADD_TRY(session->prefill(text.first(5), Cancel(nullptr)));
  for (int i = 0; i < count; ++i) {
    int32_t token = 0, unused = 0, produced = 0;
    SHIFTADD_TRY(session->sample({}, &token));
    reading->tokens.push_back(token);
    SHIFTADD_TRY(session->decode_draft(token, {}, &unused, &produced, Cancel(nullptr)));
  }
  return ok_status();
}

void test_int8_stories(const Devices& devices) {
  const StoriesModel stories(SHIFTADD_FIXTURES "/stories-260k", 4);
  const int count = devices.small ? 24 : 300;
  std::unique_ptr<Backend> cpu;
  std::vector<int32_t> text = {1, 403, 407, 261, 378};
  Status status = make_cpu_backend({}, &cpu);
  if (status.ok()) status = tell(stories, std::move(cpu), count, &text);
  Reading f32, int8;
  if (status.ok()) status = read_story(stories, KvType::f32, text, count, &f32);
  if (status.ok()) status = read_story(stories, KvType::int8, text, count, &int8);
  if (!status.ok()) tap::note("%s", status.message.c_str());
  size_t same = 0;
  while (same < int8.tokens.size() && int8.tokens[same] == f32.tokens[same]) ++same;
  const double difference = status.ok() ? error_of(int8.logits, f32.logits) : 1;
  const auto perplexity = [](const Reading& reading) { return std::exp(-reading.mean); };
  tap::note("perplexity f32 %.6f, int8 %.6f; logits differ by %g; %zu of %d greedy tokens are the same", perplexity(f32), perplexity(int8), difference,
            same, count);
  tap::check(status.ok() && std::fabs(int8.mean - f32.mean) < 0.02, "int8 cache: perplexity of a story within 2 % of the f32 cache");
  tap::check(difference > 0 && difference < 0.05, "int8 cache: its logits are near");
  tap::check(same >= 10, "int8 cache: a story is told");
  constexpr size_t kLines = StoriesModel::kContext * StoriesModel::kKvHeads;
  tap::check(int8.cache_bytes == 2 * StoriesModel::kLayers * kLines * (StoriesModel::kHeadSize + 2), "int8 cache: its bytes");
}

}  // namespace

int main(int, char** arguments) {
  Devices devices;
  if (!open_devices(arguments, &devices)) return 0;
  test_random_models();
  test_moved_sessions();
  test_stories(devices);
  test_int8_random();
  test_int8_stories(devices);
  return tap::finish();
}
