#include "check.hpp"
#include "profiles.hpp"

using segdeploy::detail::ProfilePool;

namespace {

const segdeploy::detail::Shape OPEN = {-1, -1, -1, 3};

void test_fixed() {
  ProfilePool pool({1, 64, 96, 3}, {{{1, 64, 96, 3}, {1, 64, 96, 3}}});
  CHECK(!pool.take({1, 64, 96, 3}, std::nullopt));
  CHECK_EQUAL(check::problem_of([&] {
                pool.take({2, 64, 96, 3}, std::nullopt);
              }),
              "an image batch is 2x64x96x3; the engine takes 1x64x96x3");
}

void test_open() {
  ProfilePool pool(OPEN, {{{1, 8, 8, 3}, {4, 64, 64, 3}}, {{1, 8, 8, 3}, {1, 16, 16, 3}}});
  const auto small = pool.take({1, 16, 16, 3}, std::nullopt);
  CHECK(small == 1);  // the smallest that fits
  CHECK(pool.take({1, 8, 8, 3}, small) == small);
  const auto large = pool.take({1, 16, 16, 3}, std::nullopt);
  CHECK(large == 0);
  CHECK_EQUAL(
      check::problem_of([&] {
        pool.take({1, 8, 8, 3}, std::nullopt);
      }),
      "all 2 profiles for 1x8x8x3 are in use by other sessions; each session needs its own");
  CHECK_EQUAL(check::problem_of([&] {
                pool.take({5, 8, 8, 3}, small);
              }),
              "an image batch is 5x8x8x3; the engine takes 1x8x8x3 to 4x64x64x3, or 1x8x8x3 to "
              "1x16x16x3");
  pool.give_back(large);
  CHECK(pool.take({4, 64, 64, 3}, small) == 0);  // and the small one is still held
  CHECK(check::problem_of([&] { pool.take({1, 8, 8, 3}, std::nullopt); }) != "");
  pool.give_back(small);
  CHECK(pool.take({1, 8, 8, 3}, std::nullopt) == 1);
}

}  // namespace

int main() {
  test_fixed();
  test_open();
}
