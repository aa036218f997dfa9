// What is asked of TensorRT and CUDA, and in which order, on a simulated machine: right on one, it
// may still be wrong on a GPU, but what is wrong here is wrong there.
#include <cuda_runtime_api.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.hpp"
#include "plan.hpp"

using namespace segdeploy::detail;

namespace {

using Calls = std::vector<std::string>;

constexpr Batch SMALL{1, {8, 8}};    // of either profile
constexpr Batch LARGE{1, {64, 64}};  // of the second
constexpr int OWN = 9;               // a context of the caller, made by the driver's API

struct Opened {  // on a fresh machine
  explicit Opened(const std::string& device = "cuda:0") {
    world::now = {};
    model = open_tensorrt(plan(), device, "");
    world::said();
  }
  std::shared_ptr<const Model> model;
};

template <class Work>
bool is_misfit(const Work& work) {
  try {
    work();
    return false;
  } catch (const segdeploy::MisfitError&) {
    return true;
  }
}

void test_a_batch_goes_through_the_engine() {
  const Opened opened;
  const auto session = opened.model->runner();

  session->prepare({2, {8, 8}});
  for (int k = 0; k < 2 * 8 * 8; ++k) session->images()[3 * k] = static_cast<std::uint8_t>(k);
  session->execute();

  const auto* labels = static_cast<const std::uint8_t*>(session->result());
  for (int k = 0; k < 2 * 8 * 8; ++k) CHECK(labels[k] == k);
}

void test_an_engine_that_returns_more_than_its_manifest_says_is_refused() {
  const Opened opened;
  const auto session = opened.model->runner();
  world::now.scale = 2;

  const auto prepare = [&] { session->prepare(SMALL); };

  CHECK(is_misfit(prepare));
  CHECK_EQUAL(check::problem_of(prepare),
              "demo: the engine returns 1x16x8 for an image batch of 1x8x8x3, its manifest says "
              "1x8x8");
  world::now.scale = 1;
  prepare();
}

void test_a_manifest_whose_facts_are_of_another_engine_is_refused() {
  world::now = {};
  world::now.image = {1, 64, 64, 3}, world::now.result = {1, 64, 64};
  Artifact artifact = plan();
  artifact.manifest.facts.batch = 1;
  artifact.manifest.facts.size = segdeploy::Size{8, 8};

  const auto open = [&] { open_tensorrt(artifact, "cuda:0", ""); };

  CHECK(is_misfit(open));
  CHECK_EQUAL(check::problem_of(open),
              "m.plan: has the tensors image uint8 1x64x64x3, labels uint8 1x64x64, its manifest "
              "says 1x8x8x3 and 1x8x8");
  artifact.manifest.facts.size = segdeploy::Size{64, 64};
  open();
  CHECK(world::now.open == 0);
}

void test_the_profile_is_changed_once_the_executions_have_ended() {
  const Opened opened;
  const auto session = opened.model->runner();
  session->prepare(SMALL);
  session->execute();

  session->prepare(LARGE);
  opened.model->runner()->prepare(SMALL);  // the small profile is free now

  CHECK(world::said() ==
        Calls({"wait for the executions", "profile 0", "stream 0 waits", "execute on stream 0",
               "record on stream 0", "wait for the executions", "profile 1",
               "wait for the executions", "profile 0", "wait for the executions"}));
}

void test_a_session_that_cannot_wait_keeps_its_profile() {
  const Opened opened;
  const auto first = opened.model->runner(), second = opened.model->runner();
  first->prepare(SMALL);
  world::now.failing = "cudaEventSynchronize";
  CHECK_EQUAL(check::problem_of([&] { first->prepare(LARGE); }),
              "cudaEventSynchronize failed (simulated)");

  second->prepare(SMALL);  // the other one

  first->prepare(SMALL);
  CHECK_EQUAL(check::problem_of([&] { opened.model->runner()->prepare(SMALL); }),
              "all 2 profiles for 1x8x8x3 are in use by other sessions; each session needs its "
              "own");
  Calls profiles = world::said();
  profiles.erase(std::remove(profiles.begin(), profiles.end(), "wait for the executions"),
                 profiles.end());
  CHECK(profiles == Calls({"profile 0", "profile 1"}));
}

void test_a_profile_that_the_context_refuses_is_free_for_others() {
  const Opened opened;
  const auto first = opened.model->runner(), second = opened.model->runner();
  first->prepare(SMALL);
  world::now.failing = "setOptimizationProfileAsync";
  CHECK_EQUAL(check::problem_of([&] { first->prepare(LARGE); }),
              "demo: the engine refuses an image batch of 1x64x64x3 (TensorRT gave no reason)");

  second->prepare(LARGE);

  first->prepare(SMALL);  // which it still has
  CHECK(!check::problem_of([&] { opened.model->runner()->prepare(SMALL); }).empty());
}

void test_a_stream_waits_for_the_execution_before_even_if_it_has_the_same_name() {
  const Opened opened;
  const auto session = opened.model->runner();
  alignas(256) std::uint8_t images[3 * 64] = {}, labels[64];
  CUstream_st stream{2};

  session->enqueue(images, SMALL, labels, &stream);
  world::said();
  session->enqueue(images, SMALL, labels, &stream);

  CHECK(world::said() == Calls({"stream 2 waits", "execute on stream 2", "record on stream 2"}));
}

void test_memory_that_tensorrt_cannot_use_in_place_is_refused() {
  const Opened opened;
  const auto session = opened.model->runner();
  alignas(256) std::uint8_t images[3 * 64 + 16] = {}, labels[64 + 16];
  CUstream_st stream{2};

  CHECK_EQUAL(check::problem_of([&] { session->enqueue(images + 16, SMALL, labels, &stream); }),
              "images: begins at no multiple of 256 bytes, which TensorRT needs");
  CHECK_EQUAL(check::problem_of([&] { session->enqueue(images, SMALL, labels + 16, &stream); }),
              "result: begins at no multiple of 256 bytes, which TensorRT needs");
  CHECK(world::said().empty());
}

void test_another_version_loads_a_compatible_plan_with_its_lean_runtime() {
  world::now = {};
  Artifact artifact = plan();
  artifact.manifest.facts.runtime_version = "10.8.0.43";
  artifact.manifest.build->version_compatible = true;

  const auto open = [&](const char* lean) { open_tensorrt(artifact, "cuda:0", lean); };

  CHECK(is_misfit([&] { open(""); }));
  CHECK_EQUAL(check::problem_of([&] { open(""); }),
              "m.plan: another TensorRT loads it with the lean runtime of 10.8.0.43 only");
  world::said();
  open("libnvinfer_lean.so.10");
  CHECK(world::now.lean == Calls({"libnvinfer_lean.so.10"}));
  CHECK(world::said() == Calls({"engine freed", "runtime freed", "runtime freed"}));
  world::now.failing = "loadRuntime";
  CHECK_EQUAL(check::problem_of([&] { open("x.so"); }),
              "x.so: is no lean runtime that this TensorRT loads");
  CHECK(world::now.open == 0);
}

void test_the_caller_keeps_its_context() {
  world::now = {};
  world::now.contexts = {OWN};
  {
    const auto model = open_tensorrt(plan(), "cuda:1", "");
    const auto session = model->runner();
    session->prepare(SMALL);
    CHECK(world::now.contexts == std::vector<int>{OWN});
    world::now.contexts.clear();  // another thread, without any
    session->execute();
    CHECK(world::now.contexts.empty());
  }
  CHECK(world::now.contexts.empty());
  CHECK(world::now.open == 0);
  const Calls calls = world::said();
  CHECK(calls[calls.size() - 2] == "engine freed" && calls.back() == "runtime freed");
}

void test_what_cannot_be_made_leaves_nothing_behind() {
  for (const char* call : {"cudaStreamCreateWithFlags", "cudaEventCreateWithFlags"}) {
    const Opened opened;
    const int before = world::now.open;
    world::now.failing = call;
    CHECK_EQUAL(check::problem_of([&] { opened.model->runner(); }),
                std::string(call) + " failed (simulated)");
    CHECK(world::now.open == before);
  }
  for (const char* call : {"cudaMalloc", "cudaMallocHost"}) {
    Opened opened;
    {
      const auto session = opened.model->runner();
      session->prepare(SMALL);
      world::now.failing = call;
      CHECK_EQUAL(check::problem_of([&] { session->prepare(LARGE); }),
                  std::string(call) + " failed (simulated)");
      session->prepare(SMALL);
      session->execute();
    }
    opened.model.reset();
    CHECK(world::now.open == 0);
  }
}

// Whether a condition holds in a forked process.
template <class Condition>
bool holds_in_child(const Condition& condition) {
  const pid_t child = fork();
  if (child == 0) std::_Exit(condition() ? 0 : 1);
  int status = 1;
  return waitpid(child, &status, 0) == child && status == 0;
}

void test_where_the_driver_is_gone_nothing_is_freed() {
  CHECK(holds_in_child([] {
    Opened opened;
    const int before = world::now.open;
    world::now.failing = "cuCtxPushCurrent";
    opened.model.reset();
    return world::now.open == before;
  }));
}

void test_a_forked_process_frees_nothing() {
  Opened opened;
  auto session = opened.model->runner();
  session->prepare(SMALL);
  world::said();
  const int before = world::now.open;

  CHECK(holds_in_child([&] {
    session.reset();
    opened.model.reset();
    return world::now.open == before && world::said().empty();
  }));

  session.reset();
  opened.model.reset();
  CHECK(world::now.open == 0);
}

}  // namespace

int main() {
  test_a_batch_goes_through_the_engine();
  test_an_engine_that_returns_more_than_its_manifest_says_is_refused();
  test_a_manifest_whose_facts_are_of_another_engine_is_refused();
  test_the_profile_is_changed_once_the_executions_have_ended();
  test_a_session_that_cannot_wait_keeps_its_profile();
  test_a_profile_that_the_context_refuses_is_free_for_others();
  test_a_stream_waits_for_the_execution_before_even_if_it_has_the_same_name();
  test_memory_that_tensorrt_cannot_use_in_place_is_refused();
  test_another_version_loads_a_compatible_plan_with_its_lean_runtime();
  test_the_caller_keeps_its_context();
  test_what_cannot_be_made_leaves_nothing_behind();
  test_where_the_driver_is_gone_nothing_is_freed();
  test_a_forked_process_frees_nothing();
}
