// Every checksum against one that adds byte after byte.

#include "../../addon/packet/checksum.h"

#include <cstring>

#include "../support/check.h"

using namespace twill;

int main() {
  test::Random random(42);
  std::vector<uint8_t> from(70100), to(70100);
  random.Fill(from.data(), from.size());

  test::Case("Sum() equals the slow sum for every length up to 300 and every alignment up to 33", [&] {
    for (size_t align = 0; align < 34; align++) {
      for (size_t length = 0; length <= 300; length++) {
        uint8_t bytes[2];
        const uint16_t sum = Finish(Sum(from.data() + align, length));
        std::memcpy(bytes, &sum, 2);
        CHECK_EQUAL(bytes[0] << 8 | bytes[1], test::SlowChecksum(from.data() + align, length));
      }
    }
  });

  test::Case("all versions agree, and CopyAndSum() copies, for 3,000 random ranges up to 70,000 bytes", [&] {
    for (int i = 0; i < 3000; i++) {
      const size_t a = random.Below(65), b = random.Below(65);
      const size_t length = random.Below(i % 10 == 0 ? 70000 : 3000);
      const uint16_t expected = Fold(SumPortable(from.data() + a, length));
      CHECK_EQUAL(Fold(Sum(from.data() + a, length)), expected);
      std::memset(to.data(), 0xee, to.size());
      CHECK_EQUAL(Fold(CopyAndSum(to.data() + b, from.data() + a, length)), expected);
      CHECK(length == 0 || std::memcmp(to.data() + b, from.data() + a, length) == 0);
      CHECK_EQUAL(to[b + length], 0xee);
      CHECK_EQUAL(Fold(CopyAndSumPortable(to.data() + b, from.data() + a, length)), expected);
    }
  });

  test::Case("a sum of all ones does not overflow", [&] {
    const std::vector<uint8_t> ones(65536, 0xff);
    CHECK_EQUAL(Fold(Sum(ones.data(), ones.size())), 0xffff);
    CHECK_EQUAL(Finish(Sum(ones.data(), ones.size())), 0);
  });

  std::printf("# checksum variant: %s\n", ChecksumVariant());
  return test::Finish();
}
