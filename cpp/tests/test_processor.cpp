#include "check.hpp"
#include "processor.hpp"

using segdeploy::detail::describe_processor;

int main() {
  CHECK_EQUAL(describe_processor("x86_64", "flags : sse avx avx2\nflags : avx").kind,
              "x86_64 avx2");
  const auto wide = describe_processor("x86_64", "avx avx2 avx512f avx512_vnni avx_vnni");
  CHECK_EQUAL(wide.kind, "x86_64 avx512f avx512_vnni avx_vnni");
  CHECK(wide.has_vnni);
  CHECK_EQUAL(describe_processor("aarch64", "asimd").kind, "aarch64");
  CHECK_EQUAL(describe_processor("x86_64", "avx512fp16").kind, "x86_64");
}
