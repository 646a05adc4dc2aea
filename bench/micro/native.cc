// Questions: what do the inner loops of the addon cost, and what do their plain versions?
//
//   checksum          sum of 1372 bytes: AVX2 or what the machine has, portable, a 16-bit word at a time
//   copy + checksum   of 1372 bytes in one pass, against memcpy and then the sum
//   split             a superpacket of 45 segments by template, against every header written and summed anew
//   coalesce          45 segments back into one superpacket: headers compared, checksums verified, headers built
//
// Unit: nanoseconds for one operation, best of 20 runs after a warm-up; data in the first or second level cache.
// Prints one line of JSON: [{"name":…, "ns":…}, …].

#include <stdio.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "../../addon/packet/checksum.h"
#include "../../addon/packet/coalesce.h"
#include "../../addon/packet/split.h"
#include "../../test/support/make_packet.h"

using namespace twill;
using Bytes = std::vector<uint8_t>;

namespace {

constexpr size_t kPiece = 1372;
constexpr size_t kSegments = 45;

volatile uint64_t g_sink;  // keeps results alive

double NowNs() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<double>(ts.tv_sec) * 1e9 + static_cast<double>(ts.tv_nsec);
}

bool g_first = true;

template <typename Work>
void Measure(const char* name, int repeats, Work work) {
  double best = 1e18;
  for (int run = 0; run < 20; run++) {
    const double started = NowNs();
    for (int i = 0; i < repeats; i++) work();
    best = std::min(best, (NowNs() - started) / repeats);
  }
  printf("%s{\"name\":\"%s\",\"ns\":%.1f}", g_first ? "" : ",", name, best);
  g_first = false;
}

/** A word at a time, as RFC 1071 writes it. */
uint64_t SumByWords(const uint8_t* data, size_t length) {
  uint64_t sum = 0;
  for (size_t i = 0; i + 1 < length; i += 2) sum += LoadWord(data + i);
  return sum;
}

/** The plain way: each packet gets a copy of the headers, and all sums are taken over all bytes. */
void SplitPlainly(uint8_t* to, const Bytes& packet, size_t headers) {
  const size_t payload = packet.size() - headers;
  for (size_t offset = 0, index = 0; offset < payload; offset += kPiece, index++) {
    const size_t length = std::min(kPiece, payload - offset);
    memcpy(to, packet.data(), headers);
    memcpy(to + headers, packet.data() + headers + offset, length);
    StoreBe16(to + 2, static_cast<uint32_t>(headers + length));
    StoreBe16(to + 4, static_cast<uint32_t>(LoadBe16(packet.data() + 4) + index));
    to[8]--;
    StoreWord(to + 10, 0);
    StoreWord(to + 10, Finish(SumPortable(to, 20)));
    StoreBe32(to + 24, LoadBe32(packet.data() + 24) + static_cast<uint32_t>(offset));
    StoreWord(to + 36, 0);
    uint64_t sum = SumPortable(to + 12, 8) + SumPortable(to + 20, headers - 20 + length);
    uint8_t pseudo[4] = {0, kProtocolTcp, 0, 0};
    StoreBe16(pseudo + 2, static_cast<uint32_t>(headers - 20 + length));
    sum += SumPortable(pseudo, 4);
    StoreWord(to + 36, Finish(sum));
    to += headers + length;
  }
}

size_t HeadersOf(const InnerHeader& header, const Bytes& packet) {
  return header.header_length + (packet[header.header_length + 12u] >> 4) * 4u;
}

void SplitByTemplate(uint8_t* to, const Bytes& packet, std::vector<uint8_t*>* pieces) {
  const InnerHeader header = test::Parsed(packet);
  const size_t headers = HeadersOf(header, packet);
  SegmentTemplate segment;
  segment.Init(packet.data(), header, headers, false);
  const size_t payload = packet.size() - headers;
  uint32_t index = 0;
  for (size_t offset = 0; offset < payload; offset += kPiece) {
    const size_t length = std::min(kPiece, payload - offset);
    if (pieces != nullptr) pieces->push_back(to);
    segment.Write(to, packet.data() + headers + offset, length, index++, static_cast<uint32_t>(offset),
                  offset + length == payload);
    to += headers + length;
  }
}

}  // namespace

int main() {
  test::PacketSpec spec;
  spec.payload.resize(kPiece * kSegments);
  for (size_t i = 0; i < spec.payload.size(); i++) spec.payload[i] = static_cast<uint8_t>(i * 31 + i / 256);
  spec.tcp_options.assign(12, 1);
  const Bytes packet = test::MakePacket(spec);
  Bytes space(70000);
  const uint8_t* data = spec.payload.data();

  printf("[");
  char name[64];
  snprintf(name, sizeof name, "checksum, %s", ChecksumVariant());
  Measure(name, 20000, [&] { g_sink = g_sink + Sum(data, kPiece); });
  Measure("checksum, portable", 20000, [&] { g_sink = g_sink + SumPortable(data, kPiece); });
  Measure("checksum, word by word", 20000, [&] { g_sink = g_sink + SumByWords(data, kPiece); });
  Measure("copy + checksum, one pass", 20000, [&] { g_sink = g_sink + CopyAndSum(space.data(), data, kPiece); });
  Measure("copy + checksum, memcpy then sum", 20000, [&] {
    memcpy(space.data(), data, kPiece);
    g_sink = g_sink + Sum(space.data(), kPiece);
  });
  Measure("split of 45, template", 500, [&] { SplitByTemplate(space.data(), packet, nullptr); });
  Measure("split of 45, each header anew", 500,
          [&] { SplitPlainly(space.data(), packet, HeadersOf(test::Parsed(packet), packet)); });

  std::vector<uint8_t*> pieces;
  SplitByTemplate(space.data(), packet, &pieces);
  std::vector<InnerPacket> packets(pieces.size());
  Coalescer coalescer(packets.data(), static_cast<uint32_t>(packets.size()));
  uint32_t chains = 0;
  Measure("coalesce of 45", 500, [&] {
    coalescer.Clear();
    for (uint32_t i = 0; i < pieces.size(); i++) {
      packets[i].data = pieces[i];
      ParseIpv4(pieces[i], 2048, &packets[i].header);
      coalescer.Add(i, true, true);
    }
    uint8_t headers[kSuperpacketHeaders];
    g_sink = g_sink + BuildSuperpacketHeaders(headers, coalescer[0], packets.data());
    chains = coalescer.size();
  });
  printf("]\n");
  if (chains != 1) {
    fprintf(stderr, "45 segments became %u superpackets: expected 1\n", chains);
    return 1;
  }
  return 0;
}
