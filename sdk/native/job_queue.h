// Runs the long calls of one model on one thread of its own, in order, and settles their promises on the JavaScript
// thread. The thread ends cleanly when the model goes away, when a worker thread is terminated and at process exit.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/c_api.h"

namespace shiftadd {

// An Error with the engine's status word in `status`.
Napi::Error make_error(Napi::Env env, sa_status status, const std::string& message);

class JobQueue {
 public:
  struct Job {
    explicit Job(Napi::Env env) : deferred(Napi::Promise::Deferred::New(env)) {}

    std::function<sa_status(const int32_t* cancel)> work;     // on the queue's thread
    std::function<Napi::Value(Napi::Env)> result;             // on the JavaScript thread, after success
    std::function<void()> settled;                            // on the JavaScript thread, always, before the promise
    Napi::Promise::Deferred deferred;
    Napi::Reference<Napi::TypedArray> cancel_array;           // keeps the flag's memory alive
    Napi::ObjectReference owner;                              // keeps the object of the call alive
    Napi::FunctionReference progress;
    int32_t* cancel = nullptr;
    int32_t own_flag = 0;  // used where the caller gave none, so that a dying environment can stop the call
    sa_status status = 0;
    std::string message;
  };

  static std::shared_ptr<JobQueue> start(Napi::Env env);
  ~JobQueue();

  // Queues the job and returns its promise. `cancel`: undefined or an Int32Array with at least one element.
  Napi::Value run(Napi::Env env, std::unique_ptr<Job> job, Napi::Value cancel);
  // From a job's work: calls job.progress on the JavaScript thread.
  void report_progress(Job* job, double done);

 private:
  struct Message {
    Job* job;
    double progress;  // negative: the job is done
  };
  static void call_js(Napi::Env env, Napi::Function, JobQueue* queue, Message* message);
  using Channel = Napi::TypedThreadSafeFunction<JobQueue, Message, call_js>;

  JobQueue() = default;
  void work_loop();
  void stop();
  static void stop_hook(void* queue) { static_cast<JobQueue*>(queue)->stop(); }

  napi_env env_ = nullptr;
  Channel channel_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Job>> jobs_;
  Job* running_ = nullptr;
  std::unique_ptr<Job> unfinished_;  // what ran when the environment went away
  size_t pending_ = 0;  // JavaScript thread only: the channel keeps the process alive while this is not 0
  bool stopping_ = false;
};

}  // namespace shiftadd
