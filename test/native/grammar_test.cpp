// Grammars over bytes and tokens: against a recogniser written down by hand, with budgets, and damaged in every place.
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/grammar/constraint.h"
#include "core/sampler.h"
#include "test/native/tap.h"

using namespace shiftadd;

namespace {

struct Rules {
  struct Edge {
    int kind, value, target;
  };
  std::vector<int32_t> starts;
  std::vector<std::vector<Edge>> nodes;
  std::vector<int32_t> ends;
  int node(bool end = false) {
    nodes.emplace_back();
    ends.push_back(end);
    return static_cast<int>(nodes.size()) - 1;
  }
  int rule() {
    starts.push_back(node());
    return static_cast<int>(starts.size()) - 1;
  }
  void byte(int from, char low, int to, char high = 0) {
    const int last = static_cast<unsigned char>(high ? high : low);
    nodes[static_cast<size_t>(from)].push_back({0, static_cast<unsigned char>(low) | last << 8, to});
  }
  void call(int from, int rule, int to) { nodes[static_cast<size_t>(from)].push_back({1, rule, to}); }
  void empty(int from, int to) { nodes[static_cast<size_t>(from)].push_back({2, 0, to}); }
  std::vector<int32_t> encode(int root = 0) const {
    std::vector<int32_t> out{1, static_cast<int32_t>(starts.size()), root, static_cast<int32_t>(nodes.size()), 0};
    out.insert(out.end(), starts.begin(), starts.end());
    int32_t count = 0;
    for (const auto& edges : nodes) out.push_back(count), count += static_cast<int32_t>(edges.size());
    out.push_back(count);
    out[4] = count;
    out.insert(out.end(), ends.begin(), ends.end());
    for (const auto& edges : nodes)
      for (const Edge& edge : edges) out.insert(out.end(), {edge.kind, edge.value, edge.target});
    return out;
  }
};

// value: 'a' | '[' (value (',' value)*)? ']'
Rules nested_lists() {
  Rules rules;
  rules.rule();
  const int end = rules.node(true), open = rules.node(), after = rules.node();
  rules.byte(rules.starts[0], 'a', end);
  rules.byte(rules.starts[0], '[', open);
  rules.byte(open, ']', end);
  rules.call(open, 0, after);
  const int comma = rules.node();
  rules.byte(after, ',', comma);
  rules.call(comma, 0, after);
  rules.byte(after, ']', end);
  return rules;
}

// The same language: the length of the longest value at the beginning, or -1; `open` when the text ends within one.
int value_length(const std::string& text, size_t at, bool* open) {
  if (at >= text.size()) return *open = true, -1;
  if (text[at] == 'a') return 1;
  if (text[at] != '[') return -1;
  size_t i = at + 1;
  if (i >= text.size()) return *open = true, -1;
  if (text[i] == ']') return 2;
  for (;;) {
    const int length = value_length(text, i, open);
    if (length < 0) return -1;
    i += static_cast<size_t>(length);
    if (i >= text.size()) return *open = true, -1;
    if (text[i] == ']') return static_cast<int>(i + 1 - at);
    if (text[i++] != ',') return -1;
  }
}

// 0 refused, 1 may go on, 2 whole.
int judge(const std::string& text) {
  bool open = false;
  const int length = value_length(text, 0, &open);
  if (length >= 0) return static_cast<size_t>(length) == text.size() ? 2 : 0;
  return open ? 1 : 0;
}

std::span<const uint8_t> bytes_of(const std::string& text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

const std::vector<std::string> kTokens = {"", "[", "]", "a", ",", "[[", "]]", "a,a", "]]]", ",[", "[a", "[a]", "b", "]b", "[[[[[[[[", "", ","};
constexpr int32_t kEnd = 15;

Vocabulary vocabulary_of(const std::vector<std::string>& tokens) {
  std::string bytes;
  std::vector<uint32_t> ends;
  for (const std::string& token : tokens) bytes += token, ends.push_back(static_cast<uint32_t>(bytes.size()));
  Vocabulary vocabulary;
  const int32_t end[] = {kEnd};
  tap::check(Vocabulary::make(bytes_of(bytes), ends, end, &vocabulary).ok(), "a vocabulary");
  return vocabulary;
}

bool has(std::span<const uint32_t> mask, size_t token) { return mask[token >> 5] >> (token & 31) & 1; }

void check_language() {
  Grammar grammar;
  tap::check(Grammar::load(nested_lists().encode(), &grammar).ok(), "nested lists load");
  Automaton automaton(std::move(grammar));
  std::mt19937 random(1);
  int wrong = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (size_t length = random() % 9; text.size() < length;) text += "[],a"[random() % 4];
    int32_t state = automaton.start();
    for (char byte : text) state = state < 0 ? state : automaton.step(state, static_cast<uint8_t>(byte));
    const int verdict = state < 0 ? 0 : automaton.accepts(state) ? 2 : 1;
    if (verdict != judge(text)) ++wrong;
  }
  tap::check(wrong == 0, "20,000 texts are judged as by hand");
}

void check_masks() {
  Grammar grammar;
  (void)Grammar::load(nested_lists().encode(), &grammar).ok();
  const Vocabulary vocabulary = vocabulary_of(kTokens);
  auto* automaton = new TokenAutomaton(std::move(grammar), vocabulary);
  std::mt19937 random(2);
  int wrong = 0, stuck = 0, late = 0;
  for (int round = 0; round < 2000; ++round) {
    Constraint constraint(automaton);
    const uint32_t budget = 1 + random() % 12;
    if (!constraint.begin(budget).ok()) ++stuck;
    std::string text;
    uint32_t used = 0;
    while (!constraint.complete()) {
      (void)constraint.prepare().ok();
      std::span<const uint32_t> mask;
      if (!constraint.mask(&mask).ok()) ++stuck;
      std::vector<int32_t> allowed;
      const std::vector<uint32_t> copy(mask.begin(), mask.end());
      for (size_t token = 0; token < kTokens.size(); ++token) {
        bool one = false;
        if (!constraint.allows(static_cast<int32_t>(token), &one).ok()) ++stuck;
        if (one != has(copy, token)) ++wrong;
        if (one) allowed.push_back(static_cast<int32_t>(token));
        const bool valid = static_cast<int32_t>(token) == kEnd ? judge(text) == 2 : !kTokens[token].empty() && judge(text + kTokens[token]) > 0;
        if (one && !valid) ++wrong;
        if (!one && valid && budget - used > 10) ++wrong;  // nothing here needs more than 10 tokens to end
      }
      if (allowed.empty()) {
        ++stuck;
        break;
      }
      const int32_t token = allowed[random() % allowed.size()];
      if (!constraint.advance(token).ok()) ++stuck;
      if (token == kEnd) break;
      text += kTokens[static_cast<size_t>(token)];
      ++used;
    }
    if (used > budget || judge(text) != 2) ++late;
  }
  tap::check(wrong == 0, "masks allow exactly what the language does");
  tap::check(stuck == 0, "there is always a token");
  tap::check(late == 0, "every walk is whole within its budget");
  Constraint constraint(automaton);
  tap::check(!constraint.begin(0).ok(), "no room for the shortest answer");
  tap::check(constraint.begin(1).ok() && !constraint.advance(12).ok(), "a token that is not allowed is refused");
  tap::check(!constraint.begin(1).ok() || constraint.advance(3).ok(), "one that is moves on");
  tap::check(constraint.complete(), "and completes");
  TokenAutomaton::release(automaton);
  bool allowed = false;
  tap::check(constraint.begin(3).ok() && constraint.allows(3, &allowed).ok() && allowed, "a constraint keeps its automaton");
}

void check_refusals() {
  Grammar grammar;
  Rules left;
  left.rule();
  left.call(left.starts[0], 0, left.node(true));
  left.byte(left.starts[0], 'a', left.node(true));
  tap::check(Grammar::load(left.encode(), &grammar).code == Code::invalid_argument, "a rule that begins with itself is refused");
  Rules endless;
  endless.rule();
  const int inside = endless.node();
  endless.byte(endless.starts[0], '[', inside);
  endless.call(inside, 0, endless.node(true));
  tap::check(Grammar::load(endless.encode(), &grammar).code == Code::invalid_argument, "a grammar without finite text is refused");
  Rules nothing;
  nothing.rule();
  nothing.ends[0] = 1;
  tap::check(Grammar::load(nothing.encode(), &grammar).code == Code::bad_format, "an empty rule is refused");

  Rules ambiguous;
  ambiguous.rule();
  for (int i = 0; i < 5000; ++i) {
    const int node = ambiguous.node();
    ambiguous.byte(ambiguous.starts[0], 'a', node);
    ambiguous.byte(node, 'a', ambiguous.node(true));
  }
  tap::check(Grammar::load(ambiguous.encode(), &grammar).ok(), "an ambiguous grammar loads");
  const Vocabulary vocabulary = vocabulary_of(kTokens);
  auto* automaton = new TokenAutomaton(std::move(grammar), vocabulary);
  {
    Constraint constraint(automaton);
    for (int i = 0; i < 2; ++i) tap::check(constraint.begin(100).code == Code::unsupported, "and fails with a status, every time");
  }
  TokenAutomaton::release(automaton);

  Sampler sampler;
  const std::vector<float> logits{1, 2, 3};
  int32_t token = 0;
  const uint32_t some[] = {0b011}, none[] = {0}, long_mask[] = {1, 1};
  tap::check(sampler.sample(logits, {}, {}, some, &token).ok() && token == 1, "greedy sampling keeps to the mask");
  Sampling warm;
  warm.temperature = 5;
  bool kept = true;
  for (int i = 0; i < 1000; ++i) kept = kept && sampler.sample(logits, {}, warm, some, &token).ok() && token < 2;
  tap::check(kept, "and so does drawing");
  tap::check(!sampler.sample(logits, {}, warm, none, &token).ok() && !sampler.sample(logits, {}, warm, long_mask, &token).ok(), "a mask without tokens or of another size is refused");
}

void check_damage(int rounds) {
  std::mt19937 random(3);
  const Vocabulary vocabulary = vocabulary_of(kTokens);
  const std::vector<int32_t> whole = nested_lists().encode();
  int loaded = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<int32_t> numbers = whole;
    for (uint32_t changes = 1 + random() % 4; changes > 0; --changes) {
      const size_t at = random() % numbers.size();
      switch (random() % 4) {
        case 0: numbers[at] = static_cast<int32_t>(random()); break;
        case 1: numbers[at] += static_cast<int32_t>(random() % 5) - 2; break;
        case 2: numbers[at] = static_cast<int32_t>(random() % 16); break;
        default: numbers.resize(at);
      }
      if (numbers.empty()) break;
    }
    Grammar grammar;
    if (!Grammar::load(numbers, &grammar).ok()) continue;
    ++loaded;
    auto* automaton = new TokenAutomaton(std::move(grammar), vocabulary);
    {
      Constraint constraint(automaton);
      if (constraint.begin(random() % 20).ok()) {
        for (int step = 0; step < 20 && !constraint.complete(); ++step) {
          std::span<const uint32_t> mask;
          if (!constraint.prepare().ok() || !constraint.mask(&mask).ok()) break;
          std::vector<int32_t> allowed;
          for (size_t token = 0; token < kTokens.size(); ++token)
            if (has(mask, token)) allowed.push_back(static_cast<int32_t>(token));
          if (allowed.empty()) {
            tap::check(false, "a damaged grammar is stuck");
            break;
          }
          if (!constraint.advance(allowed[random() % allowed.size()]).ok()) break;
        }
      }
    }
    TokenAutomaton::release(automaton);
  }
  tap::note("%d of %d damaged grammars load", loaded, rounds);
  tap::check(loaded > 0, "damaged grammars are refused or usable");

  Vocabulary out;
  const uint8_t bytes[] = {1, 2, 3};
  const uint32_t descending[] = {2, 1, 3}, beyond[] = {4}, fewer[] = {2};
  const int32_t outside[] = {1};
  tap::check(!Vocabulary::make(bytes, descending, {}, &out).ok() && !Vocabulary::make(bytes, beyond, {}, &out).ok() && !Vocabulary::make(bytes, fewer, {}, &out).ok(),
             "a vocabulary whose bytes do not fit is refused");
  const uint32_t one[] = {3};
  tap::check(!Vocabulary::make(bytes, one, outside, &out).ok(), "so is an end token outside");
}

}  // namespace

int main() {
  check_language();
  check_masks();
  check_refusals();
  check_damage(20000);
  return tap::finish();
}
