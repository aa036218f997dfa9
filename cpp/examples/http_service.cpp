// http_service ENGINE [libonnxruntime.so] [PORT]: POST raw RGB to /segment, get class ids.
//
//   curl -H 'Content-Type: application/octet-stream' --data-binary @in.rgb HOST/segment > out.bin
//
// A few sessions serve all connections: where all are busy the answer is 503, and the caller tries
// again. Built where cpp-httplib is found. It listens to this machine alone.
#include <httplib.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <segdeploy/segdeploy.hpp>
#include <string>
#include <vector>

namespace {

constexpr int SESSIONS = 2;
httplib::Server* stopped_by_signal = nullptr;

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

}  // namespace

int main(int count, char** arguments) try {
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
  stopped_by_signal = &server;
  std::signal(SIGINT, [](int) { stopped_by_signal->stop(); });
  std::signal(SIGTERM, [](int) { stopped_by_signal->stop(); });
  const long port = count > 3 ? std::strtol(arguments[3], nullptr, 10) : 8080;
  if (!server.listen("127.0.0.1", static_cast<int>(port))) {
    throw segdeploy::Error("port " + std::to_string(port) + " cannot be listened to");
  }
} catch (const segdeploy::Error& error) {
  std::fprintf(stderr, "%s\n", error.to_lines().c_str());
  return 1;
}
