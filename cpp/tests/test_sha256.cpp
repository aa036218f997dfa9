// Known answers of FIPS 180-4 and its examples, and every length around a block's end.
#include "check.hpp"
#include "sha256.hpp"

using namespace segdeploy::detail;

namespace {

using Hash = std::string (*)(std::string_view);

void test(Hash hash) {
  CHECK_EQUAL(hash(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK_EQUAL(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK_EQUAL(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK_EQUAL(hash(std::string(1'000'000, 'a')),
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  // The hash of the hashes of 0 to 299 bytes, from Python's hashlib.
  std::string all;
  for (std::size_t size = 0; size < 300; ++size) all += hash(std::string(size, '\xA5'));
  CHECK_EQUAL(hash(all), "b65c6ea30ddc8a8670ca84582076f3cc22e6d407adf95103066261ad0e68b0bf");
}

}  // namespace

int main() {
  test(sha256_hex);
  test(sha256_hex_anywhere);
}
