#include "sha256.hpp"

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

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

void take_blocks(State& state, const unsigned char* block, std::size_t count) {
  for (; count > 0; --count, block += BLOCK) take_block(state, block);
}

using TakeBlocks = void (*)(State&, const unsigned char*, std::size_t);

#ifdef __x86_64__
#define WITH_SHA __attribute__((target("sha,sse4.1")))

bool has_sha() {
  constexpr unsigned SSSE3 = 1u << 9, SSE41 = 1u << 19, SHA = 1u << 29;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & SSSE3) == 0 || (c & SSE41) == 0) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & SHA) != 0;
}

WITH_SHA __m128i load(const void* at) { return _mm_loadu_si128(static_cast<const __m128i*>(at)); }

WITH_SHA void store(void* at, __m128i value) { _mm_storeu_si128(static_cast<__m128i*>(at), value); }

// Four rounds; then `w`, of four words, becomes what is needed sixteen rounds later.
WITH_SHA void take_four(__m128i& abef, __m128i& cdgh, const std::uint32_t* constants, __m128i& w,
                        __m128i w4, __m128i w8, __m128i w12) {
  const __m128i sum = _mm_add_epi32(w, load(constants));
  cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
  abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0E));
  w = _mm_add_epi32(_mm_sha256msg1_epu32(w, w4), _mm_alignr_epi8(w12, w8, 4));
  w = _mm_sha256msg2_epu32(w, w12);
}

// By the processor's own instructions, which keep the state as (f e b a) and (h g d c).
WITH_SHA void take_blocks_with_sha(State& state, const unsigned char* block, std::size_t count) {
  const __m128i big_endian = _mm_set_epi64x(0x0C0D0E0F08090A0B, 0x0405060700010203);
  const __m128i cdab = _mm_shuffle_epi32(load(state.data()), 0xB1);
  const __m128i efgh = _mm_shuffle_epi32(load(state.data() + 4), 0x1B);
  __m128i abef = _mm_alignr_epi8(cdab, efgh, 8);
  __m128i cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
  for (; count > 0; --count, block += BLOCK) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i w0 = _mm_shuffle_epi8(load(block), big_endian);
    __m128i w4 = _mm_shuffle_epi8(load(block + 16), big_endian);
    __m128i w8 = _mm_shuffle_epi8(load(block + 32), big_endian);
    __m128i w12 = _mm_shuffle_epi8(load(block + 48), big_endian);
    for (std::size_t k = 0; k < ROUNDS.size(); k += 16) {
      take_four(abef, cdgh, ROUNDS.data() + k, w0, w4, w8, w12);
      take_four(abef, cdgh, ROUNDS.data() + k + 4, w4, w8, w12, w0);
      take_four(abef, cdgh, ROUNDS.data() + k + 8, w8, w12, w0, w4);
      take_four(abef, cdgh, ROUNDS.data() + k + 12, w12, w0, w4, w8);
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  const __m128i feba = _mm_shuffle_epi32(abef, 0x1B);
  const __m128i dchg = _mm_shuffle_epi32(cdgh, 0xB1);
  store(state.data(), _mm_blend_epi16(feba, dchg, 0xF0));
  store(state.data() + 4, _mm_alignr_epi8(dchg, feba, 8));
}

TakeBlocks fastest() {
  static const TakeBlocks found = has_sha() ? take_blocks_with_sha : take_blocks;
  return found;
}
#else
TakeBlocks fastest() { return take_blocks; }
#endif

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

std::string hex_of(std::string_view bytes, TakeBlocks take) {
  State state = START;
  const std::size_t whole = bytes.size() / BLOCK;
  take(state, reinterpret_cast<const unsigned char*>(bytes.data()), whole);
  take_end(state, bytes.substr(whole * BLOCK), bytes.size());
  std::string text;
  for (const std::uint32_t word : state) {
    for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
  }
  return text;
}

}  // namespace

std::string sha256_hex(std::string_view bytes) { return hex_of(bytes, fastest()); }

std::string sha256_hex_anywhere(std::string_view bytes) { return hex_of(bytes, take_blocks); }

}  // namespace segdeploy::detail
