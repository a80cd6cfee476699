/* The only public face of the C++ code: opaque handles, scalars, pointers and status codes. Text (JSON, tokenizers,
 * options, messages to people) lives in TypeScript; numbers live here. Both transports (the Node addon and the WASM
 * package) map these functions one to one.
 *
 * Every function that can fail returns a status; 0 is success. The sentence for the last failure on the calling thread
 * is sa_last_error(). Handles are not thread-safe: one call at a time per model and its sessions. */
#ifndef SHIFTADD_C_API_H
#define SHIFTADD_C_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define SA_API __declspec(dllexport)
#else
#define SA_API __attribute__((visibility("default")))
#endif

/* 0 ok, 1 invalid argument, 2 not found, 3 bad format, 4 unsupported, 5 out of memory, 6 device failed, 7 cancelled */
typedef int32_t sa_status;

typedef struct sa_model sa_model;
typedef struct sa_session sa_session;
typedef struct sa_grammar sa_grammar;
typedef struct sa_quantizer sa_quantizer;
typedef struct sa_tuner sa_tuner;

enum { SA_API_VERSION = 4 };
SA_API int32_t sa_version(void);
SA_API const char* sa_last_error(void);

/* ---- devices ---- */

typedef struct {
  const char* backend; /* "cpu" */
  const char* isa;     /* "portable", "avx2", "avx512", "avx512vnni", "neon", "neondot", "simd128", "relaxedsimd" */
  int32_t cores;       /* cores this process may use */
} sa_device;
/* `isa` null: the widest available, or what SHIFTADD_ISA forces. Fails (not found) for an ISA this machine lacks. */
SA_API sa_status sa_device_describe(const char* isa, sa_device* out);

typedef struct {
  int32_t count;      /* GPUs of this machine */
  int32_t capability; /* 87: compute capability 8.7 */
  int32_t multiprocessors;
  int32_t integrated; /* 1: shares its memory with the processor */
  char name[200];
  char uuid[48];      /* "GPU-..." as NVML writes it */
} sa_gpu;
/* The GPU of this index for the backend "cuda". Fails with what is missing: the library, the driver or the GPU. */
SA_API sa_status sa_gpu_describe(int32_t device, sa_gpu* out);

/* ---- models ---- */

typedef struct {
  int32_t threads;   /* 1 to 64; 0: one per core */
  int32_t precision; /* of packed products: 0 exact, 1 fast */
  int32_t kv_type;   /* of cached keys and values: 0 fp32, 1 fp16, 2 int8 with scales (of the backend "cuda") */
  const char* isa;   /* null: automatic; of the backend "cpu" alone */
  const char* backend; /* "cpu", or null; "cuda": the GPU, through libshiftadd_cuda.so beside this code (docs/cuda.md) */
  int32_t device;    /* of the backend "cuda": the index of the GPU */
} sa_model_options;

/* `spec` is the binary description of core/model_spec.h; `paths` are the files it refers to, mapped read-only. */
SA_API sa_status sa_model_open(const double* spec, size_t spec_length, const char* const* paths, size_t path_count,
                               const sa_model_options* options, sa_model** out);
/* The same for files that are in memory already, at multiples of 64, where they must stay until the model is closed. */
typedef struct {
  const char* path; /* for messages */
  const uint8_t* data;
  uint64_t size;
} sa_file_bytes;
SA_API sa_status sa_model_open_memory(const double* spec, size_t spec_length, const sa_file_bytes* files, size_t file_count,
                                      const sa_model_options* options, sa_model** out);
typedef struct {
  const char* isa;
  int32_t threads;
  int32_t precision;
  int32_t kv_type;
  double mapped_bytes; /* weights read straight from the files */
  double heap_bytes;   /* weights held in memory: decoded scales, norms */
} sa_model_info;
SA_API sa_status sa_model_describe(const sa_model* model, sa_model_info* out);
/* For quantizing: matrix (role, layer) of a dense model with a rotation of the residual stream folded in, and the gains of
 * the norm in front of it, which then are 1 (core/rotation.h). signs: one per hidden number; matrix: size x size; each +1 or
 * -1. out: rows x columns fp16 numbers. */
SA_API sa_status sa_model_rotated(const sa_model* model, const int8_t* signs, size_t sign_count, const int8_t* matrix,
                                  int32_t size, int32_t role, int32_t layer, uint16_t* out, size_t out_count);
/* Reads all weight files once with the model's threads, as fast as memory allows. bytes: how many were read. */
SA_API sa_status sa_model_read_files(const sa_model* model, double* bytes);
/* Close sessions, grammars, quantizers and tuners of the model first. */
SA_API void sa_model_close(sa_model* model);

/* ---- sessions ---- */

typedef struct {
  float temperature;        /* 0: greedy */
  int32_t top_k;            /* 0: off */
  float top_p;              /* 1: off */
  float min_p;              /* 0: off */
  float repetition_penalty; /* 1: off */
  int32_t repetition_window; /* how many of the latest tokens the penalty looks at */
} sa_sampling;

SA_API sa_status sa_session_open(sa_model* model, int32_t context_size, sa_session** out);
SA_API void sa_session_close(sa_session* session);
/* Starts the random stream of sa_session_sample anew. */
SA_API sa_status sa_session_seed(sa_session* session, uint64_t seed);
/* Appends `count` tokens and computes the logits of the last. `cancel` may be null; a value other than 0 stops the work
 * within one layer of one chunk; the position then is what it was before the call, or 0 when the call was cancelled while it
 * read everything again beyond the rotary switch. */
SA_API sa_status sa_session_prefill(sa_session* session, const int32_t* tokens, size_t count, const int32_t* cancel);
/* The same without the logits, for the parts of a long prompt: a prefill must follow. */
SA_API sa_status sa_session_append(sa_session* session, const int32_t* tokens, size_t count, const int32_t* cancel);
/* The same, and writes the logits of every token: count x vocabulary size. */
SA_API sa_status sa_session_prefill_logits(sa_session* session, const int32_t* tokens, size_t count, float* out,
                                           size_t out_count, const int32_t* cancel);
/* Picks a token from the logits of the last position. */
SA_API sa_status sa_session_sample(sa_session* session, const sa_sampling* sampling, int32_t* token);
/* Greedy decoding with a guess: appends `token`, then those of the `count` (at most 7) draft tokens that are what greedy
 * sampling would have picked. `tokens` (room for count + 1) receives the accepted ones and the token after them, `produced`
 * their number; the last is not appended. The same tokens as `produced` single steps give. `cancel` as above. */
SA_API sa_status sa_session_decode_draft(sa_session* session, int32_t token, const int32_t* draft, size_t count,
                                         int32_t* tokens, int32_t* produced, const int32_t* cancel);
/* Forgets everything after the first `position` tokens. The logits are gone until the next prefill. */
SA_API sa_status sa_session_rewind(sa_session* session, int32_t position);
/* Copies the logits of the last position: `count` must be the vocabulary size. */
SA_API sa_status sa_session_logits(const sa_session* session, float* out, size_t count);
/* Rewinds to 0, runs `count` tokens and writes count - 1 natural log-probabilities: of token i + 1 after tokens 0..i. */
SA_API sa_status sa_session_evaluate(sa_session* session, const int32_t* tokens, size_t count, float* log_probabilities,
                                     const int32_t* cancel);
typedef struct {
  int32_t position;
  int32_t context_size;
  double kv_cache_bytes; /* of the whole context; pages are touched as positions fill */
  double scratch_bytes;
  double position_bytes; /* of one position as sa_session_save writes it */
  int32_t beyond_switch; /* 1: the keys have the second of the model's two sets of rotary frequencies */
} sa_session_info;
SA_API sa_status sa_session_describe(const sa_session* session, sa_session_info* out);

/* The KV cache of positions first to first + count - 1: of every position, layer by layer the keys, then the values, each
 * [key/value head][head size] in the cache's type, little-endian. The same layout on every backend. `bytes` must be count x
 * position_bytes. */
SA_API sa_status sa_session_save(const sa_session* session, int32_t first, int32_t count, uint8_t* out, size_t bytes);
/* Appends tokens whose positions were saved so, by a session with the same model, precision and cache type; beyond_switch as
 * that session described itself. The logits are gone until the next prefill. */
SA_API sa_status sa_session_restore(sa_session* session, const int32_t* tokens, size_t count, const uint8_t* saved, size_t bytes,
                                    int32_t beyond_switch);
/* Takes over `tokens`, with which `from`, another session of the same model, must begin, in the place of what there was. */
SA_API sa_status sa_session_copy(sa_session* session, const sa_session* from, const int32_t* tokens, size_t count);
/* Rewinds to 0, reads the tokens and writes one vector (`count_out` must be the embedding size) of the states after the final
 * norm, in the basis of the checkpoint. pooling: 0 mean, 1 last token, 2 first token. */
SA_API sa_status sa_session_embed(sa_session* session, const int32_t* tokens, size_t count, int32_t pooling, float* out,
                                  size_t count_out, const int32_t* cancel);

/* ---- grammars: answers of a given form ---- */

/* The bytes of every token, one after another: those of token i end at ends[i]. A token without bytes never comes in a
 * constrained answer; end tokens come where it may end. Once per model, before its first grammar; `count` is the vocabulary size. */
SA_API sa_status sa_model_set_vocabulary(sa_model* model, const uint8_t* bytes, size_t byte_count, const uint32_t* ends,
                                         size_t count, const int32_t* end_tokens, size_t end_count);
/* `numbers` are the rules as core/grammar/grammar.h lays them out. */
SA_API sa_status sa_grammar_open(const sa_model* model, const int32_t* numbers, size_t count, sa_grammar** out);
/* Sessions that it still constrains keep what they need. */
SA_API void sa_grammar_close(sa_grammar* grammar);
/* What may follow a text: `tokens` (vocabulary size / 32 words, rounded up; may be null) gets one bit per token that leaves a way
 * to the end within `budget` tokens, itself counted. verdict: 0 no answer begins so, 1 one does, 2 it is one, 3 and nothing may follow.
 * least: tokens to the end at most; -1: this vocabulary cannot reach it. */
SA_API sa_status sa_grammar_follow(const sa_grammar* grammar, const uint8_t* text, size_t text_bytes, int32_t budget,
                                   uint32_t* tokens, size_t word_count, int32_t* verdict, int32_t* least);
/* From now on sa_session_sample picks only tokens with which the answer comes to its end within `budget` tokens besides the end token,
 * and moves past the token it picked. Fails when the budget is less than the shortest answer. Null: no constraint. */
SA_API sa_status sa_session_constrain(sa_session* session, const sa_grammar* grammar, int32_t budget);
/* complete: 1 when the constrained answer is whole and nothing but the end may follow. */
SA_API sa_status sa_session_is_complete(const sa_session* session, int32_t* complete);

/* ---- quantizer ---- */

typedef struct {
  int32_t planes;        /* 1 to 8 */
  int32_t group_rows;
  int32_t group_columns; /* 8 or 1 */
  int32_t row_scales;    /* 0 or 1 */
  int32_t scale_terms;   /* 1 to 4 powers of two per scale */
  int32_t fit_rounds;    /* alternations of one binary-coding fit */
  int32_t refits;        /* bundle refits inside the compensated loop */
  int32_t sweeps;        /* (least squares, coordinate descent, row scales) passes after it */
  double damping;        /* of the Hessian, as a share of its mean diagonal */
  double identity;       /* of the identity, likewise: for an embedding that is also read by rows */
} sa_quantize_settings;

/* `done` goes from 0 to 1 within one call. Called on the thread of the call. */
typedef void (*sa_progress)(void* user, double done);

/* `model` must be dense. tokens: windows x window. Keeps one layer's statistics and the activations in memory. */
SA_API sa_status sa_quantizer_open(sa_model* model, const int32_t* tokens, int32_t windows, int32_t window,
                                   sa_quantizer** out);
SA_API void sa_quantizer_close(sa_quantizer* quantizer);
/* Before the first block: prepares sa_quantizer_measure with the first `window` tokens of the first `windows` windows. */
SA_API sa_status sa_quantizer_open_sensitivity(sa_quantizer* quantizer, int32_t windows, int32_t window,
                                               const int32_t* cancel);
/* Quantizes the next block; settings: `candidates` (1 to 8) per matrix, matrices in the order q, k, v, o, gate, up, down.
 * Call once per block. An error of one matrix begins with "matrix" and its index in the order of the matrices. */
SA_API sa_status sa_quantizer_block(sa_quantizer* quantizer, const sa_quantize_settings* settings, int32_t candidates,
                                    sa_progress progress, void* user, const int32_t* cancel);
/* Passes over the next block: for a job that goes on where another one stopped. */
SA_API sa_status sa_quantizer_skip(sa_quantizer* quantizer, sa_progress progress, void* user, const int32_t* cancel);
/* After the last block: quantizes the embedding and, when the head is not tied to it, the head; settings as above. */
SA_API sa_status sa_quantizer_head(sa_quantizer* quantizer, const sa_quantize_settings* settings, int32_t candidates,
                                   sa_progress progress, void* user, const int32_t* cancel);
/* Mean KL divergence, in nats per position, of the dense model from itself with matrix `index` of the last call packed. */
SA_API sa_status sa_quantizer_measure(sa_quantizer* quantizer, int32_t index, double* kl, const int32_t* cancel);
typedef struct {
  int32_t rows, columns, planes, group_rows, group_columns, scale_exponent, has_row_scales;
  double plane_bytes, scale_count, row_scale_count;
  double weight_error; /* |W - W_packed|^2 / |W|^2 */
  double output_error; /* tr(E H E^T) / tr(W H W^T) */
  double criterion;    /* |S|_F std(S)^2 of core/quantizer/pipeline.h; 0 without a Hessian */
  double damping_used; /* that made the Hessian positive definite */
  int32_t dead_columns;
  int32_t plain_fit;   /* 1: no Hessian, all columns dead, or no damping made it positive definite */
} sa_packed_info;
/* The matrices of the last call, in the order of its settings. */
SA_API int32_t sa_quantizer_count(const sa_quantizer* quantizer);
SA_API sa_status sa_quantizer_describe(const sa_quantizer* quantizer, int32_t index, sa_packed_info* out);
SA_API sa_status sa_quantizer_copy(const sa_quantizer* quantizer, int32_t index, uint8_t* planes, uint16_t* scales,
                                   uint16_t* row_scales);

/* ---- tuner ---- */

/* Tunes the scales of packed matrices and the norm gains against a dense model; core/tuner/tuner.h says how. Roles and
 * layers are those of core/model_spec.h. */

typedef struct {
  int32_t rows, columns, planes, group_rows, group_columns, scale_exponent;
  const uint8_t* plane_data;
  const uint16_t* scales;
  const uint16_t* row_scales; /* null: none */
  size_t plane_bytes, scale_count, row_scale_count;
} sa_packed_matrix;
/* Learning rates of one step, 0 to 1. */
typedef struct {
  float scales, row_scales, gains;
} sa_tune_rates;

SA_API sa_status sa_tuner_open(sa_model* model, sa_tuner** out);
SA_API void sa_tuner_close(sa_tuner* tuner);
/* Copies the matrix. Every matrix once, before the first step; those that are not set stay dense. */
SA_API sa_status sa_tuner_set(sa_tuner* tuner, int32_t role, int32_t layer, const sa_packed_matrix* matrix);
/* One step on windows x window tokens. loss: nats per token before the step. A failed or cancelled step changes nothing. */
SA_API sa_status sa_tuner_step(sa_tuner* tuner, const int32_t* tokens, int32_t windows, int32_t window,
                               const sa_tune_rates* rates, double* loss, const int32_t* cancel);
SA_API sa_status sa_tuner_loss(sa_tuner* tuner, const int32_t* tokens, int32_t windows, int32_t window, double* loss,
                               const int32_t* cancel);
/* Block by block, with less memory: steps on some of the windows given at the beginning, then the next block. loss: mean
 * squared error of the block's output before the step. */
SA_API sa_status sa_tuner_begin_blocks(sa_tuner* tuner, const int32_t* tokens, int32_t windows, int32_t window);
SA_API sa_status sa_tuner_block_step(sa_tuner* tuner, const uint32_t* chosen, size_t count, const sa_tune_rates* rates,
                                     double* loss, const int32_t* cancel);
SA_API sa_status sa_tuner_next_block(sa_tuner* tuner, const int32_t* cancel);
/* What a matrix that was set has to offer, then its present scales; the planes do not change. The errors are NaN. */
SA_API sa_status sa_tuner_describe(const sa_tuner* tuner, int32_t role, int32_t layer, sa_packed_info* out);
SA_API sa_status sa_tuner_copy(const sa_tuner* tuner, int32_t role, int32_t layer, uint16_t* scales, uint16_t* row_scales);
/* The present gains of a norm: `count` must be the hidden size. */
SA_API sa_status sa_tuner_gains(const sa_tuner* tuner, int32_t role, int32_t layer, float* out, size_t count);
/* What another tuner with the same matrices needs to go on with the same bits. Ends the setting of matrices. */
SA_API size_t sa_tuner_state_size(sa_tuner* tuner);
SA_API sa_status sa_tuner_save_state(sa_tuner* tuner, float* out, size_t count);
SA_API sa_status sa_tuner_load_state(sa_tuner* tuner, const float* state, size_t count);

#ifdef __cplusplus
}
#endif

#endif
