// Who may use a session: one thread at a time, in the process that opened it.
#pragma once

#include <unistd.h>

#include <atomic>
#include <string>

#include "segdeploy/segdeploy.hpp"

namespace segdeploy::detail {

class Process {  // that opened something
 public:
  bool is_this() const { return getpid() == id_; }

  void check(const std::string& what) const {
    if (is_this()) return;
    throw Error(what + ": was opened before this process was forked and cannot be used in it",
                "open it in each worker, for example in gunicorn's post_worker_init, or start "
                "processes by spawn");
  }

 private:
  pid_t id_ = getpid();
};

class Lease {
 public:
  class Use {
   public:
    Use(Lease& lease, const std::string& what) : lease_(lease) {
      lease.process_.check(what);
      if (!lease.held_.exchange(true, std::memory_order_acquire)) return;
      throw Error(what + ": is in use by another thread",
                  "engine.session() makes one for each thread, SessionPool shares a few");
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() { lease_.held_.store(false, std::memory_order_release); }

   private:
    Lease& lease_;
  };

 private:
  Process process_;
  std::atomic<bool> held_{false};
};

}  // namespace segdeploy::detail
