#include "sha256.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace segdeploy::detail {
namespace {

constexpr std::size_t BLOCK = 64;  // bytes
using State = std::array<std::uint32_t, 8>;

// Fractional bits of the square roots of the first 8 primes, and of the cube roots of the first 64.
constexpr State START = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
constexpr std::array<std::uint32_t, 64> ROUNDS = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

std::uint32_t turn(std::uint32_t value, int bits) { return value >> bits | value << (32 - bits); }

std::uint32_t big_endian(const unsigned char* at) {
  return std::uint32_t{at[0]} << 24 | std::uint32_t{at[1]} << 16 | std::uint32_t{at[2]} << 8 |
         at[3];
}

void take_block(State& state, const unsigned char* block) {
  std::array<std::uint32_t, 64> w;
  for (std::size_t k = 0; k < 16; ++k) w[k] = big_endian(block + 4 * k);
  for (std::size_t k = 16; k < 64; ++k) {
    const std::uint32_t a = w[k - 15], b = w[k - 2];
    w[k] = w[k - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[k - 7] +
           (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (std::size_t k = 0; k < 64; ++k) {
    const std::uint32_t choice = (e & f) ^ (~e & g);
    const std::uint32_t majority = (a & b) ^ (a & c) ^ (b & c);
    const std::uint32_t first =
        h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + choice + ROUNDS[k] + w[k];
    const std::uint32_t second = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + majority;
    h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
  }
  const State added = {a, b, c, d, e, f, g, h};
  for (std::size_t k = 0; k < state.size(); ++k) state[k] += added[k];
}

// What is left, a single bit, zeros, and the length in bits: one block or two.
void take_end(State& state, std::string_view rest, std::uint64_t length) {
  std::array<unsigned char, 2 * BLOCK> end{};
  if (!rest.empty()) std::memcpy(end.data(), rest.data(), rest.size());
  end[rest.size()] = 0x80;
  const std::size_t size = rest.size() + 9 <= BLOCK ? BLOCK : 2 * BLOCK;
  for (std::size_t k = 0; k < 8; ++k) {
    end[size - 1 - k] = static_cast<unsigned char>(8 * length >> 8 * k);
  }
  for (std::size_t at = 0; at < size; at += BLOCK) take_block(state, end.data() + at);
}

}  // namespace

std::string sha256_hex(std::string_view bytes) {
  State state = START;
  std::string_view rest = bytes;
  for (; rest.size() >= BLOCK; rest.remove_prefix(BLOCK)) {
    take_block(state, reinterpret_cast<const unsigned char*>(rest.data()));
  }
  take_end(state, rest, bytes.size());
  std::string text;
  for (const std::uint32_t word : state) {
    for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
  }
  return text;
}

}  // namespace segdeploy::detail
