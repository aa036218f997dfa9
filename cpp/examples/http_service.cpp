// http_service ENGINE [libonnxruntime.so] [PORT]: POST raw RGB to /segment, get class ids.
//
//   curl -H 'Content-Type: application/octet-stream' --data-binary @in.rgb HOST/segment > out.bin
//
// A few sessions serve all connections: where all are busy the answer is 503, and the caller tries
// again. Built where cpp-httplib is found. It listens to this machine alone.
#include <httplib.h>
#include <pthread.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <segdeploy/segdeploy.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr int SESSIONS = 2;

class Pool {
 public:
  explicit Pool(const segdeploy::Engine& engine) {
    for (int k = 0; k < SESSIONS; ++k) sessions_.push_back(engine.session());
    for (auto& session : sessions_) free_.push_back(&session);
  }

  // Gives the session back when it goes, however the request ended.
  using Borrowed = std::unique_ptr<segdeploy::Session, std::function<void(segdeploy::Session*)>>;

  Borrowed take() {  // none: all are busy
    const std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) return nullptr;
    segdeploy::Session* session = free_.back();
    free_.pop_back();
    return {session, [this](segdeploy::Session* used) {
              const std::lock_guard<std::mutex> lock_again(mutex_);
              free_.push_back(used);
            }};
  }

 private:
  std::mutex mutex_;
  std::vector<segdeploy::Session> sessions_;
  std::vector<segdeploy::Session*> free_;
};

void segment(Pool& pool, segdeploy::Size size, const httplib::Request& request,
             httplib::Response& response) {
  const auto pixels = static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width);
  if (request.body.size() != 3 * pixels) {
    response.status = 400;
    response.set_content("wanted " + std::to_string(3 * pixels) + " bytes of RGB\n", "text/plain");
    return;
  }
  const auto session = pool.take();
  if (!session) {
    response.status = 503;
    return;
  }
  std::string labels(pixels, '\0');
  try {
    session->run(
        {reinterpret_cast<const std::uint8_t*>(request.body.data()), size.height, size.width},
        {reinterpret_cast<std::uint8_t*>(labels.data()), size.height, size.width});
    response.set_content(labels, "application/octet-stream");
  } catch (const segdeploy::Error& error) {
    response.status = 500;
    response.set_content(error.to_lines() + "\n", "text/plain");
  }
}

// The signals that stop it. Held back in every thread, and one fetches them: a handler may call
// next to nothing, and what comes before the server listens would be lost.
sigset_t stopping() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  return signals;
}

class Stopper {
 public:
  explicit Stopper(httplib::Server& server) : thread_([&] { wait(server); }) {}
  Stopper(const Stopper&) = delete;
  Stopper& operator=(const Stopper&) = delete;

  ~Stopper() {  // the server is done, whether by a signal or not
    is_done_ = true;
    pthread_kill(thread_.native_handle(), SIGINT);
    thread_.join();
  }

 private:
  void wait(httplib::Server& server) {
    const sigset_t signals = stopping();
    int signal = 0;
    sigwait(&signals, &signal);
    while (!server.is_running() && !is_done_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    server.stop();
  }

  std::atomic<bool> is_done_{false};
  std::thread thread_;
};

int port_of(std::string_view text) {
  int port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port < 1 || port > 65535) {
    throw segdeploy::Error("port " + std::string(text) + "; wanted 1 to 65535");
  }
  return port;
}

void listen(httplib::Server& server, int port) {
  // Without this cpp-httplib shares the port with another service that listens to it.
  server.set_socket_options([](socket_t socket) {
    const int yes = 1;  // a port that was left a moment ago is free
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  if (!server.bind_to_port("127.0.0.1", port)) {
    throw segdeploy::Error("port " + std::to_string(port) + " cannot be listened to");
  }
  const Stopper stopper(server);
  server.listen_after_bind();
}

}  // namespace

int main(int count, char** arguments) try {
  const sigset_t signals = stopping();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before there are threads, which inherit it
  const int port = port_of(count > 3 ? arguments[3] : "8080");
  segdeploy::RunOptions options;
  options.threads = 1;
  if (count > 2) options.onnxruntime_library = arguments[2];
  const auto engine = segdeploy::Engine::open(count > 1 ? arguments[1] : "model.ort", options);
  if (!engine.manifest().size) throw segdeploy::Error("wanted an engine of one size");
  const segdeploy::Size size = *engine.manifest().size;
  Pool pool(engine);
  httplib::Server server;
  server.set_payload_max_length(3u * static_cast<unsigned>(size.height * size.width) + 1024);
  server.Post("/segment", [&](const httplib::Request& request, httplib::Response& response) {
    segment(pool, size, request, response);
  });
  server.Get("/health", [](const httplib::Request&, httplib::Response& response) {
    response.set_content("ready\n", "text/plain");
  });
  listen(server, port);
} catch (const segdeploy::Error& error) {
  std::fprintf(stderr, "%s\n", error.to_lines().c_str());
  return 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
