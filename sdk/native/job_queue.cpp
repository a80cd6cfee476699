#include "sdk/native/job_queue.h"

#include <atomic>

namespace shiftadd {
namespace {

constexpr const char* kStatusWords[] = {"ok",          "invalid_argument", "not_found",     "bad_format",
                                        "unsupported", "out_of_memory",    "device_failed", "cancelled"};

}  // namespace

Napi::Error make_error(Napi::Env env, sa_status status, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("status", Napi::String::New(env, kStatusWords[status >= 0 && status <= 7 ? status : 6]));
  return error;
}

std::shared_ptr<JobQueue> JobQueue::start(Napi::Env env) {
  std::shared_ptr<JobQueue> queue(new JobQueue());
  queue->env_ = env;
  queue->channel_ = Channel::New(env, "shiftadd", 0, 1, queue.get());
  queue->channel_.Unref(env);
  // Added after the channel, so it runs before the channel's own clean-up.
  napi_add_env_cleanup_hook(env, stop_hook, queue.get());
  queue->thread_ = std::thread([raw = queue.get()] { raw->work_loop(); });
  return queue;
}

JobQueue::~JobQueue() {
  if (!thread_.joinable()) return;
  napi_remove_env_cleanup_hook(env_, stop_hook, this);
  stop();
}

void JobQueue::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    if (running_ != nullptr) std::atomic_ref<int32_t>(*running_->cancel).store(1);
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  channel_.Release();
  // Jobs hold the model, which holds this queue: nothing of it is touched after they are gone.
  const std::deque<std::unique_ptr<Job>> waiting = std::move(jobs_);
  const std::unique_ptr<Job> left = std::move(unfinished_);
}

Napi::Value JobQueue::run(Napi::Env env, std::unique_ptr<Job> job, Napi::Value cancel) {
  const Napi::Value promise = job->deferred.Promise();
  job->cancel = &job->own_flag;
  if (cancel.IsTypedArray() && cancel.As<Napi::TypedArray>().TypedArrayType() == napi_int32_array &&
      cancel.As<Napi::TypedArray>().ElementLength() > 0) {
    job->cancel_array = Napi::Reference<Napi::TypedArray>::New(cancel.As<Napi::TypedArray>(), 1);
    void* data = nullptr;
    napi_get_typedarray_info(env, cancel, nullptr, nullptr, &data, nullptr, nullptr);
    job->cancel = static_cast<int32_t*>(data);
  }
  if (pending_++ == 0) channel_.Ref(env);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
  return promise;
}

void JobQueue::report_progress(Job* job, double done) { channel_.NonBlockingCall(new Message{job, done}); }

void JobQueue::work_loop() {
  for (;;) {
    Job* job = nullptr;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      job = jobs_.front().release();
      jobs_.pop_front();
      running_ = job;
    }
    job->status = job->work(job->cancel);
    if (job->status != 0) job->message = sa_last_error();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      running_ = nullptr;
      // A dying environment takes no more calls. The job holds a session and refers to JavaScript, so that thread frees it.
      if (stopping_) {
        unfinished_.reset(job);
        return;
      }
    }
    std::unique_ptr<Message> message(new Message{job, -1});
    if (channel_.NonBlockingCall(message.get()) != napi_ok) {
      unfinished_.reset(job);
      return;
    }
    message.release();
  }
}

void JobQueue::call_js(Napi::Env env, Napi::Function, JobQueue* queue, Message* message) {
  const std::unique_ptr<Message> owned_message(message);
  Job* job = message->job;
  if (static_cast<napi_env>(env) == nullptr) {  // the environment is going away
    if (message->progress < 0) delete job;
    return;
  }
  const Napi::HandleScope scope(env);
  if (message->progress >= 0) {
    if (!job->progress.IsEmpty()) job->progress.Call({Napi::Number::New(env, message->progress)});
    return;
  }
  const std::unique_ptr<Job> owned_job(job);
  if (--queue->pending_ == 0) queue->channel_.Unref(env);
  if (job->settled) job->settled();
  // In a worker thread that is being terminated every call into JavaScript fails; nobody waits for the promise then.
  if (job->status == 0) job->deferred.Resolve(job->result ? job->result(env) : env.Undefined());
  else job->deferred.Reject(make_error(env, job->status, job->message).Value());
}

}  // namespace shiftadd
