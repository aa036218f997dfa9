// camera_service ENGINE [libonnxruntime.so] [FRAMES]: a camera, workers, and a graceful stop.
//
// The camera is drawn here: put your own in `Camera::read`. Frames wait in a queue of bounded
// length; where the workers cannot keep up the oldest frame is dropped, so that labels are never
// late by more than the queue. Ctrl-C, or the last frame, stops it: what is queued is still done.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <segdeploy/segdeploy.hpp>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t QUEUED = 4;  // frames that may wait
constexpr std::size_t WORKERS = 2;

std::atomic<bool> is_stopping{false};  // set by a signal, which may touch nothing else

struct Frame {
  long number = 0;
  std::vector<std::uint8_t> bgr;
};

class Queue {
 public:
  void push(Frame frame) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (frames_.size() == QUEUED) {
      frames_.pop_front();
      ++dropped_;
    }
    frames_.push_back(std::move(frame));
    waiting_.notify_one();
  }

  void close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_closed_ = true;
    waiting_.notify_all();
  }

  std::optional<Frame> pop() {  // nothing: closed, and all is done
    std::unique_lock<std::mutex> lock(mutex_);
    waiting_.wait(lock, [&] { return is_closed_ || !frames_.empty(); });
    if (frames_.empty()) return std::nullopt;
    Frame frame = std::move(frames_.front());
    frames_.pop_front();
    return frame;
  }

  long dropped() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return dropped_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable waiting_;
  std::deque<Frame> frames_;
  bool is_closed_ = false;
  long dropped_ = 0;
};

class Camera {  // a bar that moves over a grey street
 public:
  Camera(segdeploy::Size size, long frames) : size_(size), frames_(frames) {}

  std::optional<Frame> read() {
    if (next_ == frames_) return std::nullopt;
    Frame frame{next_++, {}};
    const std::size_t row = static_cast<std::size_t>(size_.width) * 3;
    frame.bgr.assign(row * static_cast<std::size_t>(size_.height), 96);
    const std::size_t bar = static_cast<std::size_t>(frame.number % size_.height) * row;
    std::fill_n(frame.bgr.begin() + static_cast<std::ptrdiff_t>(bar), row, 224);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // 200 frames a second
    return frame;
  }

 private:
  segdeploy::Size size_;
  long frames_, next_ = 0;
};

struct Counts {
  std::atomic<long> read{0}, labelled{0}, failed{0};
};

struct Worker {
  segdeploy::Session session;
  std::vector<std::uint8_t> labels;
};

void work(Worker& worker, segdeploy::Size size, Queue& queue, Counts& counts) {
  while (const auto frame = queue.pop()) {
    try {
      segdeploy::Image image{frame->bgr.data(), size.height, size.width};
      image.order = segdeploy::ColorOrder::bgr;
      worker.session.run(image, {worker.labels.data(), size.height, size.width});
      ++counts.labelled;                     // here the labels go to whoever wants them
    } catch (const std::exception& error) {  // memory that ran out, too
      std::fprintf(stderr, "frame %ld: %s\n", frame->number, error.what());
      ++counts.failed;
    }
  }
}

// However the camera ends, and be it by an exception: what is queued is still done.
class Threads {
 public:
  explicit Threads(Queue& queue) : queue_(queue) {}
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  ~Threads() {
    queue_.close();
    for (std::thread& thread : threads_) thread.join();
  }

  template <typename Work>
  void start(Work work) {
    threads_.emplace_back(std::move(work));
  }

 private:
  Queue& queue_;
  std::vector<std::thread> threads_;
};

void label_all(Camera& camera, std::vector<Worker>& workers, segdeploy::Size size, Queue& queue,
               Counts& counts) {
  Threads threads(queue);
  for (Worker& worker : workers) {
    threads.start([&, size] { work(worker, size, queue, counts); });
  }
  while (!is_stopping) {
    auto frame = camera.read();
    if (!frame) break;
    ++counts.read;
    queue.push(std::move(*frame));
  }
}

void serve(const segdeploy::Engine& engine, long frames) {
  const segdeploy::Size size = engine.manifest().size.value_or(segdeploy::Size{512, 1024});
  Camera camera(size, frames);
  Queue queue;
  Counts counts;
  // A session for each; made here, since what a thread throws nobody catches.
  const auto pixels = static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width);
  std::vector<Worker> workers;
  workers.reserve(WORKERS);
  while (workers.size() < WORKERS) {
    workers.push_back({engine.session(), std::vector<std::uint8_t>(pixels)});
  }
  label_all(camera, workers, size, queue, counts);
  std::printf("read %ld, labelled %ld, dropped %ld, failed %ld\n", counts.read.load(),
              counts.labelled.load(), queue.dropped(), counts.failed.load());
}

}  // namespace

int main(int count, char** arguments) try {
  std::signal(SIGINT, [](int) { is_stopping = true; });
  std::signal(SIGTERM, [](int) { is_stopping = true; });
  segdeploy::RunOptions options;
  options.threads = 1;  // each: the workers share the cores
  if (count > 2) options.onnxruntime_library = arguments[2];
  const auto engine = segdeploy::Engine::open(count > 1 ? arguments[1] : "model.ort", options);
  serve(engine, count > 3 ? std::strtol(arguments[3], nullptr, 10) : -1);  // -1: without end
} catch (const segdeploy::Error& error) {
  std::fprintf(stderr, "%s\n", error.to_lines().c_str());
  return 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
